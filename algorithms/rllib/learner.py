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

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.evaluation.evaluator import (
    EvaluationProcess,
    EvaluationRequest,
    evaluate_objective,
    give_back,
    take_process,
)
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.training.agent import DivergedError, OfflineAgent, check_asm_data
from spin_rl.algorithms.training.data_parallel import Share
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.platform.asm_store.store import read_checkpoint
from spin_rl.platform.datasets import open_dataset

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name and plain values: everything that the next update depends on."""


Losses = list[dict[str, float]]
"""Mean losses of every seed."""


class Trained(NamedTuple):
    """K updates made ahead of their turn: the states before them, and what they gave."""

    before: list[State]
    losses: Losses | DivergedError
    seconds: float


def keep_to_share(device: torch.device, gpus: float) -> None:
    """Limit this process to its share of the GPU's memory: Ray counts fractions of a GPU, but keeps nobody to them."""
    if device.type == "cuda" and 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus, device)


class OfflineLearner(TorchLearner):
    """A thin shell around ``OfflineAgent``, or around several that differ in their seeds and are trained at once.

    RLlib's own minibatch loop costs more than a small update does, and is not used. Where there are several learners,
    each has the data and the networks, and its part of every minibatch. What is a list here has an entry for each seed.
    """

    agents: list[OfflineAgent]

    def build(self) -> None:
        config: Any = self.config
        # As many threads as CPUs were asked for: more would fight with the trials beside this one, and the number of
        # threads decides how sums are rounded.
        torch.set_num_threads(config.training_threads)
        super().build()
        if config.device != "auto":
            self._device = torch.device(config.device)
        keep_to_share(self._device, config.num_gpus_per_learner)
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
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        self._together: SeedsAgent | None = None
        if len(config.seeds) > 1:
            self._together = SeedsAgent(spec, config.seeds, self._device, asm)
            self.agents = self._together.agents
            module.objective = self.agents[0].objective
        else:
            self.agents = [OfflineAgent(spec, self._device, asm, module.objective, self._share)]
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
        agent = self._together or self.agents[0]
        self.preparation_seconds += agent.prepare(self._data, config.feature_storage())
        if self._share:
            self._share.copy_first(self.agents[0].objective)
        return self.preparation_seconds

    def train_updates(self, updates: int) -> tuple[Losses, float]:
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
        return self._train(updates), time.perf_counter() - started

    def _train(self, updates: int) -> Losses:
        if self._together:
            return self._together.train(self._data, updates)
        return [self.agents[0].train(self._data, updates)]

    def train_ahead(self, updates: int) -> float:
        """Make ``updates`` that ``train_updates`` will return later; returns the seconds that they took.

        Until then the state is what it was before them: neither a checkpoint nor a loss shows that they have been made.
        """
        before, started = self._states(), time.perf_counter()
        try:
            losses: Losses | DivergedError = self._train(updates)
        except DivergedError as error:
            losses = error
        self._ahead.append(Trained(before, losses, time.perf_counter() - started))
        return self._ahead[-1].seconds

    def evaluate(self) -> list[dict[str, float]]:
        """Evaluate the policy as it stands."""
        return [asdict(evaluate_objective(agent.objective, self._request())) for agent in self.agents]

    def start_evaluation(self) -> None:
        """Begin to evaluate the policy as it stands in another process."""
        self._evaluator = self._evaluator or take_process()
        snapshots = [
            (agent.spec, {name: value for name, value in tensors.items() if name.startswith("networks.")})
            for agent, (tensors, _) in zip(self.agents, self.agent_states(), strict=True)
        ]
        self._evaluator.start(snapshots, self._request())

    def evaluation_done(self) -> bool:
        """Whether ``finish_evaluation`` returns at once."""
        assert self._evaluator is not None
        return self._evaluator.done()

    def finish_evaluation(self) -> list[dict[str, float]]:
        """The results of the evaluation that was started."""
        evaluator, self._evaluator = self._evaluator, None
        assert evaluator is not None
        try:
            results = evaluator.results()
        except BaseException:
            evaluator.close()
            raise
        give_back(evaluator)
        return [asdict(result) for result in results]

    def _request(self) -> EvaluationRequest:
        config: Any = self.config
        task = config.task()
        return EvaluationRequest(
            task.name, task.bins, config.evaluation_episodes, config.samples_in_evaluation, str(self._device)
        )

    def agent_states(self) -> list[State]:
        """The whole training state of every seed, its tensors on the CPU."""
        states = self._ahead[0].before if self._ahead else self._states()
        return [
            ({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, values)
            for tensors, values in states
        ]

    def _states(self) -> list[State]:
        return self._together.states() if self._together else [self.agents[0].state()]

    def random_state(self) -> dict[str, Tensor]:
        """What differs between learners: the states of the random generators."""
        return {name: value for name, value in self.agent_states()[0][0].items() if name.startswith("random.")}

    def load_agent_states(self, states: list[State]) -> None:
        """Go on from what ``agent_states`` of the first learner and ``random_state`` of the others gave."""
        self._ahead.clear()
        if self._together:
            self._together.load_states(states)
            return
        tensors, values = states[0]
        mine = f"learner{self._share.learner}." if self._share and self._share.learner else ""
        own = {name.removeprefix(mine): value for name, value in tensors.items() if name.startswith(f"{mine}random.")}
        self.agents[0].load_state({**tensors, **own}, values)

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
