"""The one way a module is frozen, and what identifies its frozen part."""

import hashlib

import torch
from torch import nn


def freeze(module: nn.Module) -> None:
    """Exclude all parameters of ``module`` from training. Gradients still flow through it to its inputs."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``module`` that train, in order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@torch.no_grad()
def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Copy the parameters of ``source`` to ``target``, in order: names differ where one of them has dropout layers.

    Raises:
        ValueError: their numbers or shapes differ.
    """
    for theirs, ours in zip(source.parameters(), target.parameters(), strict=True):
        if theirs.shape != ours.shape:
            raise ValueError(
                f"A parameter has shape {tuple(theirs.shape)} in one network, {tuple(ours.shape)} in the other."
            )
        ours.copy_(theirs)


def frozen_digest(module: nn.Module) -> str:
    """A digest of everything in ``module`` that does not train, buffers included."""
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    content = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        if name not in trained:
            content.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
