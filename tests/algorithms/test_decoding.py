"""Decoding in K passes: against a plain loop over one sample, and the distributions that it samples."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from spin_rl.algorithms.asm.decoding import CONFIDENCES, Decoding
from spin_rl.algorithms.policies.decoding import decode, gumbel
from tests.algorithms.toy_agent import NVEC


class Table:
    """A joint distribution p over NVEC's tuples, and its exact conditionals in place of a network."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.joint = random.dirichlet(np.full(math.prod(NVEC), 0.3)).reshape(NVEC)

    def conditional(self, tokens: tuple[int, ...], index: int) -> np.ndarray:
        """p(a_index | the sub-actions that are not masks), (nvec[index],)."""
        seen = tuple(
            slice(None) if token == n else slice(token, token + 1) for token, n in zip(tokens, NVEC, strict=True)
        )
        others = tuple(i for i in range(len(NVEC)) if i != index)
        chances = self.joint[seen].sum(others)
        return chances / chances.sum()

    def predict(self, tokens: Tensor) -> Tensor:
        logits = torch.full((*tokens.shape, max(NVEC)), -torch.inf, dtype=torch.float64)
        found, row = tokens.unique(dim=0, return_inverse=True)
        for number, seen in enumerate(found.tolist()):
            for index, n in enumerate(NVEC):
                # what is visible is not asked for
                chances = self.conditional(tuple(seen), index) if seen[index] == n else np.full(n, 1.0 / n)
                logits[row == number, index, :n] = torch.tensor(chances).clamp(min=1e-12).log()
        return logits


def frequencies(actions: Tensor) -> np.ndarray:
    counts = np.zeros(NVEC)
    np.add.at(counts, tuple(actions.numpy().T), 1.0)
    return counts / len(actions)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("count", [1, 2, 6, 38])
def test_each_pass_fixes_at_least_one_and_all_of_them_together_everything(schedule, count):
    for passes in range(1, count + 1):
        reveals = Decoding(passes, schedule=schedule).reveals(count)
        assert len(reveals) == passes
        assert min(reveals) >= 1
        assert sum(reveals) == count
    assert Decoding(count, schedule=schedule).reveals(count) == (1,) * count
    assert len(Decoding(schedule=schedule).reveals(count)) == min(count, 8)


def test_the_schedules_are_those_of_the_formulas():
    fixed = [math.ceil(38 * (1 - math.cos(math.pi / 2 * k / 4))) for k in range(5)]
    assert Decoding(4).reveals(38) == tuple(np.diff(fixed)) == (3, 9, 12, 14)
    assert Decoding(4, schedule="linear").reveals(12) == (3, 3, 3, 3)


def plain_decode(table: Table, uniforms: np.ndarray | None, decoding: Decoding) -> list[int]:
    """One sample, sub-action by sub-action."""
    tokens, passes = list(NVEC), decoding.reveals(len(NVEC))
    for number, reveal in enumerate(passes, 1):
        choices, confidences = {}, {}
        for i, n in enumerate(NVEC):
            if tokens[i] != n:
                continue
            chances = table.conditional(tuple(tokens), i)
            choices[i] = int(chances.argmax() if uniforms is None else (chances.cumsum() <= uniforms[i]).sum())
            confidences[i] = np.log(chances.max() if decoding.confidence == "likeliest" else chances[choices[i]])
            if uniforms is not None and decoding.temperature and number < len(passes):
                confidences[i] -= decoding.temperature * np.log(-np.log(uniforms[number * len(NVEC) + i]))
        for i in sorted(confidences, key=confidences.get, reverse=True)[:reveal]:
            tokens[i] = choices[i]
    return tokens


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_decoding_is_that_of_a_plain_loop_and_each_state_for_itself(passes, temperature, confidence):
    torch.manual_seed(0)
    table, decoding = Table(), Decoding(passes, temperature, confidence=confidence)
    draws = decoding.draws(len(NVEC))
    assert draws == len(NVEC) * (passes if temperature else 1)
    uniforms = torch.rand(60, draws, dtype=torch.float64)
    expected = [plain_decode(table, row, decoding) for row in uniforms.numpy()]
    assert decode(table.predict, torch.tensor(NVEC), 60, decoding, uniforms).tolist() == expected
    greedy = decode(table.predict, torch.tensor(NVEC), 2, decoding)
    assert greedy.tolist() == [plain_decode(table, None, decoding)] * 2


def test_one_sub_action_a_pass_samples_the_joint_distribution_and_one_pass_its_marginals():
    """In any order that does not depend on what is drawn; MaskGIT's confidences prefer the likely."""
    torch.manual_seed(0)
    table, samples = Table(), 40_000
    marginals = [table.joint.sum(tuple(j for j in range(3) if j != i)) for i in range(3)]
    independent = np.einsum("i,j,k->ijk", *marginals)
    assert np.abs(independent - table.joint).sum() > 0.3
    for decoding, expected in (
        (Decoding(3, 0.0), table.joint),
        (Decoding(3, 1.0), table.joint),
        (Decoding(3, 1e6, confidence="choice"), table.joint),
        (Decoding(1), independent),
    ):
        uniforms = torch.rand(samples, decoding.draws(3), dtype=torch.float64)
        found = frequencies(decode(table.predict, torch.tensor(NVEC), samples, decoding, uniforms))
        assert np.abs(found - expected).sum() < 0.03
    greedily = Decoding(3, 0.0, confidence="choice")
    uniforms = torch.rand(samples, 3, dtype=torch.float64)
    found = frequencies(decode(table.predict, torch.tensor(NVEC), samples, greedily, uniforms))
    assert found.max() > table.joint.max() + 0.05


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_independent_sub_actions_keep_their_distributions_in_any_order(temperature, confidence):
    torch.manual_seed(0)
    table, samples = Table(), 40_000
    marginals = [table.joint.sum(tuple(j for j in range(3) if j != i)) for i in range(3)]
    table.joint = np.einsum("i,j,k->ijk", *marginals)
    decoding = Decoding(3, temperature, confidence=confidence)
    uniforms = torch.rand(samples, decoding.draws(3), dtype=torch.float64)
    found = frequencies(decode(table.predict, torch.tensor(NVEC), samples, decoding, uniforms))
    assert np.abs(found - table.joint).sum() < 0.03


def test_gumbel_noise_is_finite_at_every_uniform():
    uniforms = torch.tensor([0.0, 2**-53, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert bool(gumbel(uniforms).isfinite().all())
    assert float(gumbel(uniforms)[2]) == pytest.approx(-math.log(math.log(2.0)))
