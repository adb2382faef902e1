"""Several networks of one architecture as one, with a first dimension n of networks in its parameters.

Every matrix product is one batched product over the n. Inputs and outputs have the same first dimension; a parameter
that is frozen and the same in all of them (SPIN's trunk) is kept once, and serves all states in one product.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.dropout import Dropout, keep_factors
from spin_rl.algorithms.networks.layers import BatchedLinear

Module = TypeVar("Module", bound=nn.Module)


def stack(networks: Sequence[Module], generators: Sequence[torch.Generator]) -> Module:
    """One network in place of ``networks``, which become views of its parts: what changes it changes them.

    Layers are replaced by stacked ones that hold the same ``Parameter`` objects, as optimisers and targets refer to
    these. A module's own parameters are stacked where they are: its code has to count dimensions from the last.

    Args:
        networks: n modules with the same parameters by name and shape; composed of layers, not a layer themselves.
        generators: of each one's dropout masks, on a CPU.
    """
    stacked = copy.deepcopy(networks[0])
    others = [dict(network.named_modules(remove_duplicate=False)) for network in networks]
    replaced: dict[nn.Module, nn.Module] = {}
    for name, module in list(stacked.named_modules(remove_duplicate=False)):
        if module not in replaced:
            replaced[module] = _stacked(module, [modules[name] for modules in others], generators)
        if replaced[module] is not module:
            stacked.set_submodule(name, replaced[module])
    return stacked


def _stacked(module: nn.Module, peers: Sequence[nn.Module], generators: Sequence[torch.Generator]) -> nn.Module:
    """What takes the place of ``module``: a stacked layer, or itself where there is nothing to stack in its forward."""
    if isinstance(module, Dropout):
        return StackedDropout(module.p, generators).train(module.training)
    if not _stack_parameters(module, peers):
        return module
    if layer := _LAYERS.get(type(module)):
        return layer(module).train(module.training)
    if type(module).__module__.startswith("torch.nn"):
        raise TypeError(f"{type(module).__name__} has no stacked counterpart; a policy with it is not stackable.")
    return module


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
    if x.dim() == 2:  # the same input for all of them
        x = x.expand(len(weight), *x.shape)
    products = torch.baddbmm(bias.unsqueeze(-2).to(x.dtype), x.flatten(1, -2), weight.to(x.dtype))
    return products.unflatten(1, x.shape[1:-1])


class StackedLinear(nn.Module):
    """n ``nn.Linear``: weight (n, O, I), bias (n, O) or None."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            x = x.expand(len(self.weight), *x.shape) if x.dim() == 2 else x
            return torch.bmm(x.flatten(1, -2), self.weight.transpose(-2, -1)).unflatten(1, x.shape[1:-1])
        return _grouped(x, self.weight.transpose(-2, -1), self.bias)


class StackedBatchedLinear(nn.Module):
    """n ``BatchedLinear``: weight (n, G, I, O), bias (n, G, 1, O)."""

    def __init__(self, layer: BatchedLinear) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        # (n, G, B, I) -> (n G, B, I) -> (n, G, B, O)
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten(0, 1)
        return torch.baddbmm(bias.to(x.dtype), x.flatten(0, 1), weight.to(x.dtype)).unflatten(0, x.shape[:2])


class StackedLayerNorm(nn.Module):
    """n ``nn.LayerNorm``: weight and bias (n, D)."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.normalized_shape = layer.normalized_shape
        self.eps = layer.eps

    def forward(self, x: Tensor) -> Tensor:
        shape = (len(self.weight), *([1] * (x.dim() - 2)), -1)
        normal = functional.layer_norm(x, self.normalized_shape, eps=self.eps)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class StackedEmbedding(nn.Module):
    """n ``nn.Embedding``: weight (n, rows, D)."""

    def __init__(self, layer: nn.Embedding) -> None:
        super().__init__()
        self.weight = layer.weight

    def forward(self, index: Tensor) -> Tensor:
        first = torch.arange(len(self.weight), device=index.device) * self.weight.shape[1]
        return functional.embedding(index + first.view(-1, *([1] * (index.dim() - 1))), self.weight.flatten(0, 1))


class StackedLSTM(nn.Module):
    """n ``nn.LSTM`` (batch first), run one after the other: no batched product spans several LSTMs."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.num_layers = layer.num_layers
        self.hidden_size = layer.hidden_size
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        outputs = []
        for index, part in enumerate(x):
            weights = [parameter[index] for parameter in self.parameters()]
            memory = part.new_zeros(self.num_layers, len(part), self.hidden_size)
            run = torch._VF.lstm(part, (memory, memory), weights, True, self.num_layers, 0.0, False, False, True)
            outputs.append(run[0])
        return torch.stack(outputs), None


class StackedDropout(Dropout):
    """Dropout with a generator for each of the n networks."""

    def __init__(self, p: float, generators: Sequence[torch.Generator]) -> None:
        super().__init__(p)
        self.generators = generators

    def forward(self, x: Tensor) -> Tensor:
        """On a CPU each part has the mask that its network alone would have."""
        if x.device.type != "cpu" or not self.training or self.p == 0.0:
            return super().forward(x)
        factors = [keep_factors(part, self.p, generator) for part, generator in zip(x, self.generators, strict=True)]
        return x * torch.stack(factors)


_LAYERS: Mapping[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: StackedLinear,
    BatchedLinear: StackedBatchedLinear,
    nn.LayerNorm: StackedLayerNorm,
    nn.Embedding: StackedEmbedding,
    nn.LSTM: StackedLSTM,
}
"""The stacked counterpart of each layer, made from the layer with its parameters stacked already."""
