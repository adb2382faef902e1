"""Distillation of a frozen trunk into a student without attention (SPEC.md section 3, policy 5)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.networks.freezing import freeze

_STREAM = 2  # of the index draws: neither the policy's minibatches (0) nor the pretraining's (1)
_DRAW = 50  # steps for which states are drawn at once


class Student(nn.Module):
    """g(s, Q): observations (B, S) and queries (N, D) to tokens (B, N, D), each from (s, its query) alone."""

    def __init__(self, observation_size: int, token_width: int, width: int) -> None:
        super().__init__()
        self.state = nn.Linear(observation_size, width)
        self.query = nn.Linear(token_width, width, bias=False)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, token_width)

    def forward(self, observation: Tensor, queries: Tensor) -> Tensor:
        # a linear layer on (s, q) is the sum of one on s and one on q
        x = self.state(observation).unsqueeze(-2) + self.query(queries).unsqueeze(-3)  # (B, N, width)
        # as the trunk's tokens are the queries and what its blocks added to them
        return queries + self.outer(functional.gelu(self.inner(functional.gelu(x))))  # (B, N, D)


def distill(
    student: Student,
    queries: Tensor,
    asm: ActionStructureModel,
    data: DeviceTransitions,
    *,
    steps: int,
    seed: int,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
) -> list[float]:
    """Train ``student`` to give the trunk's output tokens for the dataset's states, then freeze it.

    Args:
        student: on the data's device.
        queries: (N, D), the model's mask embeddings.
        asm: the model whose trunk is the teacher; on the data's device.
        data: the source of the states.
        steps: Adam steps, over which the learning rate decays to 0.
        seed: of the minibatches; nothing else is random.
        batch_size: states per step.
        learning_rate: of the first step.

    Returns:
        The mean loss of every tenth of the steps.
    """
    teacher_was_training = asm.training
    asm.eval()
    parameters = [parameter.requires_grad_() for parameter in student.parameters()]
    optimizer = torch.optim.Adam(parameters, learning_rate, fused=True)
    losses: list[Tensor] = []
    for step in range(steps):
        if step % _DRAW == 0:
            indices = draw_indices(seed, _STREAM, step, _DRAW, batch_size, data.size, data.device)
        optimizer.param_groups[0]["lr"] = learning_rate * (1.0 - step / steps)
        observation, _ = data.observation_action(indices[step % _DRAW])
        with torch.no_grad():
            target = asm.mix(observation, queries.expand(len(observation), *queries.shape))
        losses.append(student_loss(student(observation, queries), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        losses[-1] = losses[-1].detach()
    optimizer.zero_grad()  # leave no gradients on frozen parameters
    freeze(student)
    asm.train(teacher_was_training)
    return [float(torch.stack(part).mean()) for part in _tenths(losses)]


def student_loss(tokens: Tensor, target: Tensor) -> Tensor:
    """MSE of the student's tokens (B, N, D) to the trunk's."""
    return functional.mse_loss(tokens, target)


def _tenths(losses: list[Tensor]) -> list[list[Tensor]]:
    size = max(1, len(losses) // 10)
    return [losses[start : start + size] for start in range(0, len(losses), size)]
