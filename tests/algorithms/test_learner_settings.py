"""Decay of the learning rate, clipping, precision, and the update as a CUDA graph."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.cloning.networks import get_network
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.networks import precision
from spin_rl.algorithms.objectives import OBJECTIVES, IQLSettings, get_objective
from spin_rl.algorithms.objectives.gradient_step import GradientStep, clip_each
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training import updates
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.algorithms.training.graphs import GraphedUpdate
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import NVEC, OBSERVATION, PAIRS, assert_same_bits

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(toy) -> DeviceTransitions:
    return DeviceTransitions(toy, CPU)


def make_spec(method: str = "factored", objective: str = "iql", **settings: object) -> AgentSpec:
    known = get_objective(objective).settings_class(critic_width=16, **settings)
    preset = get_preset("tiny", policy_dropout=0.0, trunk_dropout=False)
    preset = replace(preset, asm=replace(preset.asm, dropout=0.0))
    return AgentSpec(method, OBSERVATION, NVEC, preset, known, batch_size=16)


def make_asm(spec: AgentSpec) -> ActionStructureModel | Policy | None:
    method = get_method(spec.algorithm)
    torch.manual_seed(5)
    if method.uses_clone:
        return get_network(method.cloned).build(OBSERVATION, NVEC, spec.preset)
    return ActionStructureModel(OBSERVATION, NVEC, spec.preset.asm) if method.uses_asm else None


@pytest.mark.parametrize(
    ("decay", "shares"),
    [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0]), ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0])],
)
def test_the_learning_rate_falls_to_zero_and_stays_there(decay, shares):
    settings = IQLSettings(lr_decay=decay, lr_decay_updates=8)
    assert [settings.rate_multiplier(number) for number in (0, 2, 4, 8)] == pytest.approx(shares)
    assert settings.rate_multiplier(100) == settings.rate_multiplier(8)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_cut_run_goes_on_with_the_rate_that_it_had(data, decay):
    spec = make_spec(lr_decay=decay, lr_decay_updates=10, learning_rate=0.01)
    straight = OfflineAgent(spec)
    straight.train(data, 9)
    first = OfflineAgent(spec)
    first.train(data, 5)
    second = OfflineAgent(spec)
    second.load_state(*first.state())
    second.train(data, 4)
    assert_same_bits(second.state()[0], straight.state()[0])
    rates = [step.optimizer.param_groups[0]["lr"] for step in second.objective.optimizers.values()]
    assert rates == pytest.approx([0.01 * spec.objective.rate_multiplier(8)] * 2)
    straight.train(data, 1)
    ended = straight.state()[0]
    straight.train(data, 2)  # at a rate of 0
    for name, value in straight.state()[0].items():
        if name.startswith("networks.") and "target" not in name:
            assert torch.equal(value, ended[name]), name


def test_each_networks_gradients_are_clipped_by_themselves_and_each_seeds():
    small, large = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))
    step = GradientStep([small], [large], learning_rate=0.1, clip=0.5)
    step(0.1 * small.sum() + 10.0 * large.sum())
    assert small.grad.norm() == pytest.approx(0.1 * math.sqrt(3))
    assert large.grad.norm() == pytest.approx(0.5, rel=1e-5)

    stacked = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 2, 2))]
    alone = [[nn.Parameter(torch.zeros(part.shape[1:])) for part in stacked] for _ in range(2)]
    for index, part in enumerate(stacked):
        part.grad = torch.randn_like(part) * torch.tensor([0.01, 10.0]).view(-1, *([1] * (part.dim() - 1)))
        for seed in range(2):
            alone[seed][index].grad = part.grad[seed].clone()
    clip_each(stacked, 0.7)
    for seed in range(2):
        nn.utils.clip_grad_norm_(alone[seed], 0.7)
        for part, single in zip(stacked, alone[seed], strict=True):
            torch.testing.assert_close(part.grad[seed], single.grad)


@pytest.mark.parametrize(("method", "objective"), PAIRS)
def test_bfloat16_trains_to_nearly_what_float32_does_in_float32_weights(data, method, objective):
    """At a rate at which casts of the weights that outlive a step would be far off."""
    runs = []
    for name in ("float32", "bfloat16"):
        spec = make_spec(method, objective, precision=name, learning_rate=0.01)
        agent = OfflineAgent(replace(spec, preset=replace(spec.preset, distill_steps=3)), asm=make_asm(spec))
        losses = agent.train(data, 15)
        runs.append((losses, agent.state()[0]))
    (exact, exact_state), (rough, rough_state) = runs
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05, abs=0.05)
    assert {name: value.dtype for name, value in rough_state.items()} == {n: v.dtype for n, v in exact_state.items()}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr_decay": "step"}, "There is no decay of the learning rate 'step'.*constant.*linear.*cosine"),
        ({"lr_decay": "cosine"}, "lr_decay=cosine .* lr_decay_updates=None does not say over how many"),
        ({"gradient_clip": 0.0}, "gradient_clip=0.0 is not positive"),
        ({"precision": "float16"}, "There is no precision 'float16'.*float32.*tf32.*bfloat16"),
    ],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_settings_that_mean_nothing_are_refused(objective, settings, said):
    with pytest.raises(UserError, match=said):
        get_objective(objective).settings_class(**settings)


def test_tf32_on_a_processor_is_refused_with_both_names():
    with pytest.raises(UserError, match=r"precision=tf32 .* NVIDIA GPUs, the device is cpu"):
        OfflineAgent(make_spec(precision="tf32"))


def test_onednn_gives_the_same_but_for_rounding_or_is_refused(data, monkeypatch):
    spec = make_spec()
    if precision.onednn_keeps_float32():
        plain, fast = OfflineAgent(spec), OfflineAgent(replace(spec, onednn=True))
        assert fast.train(data, 10) == pytest.approx(plain.train(data, 10), rel=1e-4)
        assert torch.get_float32_matmul_precision() == "highest"  # nobody else's products are
    monkeypatch.setattr(precision, "onednn_keeps_float32", lambda: False)
    with pytest.raises(UserError, match="would round float32 products to bfloat16 on this processor"):
        OfflineAgent(replace(spec, onednn=True))


def test_a_graph_is_given_each_minibatch_at_its_rate_and_is_made_anew_after_a_restart(data, monkeypatch):
    made = []

    class Recorded(GraphedUpdate):
        """Makes what a GPU would replay."""

        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            made.append(self)

        def __call__(self, indices: torch.Tensor) -> torch.Tensor:
            return self._update(indices)

    spec = make_spec(lr_decay="linear", lr_decay_updates=100)
    plain = OfflineAgent(replace(spec, cuda_graph=False))
    losses = [plain.train(data, 66), plain.train(data, 3)]
    monkeypatch.setattr(updates, "GraphedUpdate", Recorded)
    monkeypatch.setattr(updates, "can_capture", lambda *_: True)
    graphed = OfflineAgent(spec)
    assert [graphed.train(data, 66), graphed.train(data, 3)] == losses
    assert_same_bits(graphed.state()[0], plain.state()[0])
    assert len(made) == 1
    graphed.load_state(*plain.state())
    assert graphed.train(data, 3) == plain.train(data, 3)
    assert len(made) == 2  # the optimisers' tensors are others


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize(("method", "objective"), [pair for pair in PAIRS if pair[0] != "autoregressive"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_captured_update_is_the_plain_one_and_waits_for_nothing(toy, method, objective, seeds):
    if method in ("fas", "brave"):
        pytest.skip("walks a tree, or draws its minibatches: not captured")
    device = torch.device("cuda")
    on_gpu = DeviceTransitions(toy, device)
    states = []
    for cuda_graph in (False, True):
        decay = {"lr_decay": "linear", "lr_decay_updates": 40, "gradient_clip": 1.0}
        spec = replace(make_spec(method, objective, **decay), cuda_graph=cuda_graph)
        spec = replace(spec, preset=replace(spec.preset, distill_steps=3))
        asm = make_asm(spec)
        agent = OfflineAgent(spec, device, asm) if seeds == 1 else SeedsAgent(spec, range(seeds), device, asm)
        agent.train(on_gpu, 5)
        torch.cuda.set_sync_debug_mode("error")
        try:
            agent._loop.run(on_gpu, agent.draw_for(on_gpu), 5, 20, agent.table)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert (agent._loop._graph is not None) == cuda_graph
        states.append(agent.objective.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)
