"""Behaviour policies: the replay memory against a plain loop, DecQN across a kill, cards."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import smooth_l1_loss

from spin_rl.envs.behaviour.collectors import InProcessCollector, weights_of
from spin_rl.envs.behaviour.library import list_cards, load_policy
from spin_rl.envs.behaviour.network import DecoupledQ, EpsilonGreedy
from spin_rl.envs.behaviour.replay import ReplayIndices, RoundReplay
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.envs.behaviour.shipping import _as_medium, ship
from spin_rl.envs.behaviour.training import BehaviourTraining
from spin_rl.errors import UserError
from spin_rl.platform.behaviour.actors import open_collector
from tests.toy import toy_task

TASK = toy_task(steps=20, terminates=False)
TINY = BehaviourSettings(
    envs=2, width=8, batch_size=8, steps_per_update=1, warmup_steps=40, epsilon_steps=200, capacity=120,
    evaluation_rounds=1, evaluation_episodes=3, bfloat16=False,
)  # fmt: skip


@pytest.mark.parametrize("finished", [1, 3, 7])
def test_n_step_returns_are_those_of_a_plain_loop(finished):
    """Finished rounds and an unfinished one in a memory for three."""
    envs, steps, n, gamma = 2, 5, 3, 0.9
    replay = RoundReplay(3, envs, steps, 1, 1)
    lives: dict[float, tuple[list[float], list[float]]] = {}
    generator = np.random.default_rng(0)
    for number in range(finished + 1):
        made = steps if number < finished else 2
        first = np.arange(envs, dtype=np.float32)[:, None] + 1000 * number
        replay.begin_round(first)
        rewards = generator.normal(size=(made, envs)).astype(np.float32)
        for step in range(made):
            after = first + 10 * (step + 1)
            replay.append(np.full((envs, 1), step), rewards[step], after)
        for env in range(envs):
            observations = [float(first[env, 0] + 10 * step) for step in range(made + 1)]
            for step in range(made):
                lives[observations[step]] = (observations[step:], [float(r) for r in rewards[step:, env]])
    seen = set()
    for _ in range(20):
        observation, action, returns, discount, later = replay.transitions(replay.sample(generator, 64), n, gamma)
        for row in range(64):
            ahead, gains = lives[float(observation[row, 0])]
            taken = min(n, len(gains))
            expected = sum(gamma**k * gains[k] for k in range(taken))
            assert returns[row] == pytest.approx(expected, abs=1e-5)
            assert discount[row] == pytest.approx(gamma**taken)
            assert later[row, 0] == ahead[taken]
            assert action[row, 0] == (observation[row, 0] % 1000) // 10
            seen.add(float(observation[row, 0]))
    kept = [key for key in lives if key // 1000 > finished - 3]
    assert seen == set(kept)


def test_observations_are_scaled_by_all_observations_so_far():
    network = DecoupledQ(3, (3, 2), 8)
    rounds = np.random.default_rng(0).normal([5, -3, 7], [2, 0.1, 0], size=(4, 6, 2, 3)).astype(np.float32)
    for number, observations in enumerate(rounds, start=1):
        network.track(torch.from_numpy(observations), number)
    np.testing.assert_allclose(network.center, rounds.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(network.scale[:2], rounds.std((0, 1, 2))[:2], rtol=1e-4)
    assert network.scale[2] == pytest.approx(0.01)
    plain = DecoupledQ(3, (3, 2), 8)
    plain.body.load_state_dict(network.body.state_dict())
    observation = torch.from_numpy(rounds[0, 0])
    torch.testing.assert_close(network(observation), plain((observation - network.center) / network.scale))


def test_weights_without_scaling_are_loaded_as_unscaled():
    old = {key: value for key, value in DecoupledQ(3, (3, 2), 8).state_dict().items() if key.startswith("body.")}
    network = DecoupledQ(3, (3, 2), 8)
    network.track(torch.randn(5, 3), 1)
    network.load_state_dict(old)
    assert network.center.tolist() == [0, 0, 0]
    assert network.scale.tolist() == [1, 1, 1]


def train(folder: Path, steps: int) -> BehaviourTraining:
    torch.set_num_threads(1)
    trainer = BehaviourTraining(TASK, TINY, folder)
    list(trainer.train(steps))
    return trainer


def test_a_killed_training_resumes_to_the_same_bits(tmp_path):
    """Killed after its fifth round, with a checkpoint of the fourth; only the last rounds fit into the memory."""
    script = (
        "import os; from pathlib import Path; from tests.envs.test_behaviour import *\n"
        "torch.set_num_threads(1)\n"
        "trainer = BehaviourTraining(TASK, TINY, Path(os.environ['FOLDER']))\n"
        "for point in trainer.train(400, checkpoint_seconds=0): os.kill(os.getpid(), 9) if trainer.round == 5 else None"
    )
    environment = os.environ | {"FOLDER": str(tmp_path / "killed")}
    repository = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=repository, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    assert json.loads((tmp_path / "killed/checkpoint/progress.json").read_text())["round"] == 4
    train(tmp_path / "killed", 400)
    train(tmp_path / "straight", 400)
    same_training(tmp_path / "straight", tmp_path / "killed", 10)


def same_training(one: Path, other: Path, snapshots: int) -> None:
    """Both have the same snapshots, bit for bit, and the same curve except for the times."""
    names = sorted(path.name for path in (one / "snapshots").iterdir())
    assert len(names) == snapshots
    for name in names:
        weights, others = (load_file(folder / "snapshots" / name) for folder in (one, other))
        for key, tensor in weights.items():
            assert torch.equal(tensor, others[key]), (name, key)
    curves = [(folder / "curve.jsonl").read_text().splitlines() for folder in (one, other)]
    without_time = [[{**json.loads(line), "seconds": 0} for line in curve] for curve in curves]
    assert without_time[0] == without_time[1]


AHEAD = replace(TINY, envs=4, ahead=7, warmup_steps=100)  # segments of 7, 7 and 6 steps


def train_ahead(
    folder: Path, collector, steps: int = 400, until_round: int = 100, settings: BehaviourSettings = AHEAD
) -> None:
    torch.set_num_threads(1)
    trainer = BehaviourTraining(TASK, settings, folder, collector=collector)
    for _ in trainer.train(steps, checkpoint_seconds=0):
        if trainer.round == until_round:  # before its checkpoint is written
            break


def in_process(settings: BehaviourSettings = AHEAD) -> InProcessCollector:
    return InProcessCollector(TASK, settings.collection)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"normalize": True, "symlog": True},
        {"algorithm": "sac", "critics": 2, "normalize": True, "group": 4},
    ],
)
def test_a_training_with_a_collector_resumes_to_the_same_bits(tmp_path, more):
    settings = replace(AHEAD, **more)
    train_ahead(tmp_path / "stopped", in_process(settings), until_round=3, settings=settings)
    assert json.loads((tmp_path / "stopped/checkpoint/progress.json").read_text())["round"] == 2
    train_ahead(tmp_path / "stopped", in_process(settings), settings=settings)
    train_ahead(tmp_path / "straight", in_process(settings), settings=settings)
    same_training(tmp_path / "straight", tmp_path / "stopped", 5)


def test_both_networks_of_a_training_scale_observations_by_all_rounds(tmp_path):
    seen = []

    class Recording(InProcessCollector):
        def begin(self, round_):
            first = super().begin(round_)()
            seen.append(first)
            return lambda: first

        def advance(self, weights, epsilons):
            segment = super().advance(weights, epsilons)()
            seen.extend(segment.observations)
            return lambda: segment

    settings = replace(AHEAD, normalize=True)
    trainer = BehaviourTraining(TASK, settings, tmp_path, collector=Recording(TASK, AHEAD.collection))
    list(trainer.train(240))
    assert len(seen) == 3 * 21
    for network in (trainer.learner.network, trainer.learner.target):
        np.testing.assert_allclose(network.center, np.mean(seen, (0, 1)), rtol=1e-4, atol=1e-6)


def test_symlog_is_what_is_centred_and_scaled():
    torch.manual_seed(0)
    network = DecoupledQ(3, (3, 2), 8, symlog=True)
    plain = DecoupledQ(3, (3, 2), 8)
    plain.load_state_dict(network.state_dict())
    observations = torch.randn(20, 3) * torch.tensor([0.1, 10.0, 1000.0])
    squashed = observations.sign() * observations.abs().log1p()
    network.track(observations, 1)
    plain.track(squashed, 1)
    torch.testing.assert_close(network(observations), plain(squashed))
    assert network.center.abs().max() < 8


def test_a_training_with_short_episodes_resets_earlier_and_is_evaluated_on_whole_ones(tmp_path):
    settings = replace(AHEAD, episode_steps=6)
    trainer = BehaviourTraining(TASK, settings, tmp_path, collector=in_process(settings))
    points = list(trainer.train(96, checkpoint_seconds=0))
    replay = trainer._replay
    assert (trainer.round, trainer.step, replay.rewards.shape[1]) == (4, 96, 6)
    starts = replay.observations[:4, 0].reshape(16, -1)
    assert len(np.unique(starts, axis=0)) == 16
    *_, returns, discount, later = replay.transitions(
        ReplayIndices(np.array([0]), np.array([4]), np.array([1])), n_step=3, gamma=0.5
    )  # the last transitions stop at the episode's end and bootstrap there
    np.testing.assert_allclose(returns, replay.rewards[0, 4, 1] + 0.5 * replay.rewards[0, 5, 1])
    np.testing.assert_allclose(discount, 0.25)
    np.testing.assert_array_equal(later[0], replay.observations[0, 6, 1])
    whole = in_process(settings).evaluate(
        weights_of(trainer.learner.network), 10_000 + 4, settings.evaluation_episodes
    )()
    assert points[-1].return_mean == pytest.approx(whole.mean())
    longer = replace(AHEAD, episode_steps=21)
    with pytest.raises(UserError, match="An episode of toy-4 has 20 steps, not 21"):
        BehaviourTraining(TASK, longer, tmp_path / "longer", collector=in_process(longer))


def test_choices_that_bfloat16_would_round_to_the_same_value_are_distinguished():
    torch.manual_seed(0)
    network = DecoupledQ(3, (3, 2), 8)
    last = network.body[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([5.0, 5.001, 5.002, 5.0, 5.001, 0.0])
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.randn(4, 3)).argmax(-1).tolist() == [[2, 1]] * 4


def test_an_update_minimises_the_loss_of_the_decomposed_values(tmp_path):
    trainer = BehaviourTraining(TASK, replace(TINY, learning_rate=0.0), tmp_path)
    for parameter in trainer.learner.target.parameters():
        parameter.data.add_(0.1)
    torch.manual_seed(0)
    observation, later, returns = torch.randn(64, 3), torch.randn(64, 3), torch.randn(64)
    action, discount = torch.randint(2, (64, 3)), torch.rand(64)

    def value(network, at, taken):
        return network(at)[torch.arange(64)[:, None], torch.arange(3), taken].mean(1)

    with torch.no_grad():
        best = trainer.learner.network(later).argmax(-1)
        target = returns + discount * value(trainer.learner.target, later, best)
        expected = smooth_l1_loss(value(trainer.learner.network, observation, action), target)
    torch.testing.assert_close(trainer.learner.update(observation, action, returns, discount, later), expected)
    acted = EpsilonGreedy(trainer.learner.network).act(later.numpy(), np.empty((64, 0)))
    np.testing.assert_array_equal(acted, best)


def test_every_environment_plays_a_different_episode_in_every_round():
    starts = np.concatenate([in_process().begin(round_)() for round_ in (0, 1, 0)])
    assert len(np.unique(starts, axis=0)) == 8
    np.testing.assert_array_equal(starts[:4], starts[8:])
    other = InProcessCollector(TASK, replace(AHEAD, seed=AHEAD.seed + 1).collection).begin(0)()
    assert not np.isin(other, starts).any()


def test_a_collector_acts_with_weights_that_are_one_segment_old(tmp_path):
    sent = []

    class Recording(InProcessCollector):
        def advance(self, weights, epsilons):
            sent.append((len(epsilons), weights["body.0.weight"].tobytes()))
            return super().advance(weights, epsilons)

    train_ahead(tmp_path, Recording(TASK, AHEAD.collection), steps=240)
    assert [steps for steps, _ in sent] == [7, 7, 6] * 3
    # The second round learns from its second segment on; its third segment was requested before that. The third round
    # starts with both updates; its second segment is requested before any further update, and its third segment uses
    # the updates on its first.
    numbers = [list(dict.fromkeys(weights for _, weights in sent)).index(weights) for _, weights in sent]
    assert numbers == [0, 0, 0, 0, 0, 0, 1, 1, 2]


@pytest.mark.integration
def test_any_number_of_actors_gives_the_same_bits(tmp_path):
    settings = replace(AHEAD, normalize=True, algorithm="sac")
    train_ahead(tmp_path / "here", in_process(settings), settings=settings)
    with open_collector(TASK, settings, 2) as collector:
        train_ahead(tmp_path / "there", collector, settings=settings)
    same_training(tmp_path / "here", tmp_path / "there", 5)


def test_actors_have_nothing_to_do_in_a_training_that_steps_nothing_ahead():
    with pytest.raises(UserError, match="ahead=0"), open_collector(TASK, TINY, 2):
        pass
    with pytest.raises(UserError, match="envs=3 is not a multiple"), open_collector(TASK, replace(AHEAD, envs=3), 0):
        pass


def test_a_training_with_other_settings_is_not_resumed(tmp_path):
    train(tmp_path, 40)
    with pytest.raises(UserError, match=r"other settings.*width"):
        BehaviourTraining(TASK, replace(TINY, width=9), tmp_path)


def test_the_frequency_of_evaluations_does_not_change_a_training(tmp_path):
    train(tmp_path / "often", 240)
    torch.set_num_threads(1)
    list(BehaviourTraining(TASK, TINY, tmp_path / "seldom").train(80))
    list(BehaviourTraining(TASK, replace(TINY, evaluation_rounds=2), tmp_path / "seldom").train(240))
    often, seldom = (
        {path.name: path for path in (tmp_path / name / "snapshots").iterdir()} for name in ("often", "seldom")
    )
    assert [int(name.split(".")[0]) for name in sorted(seldom)] == [40, 80, 160, 240]
    for name, path in seldom.items():
        assert path.read_bytes() == often[name].read_bytes()


def test_an_annealing_of_learning_rate_and_epsilon_may_be_added_later(tmp_path):
    """Rounds of 80 steps; an annealing from step 320 on is added after 240 steps."""
    plain = replace(AHEAD, epsilon_steps=1)
    annealed = replace(plain, anneal_from=320, anneal_steps=160)
    epsilons: list[float] = []

    class Recording(InProcessCollector):
        def advance(self, weights, later):
            epsilons.extend(later)
            return super().advance(weights, later)

    def resume(folder: Path, settings: BehaviourSettings, steps: int) -> list[float]:
        rates = []
        collector = Recording(TASK, AHEAD.collection)
        trainer = BehaviourTraining(TASK, settings, folder, collector=collector)
        for _ in trainer.train(steps, checkpoint_seconds=0):
            rates.append(trainer.learner.optimizer.param_groups[0]["lr"])
        return rates

    torch.set_num_threads(1)
    resume(tmp_path / "later", plain, 240)
    resume(tmp_path / "later", annealed, 560)
    epsilons.clear()
    rates = resume(tmp_path / "straight", annealed, 560)
    same_training(tmp_path / "straight", tmp_path / "later", 7)
    np.testing.assert_allclose(np.array(rates) / 3e-4, [1, 1, 1, 1, 1, 0.55, 0.1])
    expected = 0.05 * np.clip(1 - 0.9 * (np.arange(0, 560, 4) - 320) / 160, 0.1, 1)
    np.testing.assert_allclose(epsilons[1:], expected[1:])
    with pytest.raises(UserError, match="560 steps, so an annealing from step 320"):  # it is over
        BehaviourTraining(TASK, replace(annealed, anneal_from=400), tmp_path / "straight")
    with pytest.raises(UserError, match="from step 320"):
        BehaviourTraining(TASK, plain, tmp_path / "straight")
    resume(tmp_path / "plain", plain, 240)
    with pytest.raises(UserError, match="from step 160"):
        BehaviourTraining(TASK, replace(annealed, anneal_from=160), tmp_path / "plain")


def test_epsilon_greedy_draws_every_choice_and_only_existing_ones():
    torch.manual_seed(0)
    policy = EpsilonGreedy(DecoupledQ(3, (3, 2, 4), 8), epsilon=0.5)
    observation = np.zeros((4000, 3), np.float32)
    actions = policy.act(observation, np.random.default_rng(0).random((4000, policy.draws)))
    greedy = EpsilonGreedy(policy.network).act(observation[:1], np.empty((1, 0)))[0]
    for column, choices, best in zip(actions.T, (3, 2, 4), greedy, strict=True):
        counts = np.bincount(column, minlength=choices) / 4000
        expected = np.full(choices, 0.5 / choices)
        expected[best] += 0.5
        np.testing.assert_allclose(counts, expected, atol=0.03)


def fake_training(folder: Path, curve: dict[int, tuple[float, float]]) -> Path:
    """A training with known returns: each snapshot always takes the same choice of the toy's first two sub-actions."""
    (folder / "snapshots").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"task": "toy", "bins": 4, **asdict(TINY)}))
    with (folder / "curve.jsonl").open("w") as file:
        for step, (total, std) in curve.items():
            network = DecoupledQ(3, (3, 2, 4), TINY.width)
            last = network.body[-1]
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
            last.bias.data[int(total / 20)] = 1.0  # choice of the first sub-action; 20 steps of it
            save_file(network.state_dict(), folder / "snapshots" / f"{step:09d}.safetensors")
            file.write(json.dumps({"step": step, "return_mean": total, "return_std": std}) + "\n")
    return folder


