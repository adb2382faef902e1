"""The learner's inner loop: K updates, at whose end alone the device is waited for."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spin_rl.algorithms.batches import Batch, DeviceTransitions
from spin_rl.algorithms.features import FeatureTable
from spin_rl.algorithms.objectives import Info, Objective

_GATHER = 64
"""Minibatches gathered together: large enough to spread its cost, small enough to stay in the cache."""

Draw = Callable[[int, int], Tensor]
"""Indices (updates, ..., B) of the minibatches of so many updates from the one of that number."""


class Logged(NamedTuple):
    """What K updates logged, on the device still."""

    names: list[str]
    values: Tensor  # (K, names), of seeds trained at once (K, names, n)


def make_updates(
    objective: Objective, data: DeviceTransitions, draw: Draw, first: int, updates: int, table: FeatureTable | None
) -> Logged:
    """Make updates ``first`` to ``first + updates`` of a run."""
    history: list[Info] = []
    for start in range(first, first + updates, _GATHER):
        count = min(_GATHER, first + updates - start)
        batches = data.gather(draw(start, count))._replace(table=table)  # one gather for all of them
        history += [_update(objective, batches.at(index), start + index) for index in range(count)]
    names = list(history[0])
    return Logged(names, torch.stack([torch.stack([info[name] for name in names]) for info in history]))


def _update(objective: Objective, batch: Batch, number: int) -> Info:
    settings = objective.settings
    if settings.lr_decay != "constant":
        for step in objective.optimizers.values():
            step.scale_rates(settings.rate_share(number))
    return objective.update(batch)
