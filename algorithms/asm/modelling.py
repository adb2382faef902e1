"""Pretraining objectives of an action structure model: masked, variational or contrastive modelling (SPEC.md 2).

Siblings: each is a module that turns (model, observations (B, S), joint actions (B, N)) into (loss, info). Only masked
modelling trains the model's heads on partly visible actions; a probe reads what the others learn.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.asm.masking import Masking, mask_actions, masked_cross_entropy
from spin_rl.algorithms.asm.model import ActionStructureModel

Info = dict[str, Tensor]


class ActionModelling(nn.Module):
    """A pretraining objective; its own parameters, where it has any, train beside the model's and are then left."""

    def forward(self, model: ActionStructureModel, observation: Tensor, action: Tensor) -> tuple[Tensor, Info]:
        """The loss to descend, and what to log."""
        raise NotImplementedError


class MaskedModelling(ActionModelling):
    """MAM (the paper's): predict the sub-actions that are hidden from those that are not."""

    def __init__(self, masking: Masking) -> None:
        super().__init__()
        self.masking = masking

    def forward(self, model: ActionStructureModel, observation: Tensor, action: Tensor) -> tuple[Tensor, Info]:
        masked = mask_actions(action, model.mask_tokens, self.masking)
        return masked_cross_entropy(model(observation, masked.tokens), action, masked.selected)


class VariationalModelling(ActionModelling):
    """VAM: a conditional variational autoencoder of joint actions whose encoder and decoder are the same trunk.

    The posterior q(z | s, a) is read from the mean of the output tokens of the visible joint action. The decoder sees
    every sub-action masked, its mask's embedding moved by one linear image of z: at the prior's mean, z = 0, it is the
    model with everything masked, which is what a policy's queries start from.
    """

    def __init__(self, width: int, latent_width: int, kl_weight: float) -> None:
        super().__init__()
        self.posterior = nn.Linear(width, 2 * latent_width)
        self.latent = nn.Linear(latent_width, width, bias=False)
        self.kl_weight = kl_weight

    def forward(self, model: ActionStructureModel, observation: Tensor, action: Tensor) -> tuple[Tensor, Info]:
        pooled = model.mix(observation, model.embed(action)).mean(1)  # (B, N, D) -> (B, D)
        mean, log_variance = self.posterior(pooled).float().chunk(2, -1)  # (B, Z) each
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        masked = model.mask_embeddings() + self.latent(latent)[:, None]  # (B, N, D)
        logits = model.heads(model.mix(observation, masked))
        return negative_elbo(logits, action, mean, log_variance, self.kl_weight)


class ContrastiveModelling(ActionModelling):
    """CAM: local-to-global InfoNCE; each sub-action's output token has to find the rest of its own joint action.

    Sub-actions are hidden as in masked modelling, so that tokens have to be distinguished and masks are trained.
    """

    def __init__(self, masking: Masking, temperature: float) -> None:
        super().__init__()
        self.masking = masking
        self.temperature = temperature

    def forward(self, model: ActionStructureModel, observation: Tensor, action: Tensor) -> tuple[Tensor, Info]:
        masked = mask_actions(action, model.mask_tokens, self.masking)
        return local_to_global(model.mix(observation, model.embed(masked.tokens)), self.temperature)


def negative_elbo(
    logits: Tensor, action: Tensor, mean: Tensor, log_variance: Tensor, kl_weight: float
) -> tuple[Tensor, Info]:
    """-E_q[log p(a | s, z)] + kl_weight KL(q(z | s, a) || N(0, I)), per sub-action (Kingma and Welling 2014, eq. 10).

    With ``kl_weight`` 1 a bound on the nats of one sub-action, on the scale of masked modelling's cross-entropy.

    Args:
        logits: (B, N, C) of a decoder that saw one sample of z, -inf at choices that do not exist.
        action: (B, N), to be reconstructed.
        mean: (B, Z), the posterior's.
        log_variance: (B, Z), the posterior's.
        kl_weight: weight of the divergence; below 1 the bound no longer holds and the latent carries more.
    """
    reconstruction = functional.cross_entropy(logits.float().flatten(0, 1), action.flatten())
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1).mean() / action.shape[1]
    loss = reconstruction + kl_weight * divergence
    hits = (logits.argmax(-1) == action).float()
    return loss, {
        "loss": loss.detach(),
        "accuracy": hits.mean(),
        "reconstruction": reconstruction.detach(),
        "divergence": divergence.detach(),
    }


def local_to_global(tokens: Tensor, temperature: float) -> tuple[Tensor, Info]:
    """InfoNCE (van den Oord et al. 2018, eq. 4) of each token against the mean of its sample's other tokens.

    For sub-action i of sample b: -log softmax over samples b' of cos(h_i^b, mean over j != i of h_j^b') / temperature,
    at b' = b. Averaged over samples and sub-actions.

    Args:
        tokens: (B, N, D), N at least 2.
        temperature: of the softmax.
    """
    samples, sub_actions, _ = tokens.shape
    with torch.autocast(tokens.device.type, enabled=False):  # similarities need more than bfloat16's digits
        tokens = tokens.float()
        others = tokens.sum(1, keepdim=True) - tokens  # the cosine to a sum is that to the mean
        local, rest = (functional.normalize(x, dim=-1).transpose(0, 1) for x in (tokens, others))  # (N, B, D)
        similarity = local @ rest.transpose(1, 2) / temperature  # (N, B, B)
        own = torch.arange(samples, device=tokens.device).expand(sub_actions, samples)
        loss = functional.cross_entropy(similarity.flatten(0, 1), own.flatten())
    hits = (similarity.argmax(-1) == own).float()
    return loss, {"loss": loss.detach(), "accuracy": hits.mean()}
