"""One optimiser's step: backward, the mean over learners, clipping, a fused Adam; and how its learning rate decays."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

DECAYS: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
"""Learning-rate multiplier after a fraction ``done`` of the updates."""


class GradientStep:
    """One fused Adam over the parameters of some networks."""

    def __init__(
        self,
        *networks: Iterable[nn.Parameter],
        learning_rate: float,
        own_rates: Mapping[nn.Parameter, float] | None = None,
        clip: float | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        """
        Args:
            networks: the parameters of each; their gradients are clipped network by network.
            learning_rate: of all parameters that ``own_rates`` does not name.
            own_rates: learning rates of single parameters.
            clip: largest norm of all gradients of a network together; None does not clip.
            weight_decay: of Adam: this times each parameter is added to its gradient.
        """
        self._networks = [list(network) for network in networks]
        self._parameters = [parameter for network in self._networks for parameter in network]
        self._clip = clip
        self.average_gradients: Callable[[Sequence[nn.Parameter]], None] | None = None
        """Set where several learners share a minibatch; called before gradients are clipped."""
        self.stacked = False
        """Whether parameters have a first dimension of seeds, each of which is clipped separately."""
        own_rates = own_rates or {}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self._parameters:
            groups.setdefault(own_rates.get(parameter, learning_rate), []).append(parameter)
        self._rates = list(groups)
        # a CUDA graph reads learning rates and step counts from the GPU's memory
        on_gpu = self._parameters[0].device.type == "cuda"
        grouped: list[dict[str, Any]] = [{"params": members, "lr": rate} for rate, members in groups.items()]
        if on_gpu:
            for group in grouped:
                group["lr"] = torch.tensor(group["lr"], device=self._parameters[0].device)
        self.optimizer = torch.optim.Adam(
            grouped, learning_rate, weight_decay=weight_decay, fused=True, capturable=on_gpu
        )

    def __call__(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        (loss if loss.dim() == 0 else loss.sum()).backward()  # the losses of several seeds share no parameter
        if self.average_gradients:
            self.average_gradients(self._parameters)
        if self._clip is not None:
            for network in self._networks:
                if self.stacked:
                    clip_each(network, self._clip)
                else:
                    nn.utils.clip_grad_norm_(network, self._clip)
        self.optimizer.step()

    def scale_rates(self, multiplier: float) -> None:
        """Multiply each initial learning rate by ``multiplier`` from now on."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(multiplier * rate)
            else:
                group["lr"] = multiplier * rate


def clip_each(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """``clip_grad_norm_`` of each of the n networks whose parameters have a first dimension of n."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients])  # (parameters, n)
    factors = (limit / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *([1] * (gradient.dim() - 1))))
