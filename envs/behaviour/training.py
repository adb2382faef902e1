"""Trains the behaviour policies that datasets are collected with, online and off-policy, on n-step returns.

With ``ahead`` = 0 every decision is made by the newest weights, in this process. With ``ahead`` = L a collector steps
the environments L times while the learner works on the L steps before, so both are busy; the weights that act are then
one such segment old:

    collector   segment 0 | segment 1 (weights 0) | segment 2 (weights 1) | ...
    learner     -         | updates on 0 -> 1     | updates on 1 -> 2     | ...

What is computed does not depend on how many processes the collector has, nor on which of the two is faster.
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
_LATER = {"anneal_from", "anneal_steps"}
"""Settings that say nothing of the steps before ``anneal_from``: until then they may be given anew."""
_ASIDE = {"evaluation_rounds", "evaluation_episodes"}
"""Settings that the weights do not depend on: they may be given anew at any time."""


@dataclass(frozen=True)
class Evaluation:
    """A point of the learning curve."""

    step: int
    return_mean: float
    return_std: float
    loss: float
    epsilon: float | None  # None where choices are drawn by a policy
    seconds: float
    entropy: float | None = None  # of a policy that draws, as a share of the largest
    temperature: float | None = None  # its weight beside the value


class BehaviourTraining:
    """A behaviour training in ``folder``: its curve, a snapshot per evaluation, and a checkpoint to go on from."""

    def __init__(
        self,
        task: Task,
        config: BehaviourSettings,
        folder: Path,
        *,
        collector: Collector | None = None,
        device: str | torch.device = "cpu",
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        """
        Args:
            task: the problem.
            config: a training that is there already has to have the same one, but for how it is evaluated, and for
                an annealing that it has not come to.
            folder: where it lies.
            collector: steps the environments; needed where ``config.ahead`` is not 0.
            device: where the learner works. Another one rounds differently.
            start: what the learner begins with: tensors of ``config.started_from``. A training that is there goes on
                from its checkpoint.
        """
        self.task, self.config, self.folder = task, config, folder
        self._collector, self._device = collector, torch.device(device)
        self._envs = [task.make() for _ in range(1 if config.ahead else config.envs)]
        self._nvec = nvec_of(self._envs[0])
        space: Any = self._envs[0].observation_space
        self._observation_size = int(space.shape[0])
        torch.manual_seed(config.seed)
        self.learner = LEARNERS[config.algorithm](self._observation_size, self._nvec, config, self._device)
        if start is not None:
            self.learner.begin_with(start)
        self._episode_steps = self._steps_of_an_episode()
        if config.episode_steps > self._episode_steps:
            raise UserError(
                f"An episode of {task.key} has {self._episode_steps:,} steps, not {config.episode_steps:,}."
            )
        self._episode_steps = config.episode_steps or self._episode_steps
        self._replay: RoundReplay | None = None
        self._checkpoints = Checkpoints(folder)
        self.round = 0
        self.seconds = 0.0
        if config.started_from and start is None and not self._checkpoints.round():
            raise UserError(f"{folder} has no checkpoint yet: name again what the training begins with, --start-from.")
        folder.mkdir(parents=True, exist_ok=True)
        self._check_settings()

    @property
    def step(self) -> int:
        """Environment steps so far."""
        return self.round * self.config.envs * self._episode_steps

    def train(
        self, steps: int, on_step: Callable[[int], None] | None = None, checkpoint_seconds: float = 60.0
    ) -> Iterator[Evaluation]:
        """Go on until ``steps`` environment steps are made; yields a point of the curve at each evaluation.

        A checkpoint is written at the end of a round, once ``checkpoint_seconds`` have passed since the last one.
        ``on_step`` is called with the environment steps so far.
        """
        config = self.config
        if self._replay is None:
            rounds = max(2, config.capacity // (config.envs * self._episode_steps))
            self._replay = RoundReplay(
                rounds, config.envs, self._episode_steps, self._observation_size, len(self._nvec)
            )
            self._restore()
        checkpointed = time.perf_counter()
        while self.step < steps:
            started = time.perf_counter()
            seed = np.random.SeedSequence((config.seed, self.round)).generate_state(1)
            self.learner.begin_round(config.learning_rate * self._annealing(self.step), int(seed[0]))
            run = self._round_ahead if config.ahead else self._round_step_by_step
            loss, epsilon = run(self._replay, on_step or (lambda _: None))
            self.round += 1
            if config.normalize and not config.started_from:  # weights that it starts with go with their scale
                self.learner.track(torch.from_numpy(self._replay.newest).to(self._device), self.round)
            self.seconds += time.perf_counter() - started
            if self.round % config.evaluation_rounds == 0 or self.step >= steps:
                yield self._evaluate(loss, epsilon)
            if time.perf_counter() - checkpointed >= checkpoint_seconds or self.step >= steps:
                self._checkpoint()
                checkpointed = time.perf_counter()

    def _round_step_by_step(self, replay: RoundReplay, on_step: Callable[[int], None]) -> tuple[float, float]:
        """One episode of every environment, with its updates; all randomness is a function of (seed, round)."""
        config = self.config
        generator = np.random.default_rng((config.seed, self.round))
        seeds = generator.integers(2**31, size=config.envs)
        replay.begin_round(
            np.stack([env.reset(seed=int(seed))[0] for env, seed in zip(self._envs, seeds, strict=True)])
        )
        losses: list[Tensor] = []
        for index in range(self._episode_steps):
            policy = config.collection.policy(self.learner.network, self._epsilon(index))
            action = policy.act(replay.newest[index], generator.random((config.envs, policy.draws)))
            results = [env.step(row) for env, row in zip(self._envs, action, strict=True)]
            refuse_termination(self.task, results)
            replay.append(
                action,
                np.array([reward for _, reward, *_ in results], np.float32),
                np.stack([row for row, *_ in results]),
            )
            if self._learns(index):
                for _ in range(config.envs // config.steps_per_update):
                    losses += self._updates(replay, generator, 1)
            on_step(self.step + (index + 1) * config.envs)
        return float(torch.stack(losses).mean()) if losses else 0.0, self._epsilon(self._episode_steps - 1)

    def _round_ahead(self, replay: RoundReplay, on_step: Callable[[int], None]) -> tuple[float, float]:
        """The same with a collector that works ahead, but not past the round's end: a checkpoint is taken there."""
        config = self.config
        collector = self._collector
        assert collector is not None, "a training with ahead > 0 needs a collector"
        generator = np.random.default_rng((config.seed, self.round, 0))  # the groups have 1, 2, ...
        segments = [
            range(first, min(first + config.ahead, self._episode_steps))
            for first in range(0, self._episode_steps, config.ahead)
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
            if self._learns(segment.start):
                losses += self._updates(replay, generator, len(segment) * config.envs // config.steps_per_update)
            on_step(self.step + segment.stop * config.envs)
        return float(torch.stack(losses).mean()) if losses else 0.0, self._epsilon(segments[-1][-1])

    def _epsilon(self, index: int) -> float:
        """Of the round's step ``index``."""
        made = self.step + index * self.config.envs
        return max(self.config.epsilon_final, 1.0 - made / self.config.epsilon_steps) * self._annealing(made)

    def _annealing(self, made: int) -> float:
        """Share of learning rate and epsilon that is left after ``made`` environment steps."""
        config = self.config
        over = max(0, made - config.anneal_from) / config.anneal_steps if config.anneal_steps else 0.0
        return max(_ANNEALED, 1.0 - (1.0 - _ANNEALED) * over)

    def _learns(self, index: int) -> bool:
        """The memory has enough for updates at the round's step ``index``."""
        return self.step + index * self.config.envs >= self.config.warmup_steps

    def _updates(self, replay: RoundReplay, generator: np.random.Generator, count: int) -> list[Tensor]:
        """The losses of ``count`` updates, whose batches are drawn and sent to the device together."""
        config = self.config
        drawn = replay.draw(generator, count * config.batch_size)
        arrays = replay.transitions(drawn, config.n_step, config.gamma)
        batches = [torch.from_numpy(array).to(self._device).split(config.batch_size) for array in arrays]
        return [self.learner.update(*batch) for batch in zip(*batches, strict=True)]

    def _evaluate(self, loss: float, epsilon: float) -> Evaluation:
        returns = self._play(10_000 + self.round, self.config.evaluation_episodes)
        point = Evaluation(
            step=self.step,
            return_mean=float(returns.mean()),
            return_std=float(returns.std()),
            loss=loss,
            epsilon=None if self.config.collection.drawn else epsilon,
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
        """Returns of greedy episodes."""
        if self._collector and self.config.ahead:
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
        settings = {"task": self.task.name, "bins": self.task.bins, **asdict(self.config)}
        found = asdict(BehaviourSettings()) | json.loads(path.read_text()) if path.exists() else settings
        differing = {key for key in settings if found.get(key) != settings[key]} - _ASIDE
        if differing and differing <= _LATER:
            made = self._checkpoints.round() * self.config.envs * self._episode_steps
            for which in (found, settings):
                if which["anneal_steps"] and which["anneal_from"] < made:
                    raise UserError(
                        f"{self.folder} holds a behaviour training of {made:,} steps, and an annealing from step "
                        f"{which['anneal_from']:,} on can neither be added nor taken back: let it begin later, with "
                        "more --steps or a smaller --anneal, or leave --anneal out."
                    )
        elif differing:
            raise UserError(
                f"{self.folder} holds a behaviour training with other settings ({', '.join(sorted(differing))}); "
                "name another folder or delete it."
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
        curve = self.folder / "curve.jsonl"  # points after the checkpoint are made again
        if curve.exists():
            kept = [line for line in curve.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            curve.write_text("".join(line + "\n" for line in kept))
