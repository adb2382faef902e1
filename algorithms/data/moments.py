"""Mean and standard deviation of a dataset's states, in one pass over data that may be memory-mapped."""

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import DeviceTransitions

_ROWS = 65_536
"""States that are read together: 60 MiB of dog-trot's."""


def state_moments(data: DeviceTransitions, rows: int = _ROWS) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (S,) of each dimension over the states of all transitions, each counted once.

    Summed in float64 and merged part by part (Chan et al. 1979), which loses no digits to a large mean.

    Args:
        data: the transitions; the states that end episodes are none of theirs.
        rows: states that are read together.
    """
    count = 0
    mean_S = squares_S = torch.zeros(data.observations.shape[1], dtype=torch.float64, device=data.device)
    for start in range(0, data.size, rows):
        state_BS = data.states(torch.arange(start, min(start + rows, data.size), device=data.device)).double()
        size, part_S = len(state_BS), state_BS.mean(0)
        apart_S, total = part_S - mean_S, count + size
        squares_S = squares_S + (state_BS - part_S).square().sum(0) + apart_S.square() * (count * size / total)
        mean_S = mean_S + apart_S * (size / total)
        count = total
    return mean_S.float(), (squares_S / count).sqrt().float()
