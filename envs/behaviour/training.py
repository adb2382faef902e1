"""Trains the behaviour policies that collect datasets: online, off-policy, on n-step returns.

With ``ahead`` = 0 every decision is made with the newest weights, in this process. With ``ahead`` = L a collector makes
L steps (a segment) in every environment while the learner works on the segment before, so both are busy; the acting
weights are then one segment old:

    collector   segment 0 | segment 1 (weights 0) | segment 2 (weights 1) | ...
    learner     -         | updates on 0 -> 1     | updates on 1 -> 2     | ...

The results depend neither on the number of the collector's processes nor on which of the two is faster.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from spin_rl.envs.behaviour.checkpoint import Checkpoints
from spin_rl.envs.behaviour.collectors import Collector, Segment, refuse_termination, weights_of
from spin_rl.envs.behaviour.decqn import DecQN
from spin_rl.envs.behaviour.learner import Learner
from spin_rl.envs.behaviour.network import EpsilonGreedy
from spin_rl.envs.behaviour.replay import RoundReplay
from spin_rl.envs.behaviour.sac import FactoredSAC
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.envs.rollout import rollout
from spin_rl.errors import UserError

LEARNERS: dict[str, Callable[[int, Sequence[int], BehaviourSettings, torch.device], Learner]] = {
    "decqn": DecQN,
    "sac": FactoredSAC,
}

_ANNEALED = 0.1
"""Factor that annealing reduces learning rate and epsilon to."""

_ANNEALING_SETTINGS = {"anneal_from", "anneal_steps"}
"""Settings that have no effect before ``anneal_from``: until then they may be changed."""

_EVALUATION_SETTINGS = {"evaluation_rounds", "evaluation_episodes"}
"""Settings that the weights do not depend on: they may be changed at any time."""


@dataclass(frozen=True)
class Evaluation:
    """A point of the learning curve."""

    step: int
    return_mean: float
    return_std: float  # over the episodes
    loss: float  # mean of the round's updates
    epsilon: float | None  # None if choices are sampled from a policy
    seconds: float  # of training so far, without evaluations
    entropy: float | None = None  # of a sampled policy, as a fraction of the largest possible
    temperature: float | None = None  # weight of the entropy relative to the value


class BehaviourTraining:
    """A behaviour training in ``folder``: its curve, a snapshot per evaluation, and a checkpoint to resume from."""

    def __init__(
        self,
        task: Task,
        settings: BehaviourSettings,
        folder: Path,
        *,
        collector: Collector | None = None,
        device: str | torch.device = "cpu",
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        """
        Args:
            task: the problem.
            settings: must be the same when a training is resumed, except those of evaluations and those of an
                annealing that has not started yet.
            folder: of the training; a checkpoint in it is resumed.
            collector: steps the environments; needed unless ``settings.ahead`` is 0.
            device: of the learner. Different devices round differently.
            start: initial tensors of the learner, those of ``settings.started_from``; a resumed training ignores them.

        Raises:
            UserError: the folder holds a training with other settings, or the settings do not fit the task.
        """
        self.task, self.settings, self.folder = task, settings, folder
        self._collector, self._device = collector, torch.device(device)
        self._envs = [task.make() for _ in range(1 if settings.ahead else settings.envs)]
        self._nvec = nvec_of(self._envs[0])
        space: Any = self._envs[0].observation_space
        self._observation_size = int(space.shape[0])
        torch.manual_seed(settings.seed)
        self.learner = LEARNERS[settings.algorithm](self._observation_size, self._nvec, settings, self._device)
        if start is not None:
            self.learner.initialize_from(start)
        self._episode_steps = self._steps_of_an_episode()
        if settings.episode_steps > self._episode_steps:
            raise UserError(
                f"An episode of {task.key} has {self._episode_steps:,} steps, not {settings.episode_steps:,}."
            )
        self._episode_steps = settings.episode_steps or self._episode_steps
        self._replay: RoundReplay | None = None
        self._checkpoints = Checkpoints(folder)
        self.round = 0
        self.seconds = 0.0
        if settings.started_from and start is None and not self._checkpoints.round():
            raise UserError(f"{folder} has no checkpoint yet: give --start-from again, as when the training started.")
        folder.mkdir(parents=True, exist_ok=True)
        self._check_settings()

    @property
    def step(self) -> int:
        """Environment steps so far."""
        return self.round * self.settings.envs * self._episode_steps

    def train(
        self, steps: int, on_step: Callable[[int], None] | None = None, checkpoint_seconds: float = 60.0
    ) -> Iterator[Evaluation]:
        """Train until ``steps`` environment steps have been made; yields a point of the curve at each evaluation.

        Args:
            steps: in all, including those of a training that is resumed.
            on_step: called with the environment steps so far.
            checkpoint_seconds: a checkpoint is written at the end of a round once so much time has passed.
        """
        settings = self.settings
        if self._replay is None:
            rounds = max(2, settings.capacity // (settings.envs * self._episode_steps))
            self._replay = RoundReplay(
                rounds, settings.envs, self._episode_steps, self._observation_size, len(self._nvec)
            )
            self._restore()
        checkpointed = time.perf_counter()
        while self.step < steps:
            started = time.perf_counter()
            seed = np.random.SeedSequence((settings.seed, self.round)).generate_state(1)
            self.learner.begin_round(settings.learning_rate * self._annealing(self.step), int(seed[0]))
            run = self._round_ahead if settings.ahead else self._round_step_by_step
            loss, epsilon = run(self._replay, on_step or (lambda _: None))
            self.round += 1
            if settings.normalize and not settings.started_from:  # initial weights of a training keep its scaling
                self.learner.track(torch.from_numpy(self._replay.latest_observations).to(self._device), self.round)
            self.seconds += time.perf_counter() - started
            if self.round % settings.evaluation_rounds == 0 or self.step >= steps:
                yield self._evaluate(loss, epsilon)
            if time.perf_counter() - checkpointed >= checkpoint_seconds or self.step >= steps:
                self._checkpoint()
                checkpointed = time.perf_counter()

    def _round_step_by_step(self, replay: RoundReplay, on_step: Callable[[int], None]) -> tuple[float, float]:
        """One episode of every environment, with its updates; all randomness is a function of (seed, round).

        Returns:
            Mean loss of the updates, and epsilon at the end.
        """
        settings = self.settings
        generator = np.random.default_rng((settings.seed, self.round))
        seeds = generator.integers(2**31, size=settings.envs)
        replay.begin_round(
            np.stack([env.reset(seed=int(seed))[0] for env, seed in zip(self._envs, seeds, strict=True)])
        )
        losses: list[Tensor] = []
        for index in range(self._episode_steps):
            policy = settings.collection.policy(self.learner.network, self._epsilon(index))
            action = policy.act(replay.latest_observations[index], generator.random((settings.envs, policy.draws)))
            results = [env.step(row) for env, row in zip(self._envs, action, strict=True)]
            refuse_termination(self.task, results)
            replay.append(
                action,
                np.array([reward for _, reward, *_ in results], np.float32),
                np.stack([row for row, *_ in results]),
            )
            if self._is_warm(index):
                for _ in range(settings.envs // settings.steps_per_update):
                    losses += self._updates(replay, generator, 1)
            on_step(self.step + (index + 1) * settings.envs)
        return float(torch.stack(losses).mean()) if losses else 0.0, self._epsilon(self._episode_steps - 1)

    def _round_ahead(self, replay: RoundReplay, on_step: Callable[[int], None]) -> tuple[float, float]:
        """The same with a collector that works ahead, but only to the end of the round, where checkpoints are taken."""
        settings = self.settings
        collector = self._collector
        assert collector is not None, "a training with ahead > 0 needs a collector"
        generator = np.random.default_rng((settings.seed, self.round, 0))  # the groups use 1, 2, ...
        segments = [
            range(first, min(first + settings.ahead, self._episode_steps))
            for first in range(0, self._episode_steps, settings.ahead)
        ]

        def collect(segment: range) -> Callable[[], Segment]:
            return collector.advance(weights_of(self.learner.network), [self._epsilon(index) for index in segment])

        replay.begin_round(collector.begin(self.round)())
        collected = collect(segments[0])
        losses: list[Tensor] = []
        for number, segment in enumerate(segments):
            steps = collected()
            if number + 1 < len(segments):
                collected = collect(segments[number + 1])
            for action, reward, observation in zip(*steps, strict=True):
                replay.append(action, reward, observation)
            if self._is_warm(segment.start):
                losses += self._updates(replay, generator, len(segment) * settings.envs // settings.steps_per_update)
            on_step(self.step + segment.stop * settings.envs)
        return float(torch.stack(losses).mean()) if losses else 0.0, self._epsilon(segments[-1][-1])

    def _epsilon(self, index: int) -> float:
        """Exploration rate at step ``index`` of the round."""
        made = self.step + index * self.settings.envs
        return max(self.settings.epsilon_final, 1.0 - made / self.settings.epsilon_steps) * self._annealing(made)

    def _annealing(self, made: int) -> float:
        """Multiplier of learning rate and epsilon after ``made`` environment steps."""
        settings = self.settings
        progress = max(0, made - settings.anneal_from) / settings.anneal_steps if settings.anneal_steps else 0.0
        return max(_ANNEALED, 1.0 - (1.0 - _ANNEALED) * progress)

    def _is_warm(self, index: int) -> bool:
        """Whether the memory holds enough for updates at step ``index`` of the round."""
        return self.step + index * self.settings.envs >= self.settings.warmup_steps

    def _updates(self, replay: RoundReplay, generator: np.random.Generator, count: int) -> list[Tensor]:
        """Losses of ``count`` updates; their batches are drawn and sent to the device together."""
        settings = self.settings
        indices = replay.sample(generator, count * settings.batch_size)
        arrays = replay.transitions(indices, settings.n_step, settings.gamma)
        batches = [torch.from_numpy(array).to(self._device).split(settings.batch_size) for array in arrays]
        return [self.learner.update(*batch) for batch in zip(*batches, strict=True)]

    def _evaluate(self, loss: float, epsilon: float) -> Evaluation:
        returns = self._play(10_000 + self.round, self.settings.evaluation_episodes)
        point = Evaluation(
            step=self.step,
            return_mean=float(returns.mean()),
            return_std=float(returns.std()),
            loss=loss,
            epsilon=None if self.settings.collection.sampled else epsilon,
            seconds=self.seconds,
            **self.learner.measures(),
        )
        snapshots = self.folder / "snapshots"
        snapshots.mkdir(exist_ok=True)
        save_file(self.learner.network.state_dict(), snapshots / f"{self.step:09d}.safetensors")
        with (self.folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(asdict(point)) + "\n")
        return point

    def _play(self, seed: int, episodes: int) -> NDArray[np.float64]:
        """Returns (episodes,) of greedy episodes."""
        if self._collector and self.settings.ahead:
            return self._collector.evaluate(weights_of(self.learner.network), seed, episodes)()
        return rollout(self.task.make, EpsilonGreedy(self.learner.network), episodes=episodes, seed=seed).returns

    def _steps_of_an_episode(self) -> int:
        env = self._envs[0]
        env.reset(seed=0)
        action = np.zeros(len(self._nvec), np.int64)
        steps, over = 0, False
        while not over:
            _, _, terminated, truncated, _ = env.step(action)
            steps, over = steps + 1, terminated or truncated
        return steps

    def _check_settings(self) -> None:
        path = self.folder / "config.json"
        settings = {"task": self.task.name, "bins": self.task.bins, **asdict(self.settings)}
        found = json.loads(path.read_text()) if path.exists() else settings
        differing = {key for key in settings if found.get(key) != settings[key]} - _EVALUATION_SETTINGS
        if differing and differing <= _ANNEALING_SETTINGS:
            made = self._checkpoints.round() * self.settings.envs * self._episode_steps
            for which in (found, settings):
                if which["anneal_steps"] and which["anneal_from"] < made:
                    raise UserError(
                        f"{self.folder} holds a behaviour training of {made:,} steps, so an annealing from step "
                        f"{which['anneal_from']:,} on can neither be added nor removed: start it later, with more "
                        "--steps or a smaller --anneal, or leave --anneal out."
                    )
        elif differing:
            raise UserError(
                f"{self.folder} holds a behaviour training with other settings ({', '.join(sorted(differing))}); "
                "use another folder or delete it."
            )
        path.write_text(json.dumps(settings, indent=2))

    def _checkpoint(self) -> None:
        assert self._replay is not None
        self._checkpoints.write(self.round, self.seconds, self.learner.tensors(), self._replay)

    def _restore(self) -> None:
        assert self._replay is not None
        found = self._checkpoints.read(self._replay)
        if found is None:
            return
        self.round, self.seconds, tensors = found
        self.learner.load_tensors(tensors)
        curve = self.folder / "curve.jsonl"  # points after the checkpoint will be computed again
        if curve.exists():
            kept = [line for line in curve.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            curve.write_text("".join(line + "\n" for line in kept))