def test_shipping_selects_by_return_and_spread(tmp_path):
    task = toy_task(steps=20, terminates=False)
    object.__setattr__(task.reference, "expert", 42.0)
    training = fake_training(tmp_path / "training", {1: (0.0, 0.0), 2: (20.0, 1.0), 3: (40.0, 0.0)})
    medium, expert = ship(task, training, folder=tmp_path / "policies", episodes=20)
    assert (medium.steps, medium.return_mean, expert.steps, expert.return_mean) == (2, 20.0, 3, 40.0)
    assert [card.level for card in list_cards(tmp_path / "policies")] == ["expert", "medium"]
    assert (medium.label, expert.label) == ("medium", "expert")  # 40 of 42
    assert replace(expert, expert_share=0.896).label == "best reached (89.6% of the expert's return)"
    assert expert.length == "3 steps"
    assert replace(expert, settings={"started_from": "1f"}).length == "3 steps after another training's"
    policy, card = load_policy(task, "expert", tmp_path / "policies")
    assert card == expert
    assert policy.act(np.zeros((1, 3), np.float32), np.empty((1, 0)))[0, 0] == 2

    weights = tmp_path / "policies/toy-4/expert.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"expert\.safetensors is not the file"):
        load_policy(task, "expert", tmp_path / "policies")
    with pytest.raises(UserError, match="train-behaviour toy --bins 4"):
        load_policy(task, "expert", tmp_path / "nowhere")


def test_a_steady_policy_with_an_unsuitable_return_is_no_better_medium():
    task = toy_task(steps=20, terminates=False)
    object.__setattr__(task.reference, "expert", 40.0)
    wanted, unsteady, poor, good = (_as_medium(*returns, task) for returns in ((19, 1), (16, 15), (13, 0), (25, 0)))
    assert wanted > unsteady > poor
    assert wanted > good


def test_only_a_medium_policy_is_shipped_as_medium(tmp_path):
    training = fake_training(tmp_path / "training", {1: (0.0, 0.0), 3: (40.0, 0.0)})
    task = toy_task(steps=20, terminates=False)
    object.__setattr__(task.reference, "expert", 400.0)
    with pytest.raises(UserError, match=r"No snapshot .* is a medium policy"):
        ship(task, training, folder=tmp_path / "policies", episodes=20)
    assert not list((tmp_path).glob("policies/**/*.json"))
