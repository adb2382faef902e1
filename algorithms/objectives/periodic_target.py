"""A target network that is copied from the online one every so many updates, and not moved slowly."""

import torch
from torch import Tensor, nn

from spin_rl.algorithms.objectives.losses import Target


class PeriodicTarget(nn.Module):
    """Copies ``online`` to ``copy`` every ``every`` updates; with 0, moves it at ``rate`` after every update.

    It counts updates in a buffer, so that a resumed run copies when an uninterrupted one does.
    """

    updates: Tensor

    def __init__(self, online: nn.Module, copy: nn.Module, every: int, rate: float) -> None:
        super().__init__()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._every = every
        self._target = Target(online, copy, 1.0 if every else rate)

    def update(self) -> None:
        """Call it after every update of the online network."""
        self.updates += 1
        if not self._every or int(self.updates) % self._every == 0:
            self._target.update()
