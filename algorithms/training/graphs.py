"""One update as a CUDA graph: hundreds of small kernels are launched at once, without Python between them."""

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureTable
from spin_rl.algorithms.objectives import Objective

_WARM_UP = 3
"""Updates before the capture, on a stream of their own as torch's notes on CUDA graphs require."""


def can_capture(objective: Objective, table: FeatureTable | None) -> bool:
    """Whether an update can be captured: with features in a file, rows would have to come from there every time."""
    on_gpu = next(objective.parameters()).device.type == "cuda"
    return on_gpu and objective.capturable and (table is None or table.on_device)


class GraphedUpdate:
    """Makes updates: the first few without a graph, then captures one, then replays it.

    A graph reads and writes fixed addresses: it holds as long as the networks', the optimisers' and the data's tensors
    stay where they are. Only the minibatch's indices and the learning rates are written in from outside.
    """

    def __init__(self, objective: Objective, data: DeviceTransitions, table: FeatureTable | None) -> None:
        self.data, self.table = data, table
        self.names: list[str] = []
        self._objective = objective
        self._made = 0
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._indices = torch.empty(0)
        self._values = torch.empty(0)

    def __call__(self, indices: Tensor) -> Tensor:
        """Make the update of the minibatch numbered ``indices``; returns the logged values by ``names``."""
        self._stream = self._stream or torch.cuda.Stream(self.data.device)
        if self._made < _WARM_UP:
            self._made += 1
            main = torch.cuda.current_stream(self.data.device)
            self._stream.wait_stream(main)
            with torch.cuda.stream(self._stream):
                values = self._update(indices)
            main.wait_stream(self._stream)
            values.record_stream(main)
            return values
        if self._graph is None:
            self._indices = indices.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._values = self._update(self._indices)  # recorded, not run
        self._indices.copy_(indices)
        self._graph.replay()
        return self._values.clone()

    def _update(self, indices: Tensor) -> Tensor:
        info = self._objective.update(self.data.gather(indices)._replace(table=self.table))
        self.names = list(info)
        return torch.stack(list(info.values()))
