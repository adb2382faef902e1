"""Probes of a frozen action structure model: linear classifiers on its output tokens, and its attention maps.

Linear probe: the trunk sees every sub-action masked; a linear classifier for each sub-action reads that sub-action's
output token and predicts the dataset's choice. Query probe: the trunk sees queries that are learned for the probe, as
the SPIN paper's does. The exact-tuple accuracy is the share of joint actions predicted wholly. That it is above the
product of the per-slot accuracies shows nothing: states differ in how predictable they are. It has to be compared with
the mean over states of the product of each state's accuracies (``given_state``; SPEC.md section 8, point 6).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.networks.layers import BatchedLinear, missing_choices
from spin_rl.algorithms.networks.trunk import Block
from spin_rl.algorithms.pretraining.episodes import split_by_episode, spread
from spin_rl.errors import UserError
from spin_rl.platform.datasets import OfflineDataset

_BATCH = 2048
_STREAM = 3  # of the query probe's index draws
_MEMORY = 2**27
"""Numbers in the largest table of features: half a gigabyte."""


@dataclass(frozen=True)
class LinearProbe:
    """Accuracies on held-out episodes, as shares."""

    per_slot: tuple[float, ...]  # of each sub-action
    majority: tuple[float, ...]  # of always guessing a sub-action's commonest choice
    exact: float  # of the whole joint action
    given_state: float  # what ``exact`` would be were sub-actions independent given the state; see ``_measure``
    trained_on: int  # transitions
    held_out: int  # transitions

    @property
    def mean(self) -> float:
        """Per-slot accuracy, averaged over sub-actions."""
        return float(np.mean(self.per_slot))

    @property
    def independent(self) -> float:
        """Exact-tuple accuracy if sub-actions were right or wrong independently, and in all states equally often."""
        return float(np.prod(self.per_slot))


def linear_probe(
    model: ActionStructureModel,
    dataset: OfflineDataset,
    *,
    seed: int = 0,
    validation_fraction: float = 0.05,
    samples: int = 20_000,
) -> LinearProbe:
    """Fit linear classifiers on the model's output tokens, and evaluate them on held-out episodes.

    Args:
        model: the model; not changed.
        dataset: source of states and actions.
        seed: of the split by episode; give the model's own, so that its held-out episodes are the probe's too.
        validation_fraction: share of the episodes that is held out; give the model's own.
        samples: transitions to fit on at most; fewer where their features would not fit half a gigabyte.
    """
    check_fit(model, dataset)
    training, held_out = split_by_episode(dataset, validation_fraction, seed)
    limit = min(samples, _MEMORY // (len(model.nvec) * model.sizes.width))
    fitted, fitted_actions = _features(model, dataset, spread(training, limit))
    seen, actions = _features(model, dataset, spread(held_out, limit))
    center, scale = fitted.mean(1, keepdim=True), fitted.std(1, keepdim=True).clamp(min=1e-6)
    classifier = _fit((fitted - center) / scale, fitted_actions, model.nvec)
    with torch.inference_mode():
        logits = _logits(classifier, (seen - center) / scale, model.nvec)  # (N, held out, C)
    return _measure(logits, actions, fitted_actions)


def query_probe(
    model: ActionStructureModel,
    dataset: OfflineDataset,
    *,
    seed: int = 0,
    validation_fraction: float = 0.05,
    samples: int = 20_000,
    steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> LinearProbe:
    """Learn queries and linear heads on the frozen model (the SPIN paper's probe), and evaluate on held-out episodes.

    The paper names neither steps nor optimiser nor the data that accuracies are measured on: Adam, with the learning
    rate falling to 0, and held-out episodes are our choice. Queries start as the mask embeddings.

    Args:
        model: the model; not changed.
        dataset: source of states and actions.
        seed: of the split by episode and of the minibatches.
        validation_fraction: share of the episodes that is held out; give the model's own.
        samples: transitions to train on and to evaluate on, at most each.
        steps: of Adam.
        batch_size: transitions per step.
        learning_rate: of the first step.
    """
    check_fit(model, dataset)
    model.eval()
    training, held_out = split_by_episode(dataset, validation_fraction, seed)
    data, unseen = (
        DeviceTransitions(dataset, torch.device("cpu"), spread(rows, samples)) for rows in (training, held_out)
    )
    queries = model.mask_embeddings().detach().clone().requires_grad_()
    heads = _classifier(model.sizes.width, model.nvec)

    def logits(observation: Tensor) -> Tensor:
        tokens = model.mix(observation, queries.expand(len(observation), *queries.shape))  # (B, N, D)
        return _logits(heads, tokens.transpose(0, 1), model.nvec)

    trained = [queries, *heads.parameters()]
    optimizer = torch.optim.Adam(trained, learning_rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1.0 - step / steps)
        indices = draw_indices(seed, _STREAM, step, 1, batch_size, data.size, data.device)[0]
        observation, action = data.observation_action(indices)
        loss = functional.cross_entropy(logits(observation).flatten(0, 1), action.T.flatten())
        optimizer.zero_grad()
        loss.backward(inputs=trained)  # the model's parameters get no gradients
        optimizer.step()
    with torch.inference_mode():
        blocks = [unseen.observation_action(indices) for indices in torch.arange(unseen.size).split(_BATCH)]
        found = torch.cat([logits(observation) for observation, _ in blocks], 1)
        actions = torch.cat([action.T for _, action in blocks], 1)
        _, fitted = data.observation_action(torch.arange(data.size))
    return _measure(found, actions, fitted.T)


def _measure(logits: Tensor, actions: Tensor, fitted: Tensor) -> LinearProbe:
    """Accuracies of logits (N, held out, C) on joint actions (N, held out); ``fitted`` (N, n) was trained on.

    A state's accuracy p_i(s) is taken to be the classifier's probability of its own choice. Where the classifier
    overfits and is too sure, dependence is hidden; what it cannot read of the state counts as dependence.
    """
    best = logits.double().softmax(-1).max(-1)  # (N, held out): p_i(s), and the choice
    hits = best.indices == actions
    commonest = fitted.mode(1, keepdim=True).values
    return LinearProbe(
        per_slot=tuple(hits.double().mean(1).tolist()),
        majority=tuple((actions == commonest).double().mean(1).tolist()),
        exact=float(hits.all(0).double().mean()),
        given_state=float(best.values.prod(0).mean()),
        trained_on=fitted.shape[1],
        held_out=actions.shape[1],
    )


@torch.inference_mode()
def attention_maps(model: ActionStructureModel, observation: Tensor, tokens: Tensor) -> Tensor:
    """Attention of each sub-action's token, averaged over a batch: (L, H, N, M + N), rows summing to 1.

    Args:
        model: in evaluation mode.
        observation: (B, S).
        tokens: (B, N) choices, or masks.
    """
    state = model.state_encoder(observation)  # (B, M, D)
    x = torch.cat([state, model.embed(tokens)], 1)
    maps = []
    for block in model.trunk.blocks:
        assert isinstance(block, Block)
        projected = block.query_key_value(block.attention_norm(x))
        query, key, _ = projected.unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, M + N, D / H)
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)  # (B, H, M + N, M + N)
        maps.append(weights[:, :, state.shape[1] :].mean(0))
        x = block(x)
    return torch.stack(maps)


def attention_of_dataset(
    model: ActionStructureModel, dataset: OfflineDataset, *, samples: int = 2048, masked: bool = False
) -> Tensor:
    """``attention_maps`` over transitions spread over a dataset, with its sub-actions visible or all masked."""
    check_fit(model, dataset)
    data = DeviceTransitions(dataset, torch.device("cpu"), spread(dataset.transitions, samples))
    observation, action = data.observation_action(torch.arange(data.size))
    return attention_maps(model.eval(), observation, model.mask_tokens.expand_as(action) if masked else action)


def check_fit(model: ActionStructureModel, dataset: OfflineDataset) -> None:
    """UserError where model and dataset have other spaces."""
    meta = dataset.meta
    ours, theirs = (model.observation_size, model.nvec), (meta.observation_size, tuple(meta.nvec))
    if ours != theirs:
        raise UserError(
            f"The model has observation size and nvec {ours}, {meta.key} has {theirs}: probe it on its own dataset."
        )


@torch.inference_mode()
def _features(model: ActionStructureModel, dataset: OfflineDataset, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Output tokens (N, n, D) with everything masked, and joint actions (N, n), of the transitions at ``rows``."""
    model.eval()
    data = DeviceTransitions(dataset, torch.device("cpu"), rows)
    masks = model.mask_embeddings()
    tokens, actions = [], []
    for indices in torch.arange(data.size).split(_BATCH):
        observation, action = data.observation_action(indices)
        tokens.append(model.mix(observation, masks.expand(len(indices), -1, -1)).transpose(0, 1))
        actions.append(action.T)
    return torch.cat(tokens, 1), torch.cat(actions, 1)


def _fit(features: Tensor, actions: Tensor, nvec: tuple[int, ...]) -> BatchedLinear:
    """The linear classifiers with the least cross-entropy: a convex problem, solved deterministically from zero."""
    classifier = _classifier(features.shape[-1], nvec)
    features, actions = features.clone(), actions.clone()  # out of inference mode
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = _logits(classifier, features, nvec)
        # a very small decay: without it, separable data would have no best classifier
        decay = 1e-5 * classifier.weight.square().sum()
        value = functional.cross_entropy(logits.flatten(0, 1), actions.flatten()) * len(nvec) + decay
        value.backward()
        return value

    optimizer.step(loss)
    return classifier


def _classifier(width: int, nvec: tuple[int, ...]) -> BatchedLinear:
    """A linear classifier for each sub-action, at zero."""
    classifier = BatchedLinear(len(nvec), width, max(nvec))
    for parameter in classifier.parameters():
        torch.nn.init.zeros_(parameter)
    return classifier


def _logits(classifier: BatchedLinear, features: Tensor, nvec: tuple[int, ...]) -> Tensor:
    """(N, n, C), -inf at choices that do not exist."""
    logits: Tensor = classifier(features)
    return logits.masked_fill(missing_choices(nvec)[:, None], -torch.inf)
