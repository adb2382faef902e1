"""Seeds that are trained at once: each ends where it would have ended alone, up to rounding."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.networks.stacked import stack
from spin_rl.algorithms.objectives import get_objective
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, DivergedError, OfflineAgent
from spin_rl.algorithms.training.checkpoints import load_objective, save_agent_spec
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import NVEC, OBSERVATION, PAIRS, assert_same_bits, model_for

SEEDS = (3, 4, 7)


@pytest.fixture(scope="module")
def data(toy) -> DeviceTransitions:
    return DeviceTransitions(toy, torch.device("cpu"))


def make(method: str, objective: str, asm_folder, **settings: object) -> tuple[SeedsAgent, Iterator[OfflineAgent]]:
    """The seeds at once, and one by one: each made when it is asked for, as it seeds torch's generator."""
    known = get_objective(objective).settings_class(critic_width=16, **settings)
    spec = AgentSpec(method, OBSERVATION, NVEC, get_preset("tiny", distill_steps=3), known, batch_size=16)
    asm = model_for(spec, asm_folder)
    return SeedsAgent(spec, SEEDS, asm=asm), (OfflineAgent(replace(spec, seed=seed), asm=asm) for seed in SEEDS)


@pytest.mark.parametrize(
    ("method", "objective"), [pair for pair in PAIRS if not pair[0].startswith(("autoregressive", "spin-decode"))]
)
def test_each_seed_is_what_it_is_alone_dropout_and_clipping_included(data, asm_folder, method, objective):
    if method in ("fas", "brave"):
        pytest.skip("trains one seed at a time")
    settings = {"gradient_clip": 0.5, "lr_decay": "cosine", "lr_decay_updates": 8}
    together, alone = make(method, objective, asm_folder, **settings)
    losses = together.train(data, 6)
    for index, agent in enumerate(alone):
        expected = agent.train(data, 6)
        assert losses[index] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        tensors = together.states()[index][0]
        assert tensors.keys() == agent.state()[0].keys()
        for name, value in agent.state()[0].items():
            if name == "random.cpu":
                assert torch.equal(tensors[name], value)  # each drew its own masks, and as many
            else:
                torch.testing.assert_close(tensors[name], value, rtol=1e-4, atol=1e-4)
    assert losses[0] != losses[1]


def test_autoregressive_seeds_too_but_only_where_nothing_is_sampled(data, asm_folder):
    together, alone = make("autoregressive", "iql", asm_folder)
    losses = together.train(data, 6)
    for index, agent in enumerate(alone):
        assert losses[index] == pytest.approx(agent.train(data, 6), rel=1e-4)
    with pytest.raises(UserError, match=r"autoregressive .* with iql only, not with bcq"):
        make("autoregressive", "bcq", asm_folder)
    with pytest.raises(UserError, match=r"seeds of spin-decode are not trained at once: train one seed at a time"):
        make("spin-decode", "iql", asm_folder)
    with pytest.raises(UserError, match=r"seeds \[1, 1\]"):
        SeedsAgent(together.agents[0].spec, (1, 1))


@pytest.mark.parametrize("method", ["factored", "spin", "spin-cached"])
def test_seeds_go_on_to_the_same_bits_and_each_is_an_ordinary_checkpoint(data, asm_folder, tmp_path, method):
    straight, _ = make(method, "iql", asm_folder)
    straight.train(data, 4)
    losses = straight.train(data, 70)  # past what is gathered at once

    first, _ = make(method, "iql", asm_folder)
    first.train(data, 4)
    states = []
    for index, (tensors, values) in enumerate(first.states()):
        save_file(tensors, tmp_path / f"{index}.safetensors")
        states.append((load_file(tmp_path / f"{index}.safetensors"), values))
    first.train(data, 2)
    torch.randn(10)
    second, alone = make(method, "iql", asm_folder)
    second.train(data, 1)
    second.load_states(states)
    assert second.train(data, 70) == losses
    for mine, theirs in zip(second.states(), straight.states(), strict=True):
        assert_same_bits(mine[0], theirs[0])

    # one of them leaves the others: as an agent of its own, and as a policy that acts
    one = next(alone)
    one.load_state(*states[1])
    one.spec = second.agents[1].spec
    assert one.train(data, 70) == pytest.approx(losses[1], rel=1e-3, abs=1e-4)
    save_file(second.states()[1][0], tmp_path / "learner.safetensors")
    save_agent_spec(second.agents[1].spec, tmp_path)
    observation = torch.randn(20, OBSERVATION)
    read, live = load_objective(tmp_path), second.agents[1].objective.eval()
    assert torch.equal(read.decide(observation, None, sample=False), live.decide(observation, None, sample=False))


def test_a_layer_without_a_stacked_counterpart_is_refused():
    networks = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Bilinear(2, 2, 2)) for _ in range(2)]
    with pytest.raises(TypeError, match="Bilinear has no stacked counterpart"):
        stack(networks, [torch.Generator()] * 2)


def test_stacked_layers_hold_the_parameters_that_optimisers_know():
    """And a layer that is used in two places is one layer still."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(3, 3)
            self.known = list(self.first.parameters())
            self.second = self.first

    networks = [Twice() for _ in range(2)]
    stacked = stack(networks, [torch.Generator()] * 2)
    assert stacked.first is stacked.second
    assert [id(parameter) for parameter in stacked.known] == [id(parameter) for parameter in stacked.parameters()]
    assert stacked.first.weight.shape == (2, 3, 3)
    networks[1].first.weight.data.add_(1.0)
    assert torch.equal(stacked.first.weight[1], networks[1].first.weight)


def test_a_seed_that_diverges_is_named(data, asm_folder):
    together, _ = make("factored", "iql", asm_folder, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"\w+ of seed 3 became .* in update [1-9]"):
        together.train(data, 10)
