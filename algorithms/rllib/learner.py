"""The learner: K updates at a time on data that lies on its device, and evaluation of the policy as it stands."""

import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, distributed

from spin_rl.algorithms.agent import DivergedError, OfflineAgent, check_asm_data
from spin_rl.algorithms.asm_files import load_asm
from spin_rl.algorithms.batches import DeviceTransitions
from spin_rl.algorithms.evaluator import (
    EvaluationProcess,
    EvaluationRequest,
    evaluate_objective,
    give_back,
    take_process,
)
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.sharing import Share
from spin_rl.platform.asm_store import read_checkpoint
from spin_rl.platform.datasets import open_dataset

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name and plain values: everything that the next update depends on."""


class Trained(NamedTuple):
    """K updates made ahead of their turn: the state before them, and what they gave."""

    before: State
    losses: dict[str, float] | DivergedError
    seconds: float


class OfflineLearner(TorchLearner):
    """A thin shell around ``OfflineAgent``.

    RLlib's own minibatch loop costs more than a small update does, and is not used. Where there are several learners,
    each has the data and the networks, and its part of every minibatch.
    """

    agent: OfflineAgent

    def build(self) -> None:
        config: Any = self.config
        # As many threads as CPUs were asked for: more would fight with the trials beside this one, and the number of
        # threads decides how sums are rounded.
        torch.set_num_threads(config.training_threads)
        super().build()
        if config.device != "auto":
            self._device = torch.device(config.device)
        meta = config.dataset()
        root = (config.input_ if isinstance(config.input_, str) else config.input_[0]).rstrip("/").rsplit("/", 2)[0]
        self.pretrain_seconds = 0.0
        asm = None
        if get_method(config.method_name).uses_asm:
            checkpoint = read_checkpoint(Path(config.asm))
            check_asm_data(checkpoint, meta.task, meta.bins)
            asm = load_asm(Path(config.asm))
            self.pretrain_seconds = checkpoint.pretrain_seconds
        spec = config.agent_spec()
        self._share = Share(distributed.get_rank(), config.num_learners, spec.batch_size) if self.distributed else None
        objective = self.module[DEFAULT_MODULE_ID].unwrapped().objective
        self.agent = OfflineAgent(spec, self._device, asm, objective, self._share)
        self.preparation_seconds = 0.0
        self._ahead: deque[Trained] = deque()
        self._evaluator: EvaluationProcess | None = None
        # last: whatever does not fit has been found before any data is read
        dataset = open_dataset(meta.task, meta.level, bins=meta.bins, root=root, version=meta.version)
        self._data = DeviceTransitions(dataset, self._device)

    def prepare(self) -> float:
        """Do what the method does once with its data, and return the seconds that it has taken so far.

        Not when it is built: what a restored state brings along is not made again.
        """
        config: Any = self.config
        self.preparation_seconds += self.agent.prepare(self._data, config.feature_storage())
        if self._share:
            self._share.copy_first(self.agent.objective)
        return self.preparation_seconds

    def train_updates(self, updates: int) -> tuple[dict[str, float], float]:
        """Make ``updates`` policy updates; returns the mean losses and the seconds that they took.

        Raises:
            DivergedError: a loss was not finite.
        """
        if self._ahead:
            _, losses, seconds = self._ahead.popleft()
            if isinstance(losses, DivergedError):
                raise losses
            return losses, seconds
        started = time.perf_counter()
        losses = self.agent.train(self._data, updates)
        return losses, time.perf_counter() - started

    def train_ahead(self, updates: int) -> float:
        """Make ``updates`` that ``train_updates`` will return later; returns the seconds that they took.

        Until then the state is what it was before them: neither a checkpoint nor a loss shows that they have been made.
        """
        before, started = self.agent.state(), time.perf_counter()
        try:
            losses: dict[str, float] | DivergedError = self.agent.train(self._data, updates)
        except DivergedError as error:
            losses = error
        self._ahead.append(Trained(before, losses, time.perf_counter() - started))
        return self._ahead[-1].seconds

    def evaluate(self) -> dict[str, float]:
        """Evaluate the policy as it stands."""
        return asdict(evaluate_objective(self.agent.objective, self._request()))

    def start_evaluation(self) -> None:
        """Begin to evaluate the policy as it stands in another process."""
        self._evaluator = self._evaluator or take_process()
        networks = {name: value for name, value in self.agent_state()[0].items() if name.startswith("networks.")}
        self._evaluator.start(self.agent.spec, networks, self._request())

    def evaluation_done(self) -> bool:
        """Whether ``finish_evaluation`` returns at once."""
        assert self._evaluator is not None
        return self._evaluator.done()

    def finish_evaluation(self) -> dict[str, float]:
        """The result of the evaluation that was started."""
        evaluator, self._evaluator = self._evaluator, None
        assert evaluator is not None
        try:
            result = evaluator.result()
        except BaseException:
            evaluator.close()
            raise
        give_back(evaluator)
        return asdict(result)

    def _request(self) -> EvaluationRequest:
        config: Any = self.config
        task = config.task()
        return EvaluationRequest(
            task.name, task.bins, config.evaluation_episodes, config.samples_in_evaluation, str(self._device)
        )

    def agent_state(self) -> State:
        """The whole training state, its tensors on the CPU."""
        tensors, values = self._ahead[0].before if self._ahead else self.agent.state()
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, values

    def random_state(self) -> dict[str, Tensor]:
        """What differs between learners: the states of the random generators."""
        return {name: value for name, value in self.agent_state()[0].items() if name.startswith("random.")}

    def load_agent_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from what ``agent_state`` of the first learner and ``random_state`` of the others gave."""
        self._ahead.clear()
        mine = f"learner{self._share.learner}." if self._share and self._share.learner else ""
        own = {name.removeprefix(mine): value for name, value in tensors.items() if name.startswith(f"{mine}random.")}
        self.agent.load_state({**tensors, **own}, values)

    def shutdown(self) -> None:
        if self._evaluator:
            self._evaluator.close()
            self._evaluator = None
        super().shutdown()

    # What RLlib would do itself is the agent's: its optimisers, its gradients, its losses.

    def configure_optimizers(self) -> None:
        return

    def _make_modules_ddp_if_necessary(self) -> None:
        return

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        raise NotImplementedError("Losses are computed by the agent; call train_updates.")
