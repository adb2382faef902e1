"""Several networks of one architecture as one, whose parameters have a first dimension n of networks.

Every matrix product is one batched product over the n. Inputs and outputs have the same first dimension; a parameter
that is frozen and the same in all of them (SPIN's trunk) is kept once, and serves all states in one product.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.dropout import Dropout, keep_factors
from spin_rl.algorithms.networks.layers import BatchedLinear

Module = TypeVar("Module", bound=nn.Module)


def stack(networks: Sequence[Module], generators: Sequence[torch.Generator]) -> Module:
    """One network in place of ``networks``, which become views of its parts: what changes it changes them.

    Args:
        networks: n modules with the same parameters by name and shape.
        generators: what each one's dropout draws from, on a CPU.
    """
    stacked = copy.deepcopy(networks[0])
    others = [dict(network.named_modules()) for network in networks]
    for name, module in stacked.named_modules():
        peers = [modules[name] for modules in others]
        if isinstance(module, Dropout):
            module.__class__ = _StackedDropout
            module.generators = generators  # type: ignore[assignment]
        if _stack_parameters(module, peers) and type(module) in _STACKED:
            # not a new module: optimisers and targets hold on to parameters of this one
            module.__class__ = _STACKED[type(module)]
    return stacked


def _stack_parameters(module: nn.Module, peers: Sequence[nn.Module]) -> bool:
    """Stack the parameters that ``module`` itself has, and make those of ``peers`` their views; False for none."""
    found = False
    for name, parameter in module.named_parameters(recurse=False):
        parts = [peer.get_parameter(name) for peer in peers]
        if parameter.requires_grad or not all(torch.equal(part, parameter) for part in parts):
            parameter.data = torch.stack([part.data for part in parts])
            found = True
            for part, view in zip(parts, parameter.data, strict=True):
                part.data = view
        else:
            for part in parts:
                part.data = parameter.data
    return found


def _grouped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x`` (n, ..., I) through n linear layers of weights (n, I, O) and biases (n, O)."""
    if x.dim() == 2:  # what all of them read
        x = x.expand(len(weight), *x.shape)
    products = torch.baddbmm(bias.unsqueeze(-2).to(x.dtype), x.flatten(1, -2), weight.to(x.dtype))
    return products.unflatten(1, x.shape[1:-1])


class _StackedLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            x = x.expand(len(self.weight), *x.shape) if x.dim() == 2 else x
            return torch.bmm(x.flatten(1, -2), self.weight.transpose(-2, -1)).unflatten(1, x.shape[1:-1])
        return _grouped(x, self.weight.transpose(-2, -1), self.bias)


class _StackedBatchedLinear(BatchedLinear):
    def forward(self, x: Tensor) -> Tensor:
        # (n, G, B, I) -> (n G, B, I) -> (n, G, B, O)
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten(0, 1)
        return torch.baddbmm(bias.to(x.dtype), x.flatten(0, 1), weight.to(x.dtype)).unflatten(0, x.shape[:2])


class _StackedLayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        shape = (len(self.weight), *([1] * (x.dim() - 2)), -1)
        normal = functional.layer_norm(x, self.normalized_shape, eps=self.eps)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class _StackedEmbedding(nn.Embedding):
    def forward(self, index: Tensor) -> Tensor:
        first = torch.arange(len(self.weight), device=index.device) * self.weight.shape[1]
        return functional.embedding(index + first.view(-1, *([1] * (index.dim() - 1))), self.weight.flatten(0, 1))


class _StackedLSTM(nn.LSTM):
    """One after the other: no batched product spans several LSTMs."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        outputs = []
        for index, part in enumerate(x):
            weights = [getattr(self, name)[index] for name in self._flat_weights_names]
            memory = part.new_zeros(self.num_layers, len(part), self.hidden_size)
            run = torch._VF.lstm(part, (memory, memory), weights, True, self.num_layers, 0.0, False, False, True)
            outputs.append(run[0])
        return torch.stack(outputs), None


class _StackedDropout(Dropout):
    generators: Sequence[torch.Generator]

    def forward(self, x: Tensor) -> Tensor:
        """On a CPU each part has the mask that its network alone would have."""
        if x.device.type != "cpu" or not self.training or self.p == 0.0:
            return super().forward(x)
        factors = [keep_factors(part, self.p, generator) for part, generator in zip(x, self.generators, strict=True)]
        return x * torch.stack(factors)


_STACKED: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _StackedLinear,
    BatchedLinear: _StackedBatchedLinear,
    nn.LayerNorm: _StackedLayerNorm,
    nn.Embedding: _StackedEmbedding,
    nn.LSTM: _StackedLSTM,
}
