"""Distillation of a frozen trunk into a student without attention (SPEC.md section 3, policy 5)."""

import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.networks.freezing import freeze
from spin_rl.algorithms.policies import DistilledPolicy

_STREAM = 2  # of the index draws: neither the policy's minibatches (0) nor the pretraining's (1)
_DRAW = 50  # steps whose states are drawn together


def distill(
    policy: DistilledPolicy,
    asm: ActionStructureModel,
    data: DeviceTransitions,
    *,
    steps: int,
    seed: int,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
) -> list[float]:
    """Train ``policy``'s student on the trunk's output tokens for the dataset's states, then freeze it.

    Args:
        policy: has taken over the model's mask embeddings as its queries.
        asm: the model whose trunk is the teacher; on the data's device.
        data: where states are drawn from.
        steps: Adam steps; the learning rate falls to 0 over them.
        seed: of the minibatches; nothing else is random.
        batch_size: states of a step.
        learning_rate: of the first step.

    Returns:
        The mean loss of every tenth of the steps.
    """
    teacher_was_training = asm.training
    asm.eval()
    parameters = [parameter.requires_grad_() for parameter in policy.student.parameters()]
    optimizer = torch.optim.Adam(parameters, learning_rate, fused=True)
    losses: list[Tensor] = []
    for step in range(steps):
        if step % _DRAW == 0:
            indices = draw_indices(seed, _STREAM, step, _DRAW, batch_size, data.size, data.device)
        optimizer.param_groups[0]["lr"] = learning_rate * (1.0 - step / steps)
        observation, _ = data.observation_action(indices[step % _DRAW])
        with torch.no_grad():
            target = asm.mix(observation, policy.queries.expand(len(observation), *policy.queries.shape))
        losses.append(student_loss(policy.student(observation, policy.queries), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        losses[-1] = losses[-1].detach()
    optimizer.zero_grad()  # leaves no gradients on what is frozen now
    freeze(policy.student)
    policy.trained.fill_(steps)
    asm.train(teacher_was_training)
    return [float(torch.stack(part).mean()) for part in _tenths(losses)]


def student_loss(tokens: Tensor, target: Tensor) -> Tensor:
    """MSE of the student's tokens (B, N, D) to the trunk's."""
    return functional.mse_loss(tokens, target)


def _tenths(losses: list[Tensor]) -> list[list[Tensor]]:
    size = max(1, len(losses) // 10)
    return [losses[start : start + size] for start in range(0, len(losses), size)]
