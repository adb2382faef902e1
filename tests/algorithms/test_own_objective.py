"""Methods without a policy network: value decomposition is registered here, and trains, saves, loads and acts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch, DeviceTransitions
from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.methods import METHODS, Look, Method
from spin_rl.algorithms.objectives import OBJECTIVES, Info, Objective, ObjectiveSettings, get_objective
from spin_rl.algorithms.objectives.losses import Target
from spin_rl.algorithms.policies.base import Preparation
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent, build_objective
from spin_rl.algorithms.training.checkpoints import load_objective, load_policy, save_agent_spec
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.errors import UserError
from spin_rl.platform.evaluation.episodes import evaluate
from tests.algorithms.toy_agent import NVEC, OBSERVATION, assert_same_bits, random_batch
from tests.toy import toy_task

CPU = torch.device("cpu")


@dataclass(frozen=True)
class DecomposedSettings(ObjectiveSettings):
    name = "decomposed"

    noise: float = 0.3


class Decomposed(Objective):
    """Decoupled Q-learning (arXiv 2210.12566) on normalised observations: mean over sub-actions and over critics."""

    settings_class = DecomposedSettings
    settings: DecomposedSettings
    decomposition = "mean"
    regression = "huber"
    center: Tensor
    scale: Tensor

    def __init__(self, policy, observation_size, nvec, settings) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.critic, self.target_critic = self.new_critic(), self.new_critic()
        self.register_buffer("center", torch.zeros(observation_size))
        self.register_buffer("scale", torch.ones(observation_size))
        self._target = Target(self.critic, self.target_critic, settings.target_rate)

    def prepare(self, data, asm, storage, seed) -> Preparation:
        self.center.copy_(data.observations.mean(0))
        self.scale.copy_(data.observations.std(0) + 1e-3)
        return Preparation()

    def make_optimizers(self) -> None:
        self.optimizers = {"critic": self.gradient_step(self.critic.parameters())}

    def update(self, batch: Batch) -> Info:
        with torch.no_grad():
            q_BNC = self.target_critic(self.normalised(batch.next_observation)).mean(-4)
            best_BN = q_BNC.masked_fill(missing(), -torch.inf).amax(-1)
        q_EB = self.critic.joint_value(self.normalised(batch.observation), batch.action)
        loss, info = self.critic_loss(q_EB, batch, self.critic.combine(best_BN, (-1,)))
        self.optimizers["critic"](loss)
        self._target.update()
        return info

    def draws(self, *, sample: bool) -> int:
        return 2 * len(self.nvec) if sample else 0

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        q_BNC = self.critic(self.normalised(observation)).mean(0).masked_fill(missing(), -torch.inf)
        if not sample:
            return q_BNC.argmax(-1)
        explores, which = uniforms.chunk(2, -1)
        random = (which * torch.tensor(NVEC)).long()
        return torch.where(explores < self.settings.noise, random, q_BNC.argmax(-1))

    def normalised(self, observation: Tensor) -> Tensor:
        return (observation - self.center) / self.scale


def missing() -> Tensor:
    return torch.arange(max(NVEC)) >= torch.tensor(NVEC)[:, None]


METHOD = Method(
    "decomposed",
    "Decomposed",
    "Decomposed",
    "Decoupled Q-learning.",
    None,
    Look("#000000", "-", "o"),
    objectives=("decomposed",),
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "decomposed", Decomposed)
    monkeypatch.setitem(METHODS, "decomposed", METHOD)


def make_spec(method: str = "decomposed", objective: str = "decomposed") -> AgentSpec:
    settings = get_objective(objective).settings_class(critic_width=16)
    return AgentSpec(method, OBSERVATION, NVEC, get_preset("tiny"), settings, batch_size=16)


def test_value_decomposition_trains_resumes_saves_loads_and_acts(registered, toy, tmp_path):
    data = DeviceTransitions(toy, CPU)
    straight = OfflineAgent(make_spec())
    assert straight.policy is None
    before = {name: value.clone() for name, value in straight.objective.state_dict().items()}
    straight.train(data, 4)
    losses = straight.train(data, 6)
    assert losses.keys() == {"critic_loss", "q"}
    torch.testing.assert_close(straight.objective.center, data.observations.mean(0))

    first = OfflineAgent(make_spec())
    first.train(data, 4)
    second = OfflineAgent(make_spec())
    second.load_state(*first.state())
    assert second.train(data, 6) == losses
    tensors = second.state()[0]
    assert_same_bits(tensors, straight.state()[0])
    assert not [name for name, value in before.items() if torch.equal(value, tensors[f"networks.{name}"])]

    save_file(tensors, tmp_path / "learner.safetensors")
    save_agent_spec(second.spec, tmp_path)
    assert_same_bits(load_file(tmp_path / "learner.safetensors"), tensors)
    read = load_objective(tmp_path)
    assert type(read) is Decomposed
    observation = np.random.default_rng(0).normal(size=(50, OBSERVATION)).astype(np.float32)
    chosen = []
    for sample, draws in ((True, 2 * len(NVEC)), (False, 0)):
        mine, theirs = (ActingPolicy(actor, CPU, sample=sample) for actor in (second.objective, read))
        assert mine.draws == draws
        uniforms = np.random.default_rng(1).random((50, draws))
        chosen.append(theirs.act(observation, uniforms))
        np.testing.assert_array_equal(chosen[-1], mine.act(observation, uniforms))
    assert (chosen[0] != chosen[1]).any()
    results = [
        evaluate(toy_task(), ActingPolicy(actor, CPU, sample=False), episodes=3) for actor in (read, second.objective)
    ]
    assert results[0] == results[1]
    with pytest.raises(UserError, match=r"decomposed, which has no policy network"):
        load_policy(tmp_path)


def test_its_update_is_huber_regression_to_the_best_mean(registered):
    torch.manual_seed(0)
    objective = build_objective(make_spec())
    for parameter in objective.critic.parameters():
        parameter.data.mul_(3.0)  # errors on both sides of 1
    objective.make_optimizers()
    batch = random_batch(64)
    with torch.no_grad():
        q = objective.critic(batch.observation)
        next_q = objective.target_critic(batch.next_observation).mean(0)
    target = (
        torch.stack([sum(next_q[b, i, :n].max() for i, n in enumerate(NVEC)) / 3 for b in range(64)])
        * 0.99
        * (1 - batch.terminated)
        + batch.reward
    )
    expected, sizes = 0.0, []
    for member in range(2):
        for b in range(64):
            error = float(sum(q[member, b, i, batch.action[b, i]] for i in range(3)) / 3 - target[b])
            sizes.append(abs(error))
            expected += (error**2 / 2 if abs(error) < 1 else abs(error) - 0.5) / 64
    assert min(sizes) < 1 < max(sizes)
    assert float(objective.update(batch)["critic_loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_method_refuses_objectives_that_are_not_its_own(registered):
    with pytest.raises(UserError, match="factored is trained with iql or awac or bcq, not with decomposed"):
        OfflineAgent(make_spec("factored"))
    with pytest.raises(UserError, match="decomposed is trained with decomposed, not with iql"):
        OfflineAgent(make_spec(objective="iql"))


def test_its_seeds_are_trained_at_once_where_it_says_so_on_normalised_observations(registered, toy, monkeypatch):
    monkeypatch.setattr(Decomposed, "stackable", True)
    data = DeviceTransitions(toy, CPU)
    together = SeedsAgent(make_spec(), (3, 5))
    losses = together.train(data, 6)
    for index, seed in enumerate((3, 5)):
        alone = OfflineAgent(replace(make_spec(), seed=seed))
        assert losses[index] == pytest.approx(alone.train(data, 6), rel=1e-4)
        for name, value in alone.objective.state_dict().items():
            torch.testing.assert_close(together.states()[index][0][f"networks.{name}"], value, rtol=1e-4, atol=1e-5)


def test_seeds_of_an_objective_that_does_not_say_so_are_refused(registered):
    with pytest.raises(UserError, match="Several seeds of decomposed are not trained at once"):
        SeedsAgent(make_spec(), (0, 1))
