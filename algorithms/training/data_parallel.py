"""Data parallelism: learners share each minibatch and average their gradients before every optimiser step."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn


class Share:
    """One learner's share of every minibatch.

    Learners draw the same minibatches and start from the same weights. A mean over the minibatch is the mean of the
    learners' means, weighted by the sizes of their shares: gradients averaged in this way are those of one learner with
    the whole minibatch, up to rounding, and the collective gives the same bits to all learners.
    """

    def __init__(self, learner: int, learners: int, batch_size: int) -> None:
        """
        Args:
            learner: which one this is, from 0; its rank in torch's default process group.
            learners: how many there are.
            batch_size: of the minibatches that they share; at least ``learners``.
        """
        self.learner = learner
        self.learners = learners
        self.rows = slice(batch_size * learner // learners, batch_size * (learner + 1) // learners)
        self._weight = (self.rows.stop - self.rows.start) / batch_size

    @torch.no_grad()
    def average(self, values: Tensor) -> None:
        """Replace ``values`` by the learners' weighted mean."""
        values.mul_(self._weight)
        distributed.all_reduce(values)

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients of ``parameters``, all in one message."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        message = torch.cat([gradient.flatten() for gradient in gradients])
        self.average(message)
        parts = message.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(old) for part, old in zip(parts, gradients, strict=True)])

    @torch.no_grad()
    def copy_first(self, module: nn.Module) -> None:
        """Copy the first learner's parameters and buffers to all learners."""
        for value in module.state_dict().values():
            distributed.broadcast(value, 0)
