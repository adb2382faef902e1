"""The one way a module is frozen."""

from torch import nn


def freeze(module: nn.Module) -> None:
    """Let no parameter of ``module`` train. Gradients still flow through it to its inputs."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``module`` that train, in order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
