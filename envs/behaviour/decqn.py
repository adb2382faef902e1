"""Online DecQN (Seyde et al. 2023, arXiv 2210.12566): trains the behaviour policies that datasets are collected with.

Double Q-learning on decoupled utilities, n-step returns, Huber loss, the decomposed target formed with the mean over
sub-actions, Polyak-averaged target network, epsilon-greedy exploration.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from spin_rl.envs.behaviour.network import DecoupledQ, EpsilonGreedy
from spin_rl.envs.behaviour.replay import RoundReplay
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.envs.errors import UserError
from spin_rl.envs.optimizer_state import load_optimizer_tensors, optimizer_tensors
from spin_rl.envs.rollout import rollout


@dataclass(frozen=True)
class DecQNConfig:
    """Settings of a behaviour training; a run is a function of these and the task."""

    seed: int = 0
    envs: int = 8  # stepped side by side
    width: int = 512
    learning_rate: float = 3e-4
    batch_size: int = 256
    gamma: float = 0.99
    n_step: int = 3
    target_rate: float = 0.005
    steps_per_update: int = 4
    warmup_steps: int = 8_000
    epsilon_final: float = 0.05
    epsilon_steps: int = 64_000  # over which epsilon falls from 1 to its final value
    capacity: int = 1_000_000  # environment steps held in the replay memory
    evaluation_rounds: int = 2
    evaluation_episodes: int = 10
    bfloat16: bool = True  # forward passes; about twice as fast as float32 on a CPU that has the instructions


@dataclass(frozen=True)
class Evaluation:
    """A point of the learning curve."""

    step: int
    return_mean: float
    return_std: float
    loss: float
    epsilon: float
    seconds: float


class DecQN:
    """A behaviour training in ``folder``: its curve, a snapshot per evaluation, and a checkpoint to go on from.

    checkpoint/progress.json             the round that the checkpoint is of, written last
    checkpoint/state-<round>.safetensors networks and optimiser
    checkpoint/replay/<round>.npz        each round held in the replay memory, written once
    """

    def __init__(self, task: Task, config: DecQNConfig, folder: Path) -> None:
        self.task, self.config, self.folder = task, config, folder
        self._envs = [task.make() for _ in range(config.envs)]
        self._nvec = nvec_of(self._envs[0])
        space: Any = self._envs[0].observation_space
        self._observation_size = int(space.shape[0])
        torch.manual_seed(config.seed)
        self.network = DecoupledQ(self._observation_size, self._nvec, config.width)
        self.target = DecoupledQ(self._observation_size, self._nvec, config.width)
        self.target.load_state_dict(self.network.state_dict())
        self._optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate, fused=True)
        self._episode_steps = self._steps_of_an_episode()
        self._replay: RoundReplay | None = None
        self.round = 0
        self.seconds = 0.0
        self._kept = 0  # rounds whose data the checkpoint holds
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
            loss, epsilon = self._run_round(self._replay, on_step)
            self.round += 1
            self.seconds += time.perf_counter() - started
            if self.round % config.evaluation_rounds == 0 or self.step >= steps:
                yield self._evaluate(loss, epsilon)
            if time.perf_counter() - checkpointed >= checkpoint_seconds or self.step >= steps:
                self._checkpoint(self._replay)
                checkpointed = time.perf_counter()

    def _run_round(self, replay: RoundReplay, on_step: Callable[[int], None] | None) -> tuple[float, float]:
        """One episode of every environment, with its updates; all randomness is a function of (seed, round)."""
        config = self.config
        generator = np.random.default_rng((config.seed, self.round))
        seeds = generator.integers(2**31, size=config.envs)
        replay.begin_round(
            np.stack([env.reset(seed=int(seed))[0] for env, seed in zip(self._envs, seeds, strict=True)])
        )
        policy = EpsilonGreedy(self.network)
        losses: list[Tensor] = []
        for index in range(self._episode_steps):
            made = self.step + index * config.envs
            policy.epsilon = max(config.epsilon_final, 1.0 - made / config.epsilon_steps)
            observation = replay.observations[(replay.rounds - 1) % len(replay.rewards), index]
            action = policy.act(observation, generator.random((config.envs, policy.draws)))
            results = [env.step(row) for env, row in zip(self._envs, action, strict=True)]
            if any(terminated for _, _, terminated, _, _ in results):
                raise UserError(f"{self.task.key} terminates episodes; DecQN trains on tasks of a fixed length only.")
            replay.append(
                action,
                np.array([reward for _, reward, *_ in results], np.float32),
                np.stack([row for row, *_ in results]),
            )
            if made >= config.warmup_steps:
                losses += [self._update(replay, generator) for _ in range(config.envs // config.steps_per_update)]
            if on_step:
                on_step(config.envs)
        loss = float(torch.stack(losses).mean()) if losses else 0.0
        return loss, policy.epsilon

    def _update(self, replay: RoundReplay, generator: np.random.Generator) -> Tensor:
        """One step on Huber(mean_i U_i(s, a_i) - (G_n + gamma^n mean_i U'_i(s_n, argmax_c U_i(s_n, c))))."""
        config = self.config
        observation, action, returns, discount, then = (
            torch.from_numpy(array)
            for array in replay.sample(generator, config.batch_size, config.n_step, config.gamma)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            with torch.no_grad():
                best = self.network(then).argmax(-1, keepdim=True)  # (B, N, 1)
                value = self.target(then).gather(-1, best).mean((1, 2))
            predicted = self.network(observation).gather(-1, action[..., None]).mean((1, 2))
        loss = smooth_l1_loss(predicted, returns + discount * value)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.network.parameters()), config.target_rate)
        return loss.detach()

    def _evaluate(self, loss: float, epsilon: float) -> Evaluation:
        result = rollout(
            self.task.make,
            EpsilonGreedy(self.network),
            episodes=self.config.evaluation_episodes,
            seed=10_000 + self.round,
        )
        point = Evaluation(
            step=self.step,
            return_mean=float(result.returns.mean()),
            return_std=float(result.returns.std()),
            loss=loss,
            epsilon=epsilon,
            seconds=self.seconds,
        )
        snapshots = self.folder / "snapshots"
        snapshots.mkdir(exist_ok=True)
        save_file(self.network.state_dict(), snapshots / f"{self.step:09d}.safetensors")
        with (self.folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(asdict(point)) + "\n")
        return point

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
        found = json.loads(path.read_text()) if path.exists() else settings
        if differing := sorted(key for key in settings if found.get(key) != settings[key]):
            raise UserError(
                f"{self.folder} holds a behaviour training with other settings ({', '.join(differing)}); "
                "name another folder or delete it."
            )
        path.write_text(json.dumps(settings, indent=2))

    def _checkpoint(self, replay: RoundReplay) -> None:
        """Write what is new beside the old; progress.json, replaced at once, says which of it counts."""
        folder = self.folder / "checkpoint"
        (folder / "replay").mkdir(parents=True, exist_ok=True)
        for number, arrays in replay.held().items():
            path = folder / "replay" / f"{number:06d}.npz"
            if number >= self._kept:  # what lies there under such a number is of a sitting that was killed
                np.savez(_unfinished(path), **arrays)  # type: ignore[arg-type]
                _finish(path)
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"target.{key}": value for key, value in self.target.state_dict().items()}
        tensors |= optimizer_tensors(self._optimizer, "optimizer.")
        state, progress = folder / f"state-{self.round:06d}.safetensors", folder / "progress.json"
        save_file(tensors, _unfinished(state))
        _finish(state)
        _unfinished(progress).write_text(json.dumps({"round": self.round, "seconds": self.seconds}))
        _finish(progress)
        self._kept = self.round
        for path in folder.glob("state-*.safetensors"):
            if path != state:
                path.unlink()
        oldest = min(replay.held())
        for path in (folder / "replay").glob("[0-9]*.npz"):
            if int(path.stem) < oldest:
                path.unlink()

    def _restore(self) -> None:
        folder = self.folder / "checkpoint"
        if not (folder / "progress.json").exists():
            return
        progress = json.loads((folder / "progress.json").read_text())
        self.round, self.seconds = progress["round"], progress["seconds"]
        tensors = load_file(folder / f"state-{self.round:06d}.safetensors")
        for prefix, module in (("network.", self.network), ("target.", self.target)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        load_optimizer_tensors(self._optimizer, tensors, "optimizer.")
        assert self._replay is not None
        for number in range(max(0, self.round - self._replay.capacity), self.round):
            with np.load(folder / "replay" / f"{number:06d}.npz", allow_pickle=False) as arrays:
                self._replay.put(number, dict(arrays))
        self._kept = self.round
        curve = self.folder / "curve.jsonl"  # points after the checkpoint are made again
        if curve.exists():
            kept = [line for line in curve.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            curve.write_text("".join(line + "\n" for line in kept))


def _unfinished(path: Path) -> Path:
    return path.with_name(f"new-{path.name}")


def _finish(path: Path) -> None:
    """Give a file that is written its name, once it is on the disk."""
    with _unfinished(path).open("rb") as file:
        os.fsync(file.fileno())
    _unfinished(path).replace(path)
