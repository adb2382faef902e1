"""The one way a module is frozen, and what identifies its frozen part."""

import hashlib

from torch import nn


def freeze(module: nn.Module) -> None:
    """Exclude all parameters of ``module`` from training. Gradients still flow through it to its inputs."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``module`` that train, in order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def frozen_digest(module: nn.Module) -> str:
    """A digest of everything in ``module`` that does not train, buffers included."""
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    content = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        if name not in trained:
            content.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
