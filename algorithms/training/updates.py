"""The learner's inner loop: K updates, and one synchronisation of the device at their end."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureTable
from spin_rl.algorithms.networks.precision import matrix_products
from spin_rl.algorithms.objectives import Objective
from spin_rl.algorithms.training.graphs import GraphedUpdate, can_capture

_GATHER = 64
"""Minibatches gathered together: large enough to spread its cost, small enough to stay in the cache."""

Draw = Callable[[int, int], Tensor]
"""From (first update, number of updates) to the indices (updates, ..., B) of their minibatches."""


class Logged(NamedTuple):
    """The logged values of K updates, still on the device."""

    names: list[str]
    values: Tensor  # (K, names), of seeds trained at once (K, names, n)


class UpdateLoop:
    """Makes an objective's updates: one by one, or on a GPU as a graph that is replayed."""

    def __init__(self, objective: Objective, *, cuda_graph: bool, onednn: bool) -> None:
        """
        Args:
            objective: the objective to update.
            cuda_graph: capture the update where possible.
            onednn: on a CPU, compute float32 products with oneDNN.
        """
        self._objective = objective
        self._cuda_graph = cuda_graph
        self._onednn = onednn
        self._graph: GraphedUpdate | None = None

    def forget_graph(self) -> None:
        """Call it after loading a state, which gives the optimisers other tensors."""
        self._graph = None

    def run(self, data: DeviceTransitions, draw: Draw, first: int, updates: int, table: FeatureTable | None) -> Logged:
        """Make updates ``first`` to ``first + updates`` of a run."""
        objective, graph = self._objective, self._graph_on(data, table)
        names: list[str] = []
        values: list[Tensor] = []
        with matrix_products(objective.settings.precision, onednn=self._onednn):
            for start in range(first, first + updates, _GATHER):
                count = min(_GATHER, first + updates - start)
                indices = draw(start, count)
                if graph is None:
                    batches = data.gather(indices)._replace(table=table)  # one gather for all of them
                for index in range(count):
                    _set_rates(objective, start + index)
                    if graph is None:
                        info = objective.update(batches.at(index))
                        names = list(info)
                        values.append(torch.stack(list(info.values())))
                    else:
                        values.append(graph(indices[index]))
                        names = graph.names
        return Logged(names, torch.stack(values))

    def _graph_on(self, data: DeviceTransitions, table: FeatureTable | None) -> GraphedUpdate | None:
        if not (self._cuda_graph and can_capture(self._objective, table)):
            return None
        if self._graph is None or self._graph.data is not data or self._graph.table is not table:
            self._graph = GraphedUpdate(self._objective, data, table)
        return self._graph


def _set_rates(objective: Objective, number: int) -> None:
    """Give the optimisers the learning rates of update ``number``."""
    settings = objective.settings
    if settings.decays_rate:
        for step in objective.optimizers.values():
            step.scale_rates(settings.rate_multiplier(number))
