"""The learner: K updates at a time on data that lies on its device, and the networks that are evaluated."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, distributed

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.cloning.files import load_clone
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.evaluation.evaluator import EvaluationRequest, Snapshot, evaluate_objective
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.rllib.ahead import Losses, State, UpdatesAhead
from spin_rl.algorithms.settings import TrainingSettings
from spin_rl.algorithms.training.agent import OfflineAgent, check_asm_data
from spin_rl.algorithms.training.data_parallel import Share
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.platform.asm_store.store import read_checkpoint
from spin_rl.platform.datasets import open_dataset

_NETWORKS = "networks."
"""What the names of the networks' tensors begin with in a state."""


def keep_to_share(device: torch.device, gpus: float) -> None:
    """Limit this process to its share of the GPU's memory: Ray counts fractions of a GPU, but enforces none."""
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
        settings: TrainingSettings = config.settings
        # As many threads as CPUs were asked for: more would compete with the trials beside this one, and the number of
        # threads decides how sums are rounded.
        torch.set_num_threads(config.training_threads)
        super().build()
        if settings.device != "auto":
            self._device = torch.device(settings.device)
        keep_to_share(self._device, settings.num_gpus_per_learner)
        meta = settings.dataset()
        self.pretrain_seconds = 0.0
        asm: ActionStructureModel | Policy | None = None
        method = get_method(settings.method_name)
        if method.pretrained:
            folder = Path(settings.pretrained_model or "")
            checkpoint = read_checkpoint(folder)
            check_asm_data(checkpoint, meta.task, meta.bins)
            asm = load_clone(folder) if method.uses_clone else load_asm(folder)
            self.pretrain_seconds = checkpoint.pretrain_seconds
        spec = settings.agent_spec()
        self._share = (
            Share(distributed.get_rank(), settings.num_learners, spec.batch_size) if self.distributed else None
        )
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        self._together: SeedsAgent | None = None
        if len(settings.seeds) > 1:
            self._together = SeedsAgent(spec, settings.seeds, self._device, asm)
            self.agents = self._together.agents
            module.objective = self.agents[0].objective
        else:
            self.agents = [OfflineAgent(spec, self._device, asm, module.objective, self._share)]
        self.preparation_seconds = 0.0
        self._ahead = UpdatesAhead(self._train, self._states)
        self._request = EvaluationRequest(
            meta.task,
            meta.bins,
            settings.evaluation_episodes,
            settings.samples_in_evaluation,
            str(self._device),
        )
        # last: whatever does not fit has been found before any data is read
        dataset = open_dataset(meta.task, meta.level, bins=meta.bins, root=settings.dataset_root, version=meta.version)
        self._data = DeviceTransitions(dataset, self._device)

    def prepare(self) -> float:
        """Do what the method does once with its data, and return the seconds that it has taken so far.

        Not part of ``build``: what a restored state holds is not made again.
        """
        config: Any = self.config
        agent = self._together or self.agents[0]
        self.preparation_seconds += agent.prepare(self._data, config.settings.feature_storage())
        if self._share:
            self._share.copy_first(self.agents[0].objective)
        return self.preparation_seconds

    def train_updates(self, updates: int) -> tuple[Losses, float]:
        """Make ``updates`` policy updates; returns the mean losses and the seconds that they took.

        Raises:
            DivergedError: a loss was not finite.
        """
        if self._ahead.updates:
            return self._ahead.take()
        started = time.perf_counter()
        return self._train(updates), time.perf_counter() - started

    def train_ahead(self, updates: int) -> tuple[int, float]:
        """Make ``updates`` that ``train_updates`` will return later.

        Returns:
            How many have been made ahead by now, and the seconds that these took.
        """
        seconds = self._ahead.make(updates)
        return self._ahead.updates, seconds

    def updates_ahead(self) -> int:
        """Updates that have been made beyond those that iterations have reported."""
        return self._ahead.updates

    def _train(self, updates: int) -> Losses:
        if self._together:
            return self._together.train(self._data, updates)
        return [self.agents[0].train(self._data, updates)]

    def snapshots(self) -> list[Snapshot]:
        """The networks of every seed, on the CPU."""
        return [
            Snapshot(
                agent.spec,
                {name.removeprefix(_NETWORKS): t for name, t in tensors.items() if name.startswith(_NETWORKS)},
            )
            for agent, (tensors, _) in zip(self.agents, self.agent_states(), strict=True)
        ]

    def evaluation_request(self) -> EvaluationRequest:
        """How its networks are evaluated."""
        return self._request

    def evaluate(self) -> list[dict[str, float]]:
        """Evaluate the policy of every seed here and now."""
        if self._ahead.updates:
            objectives = [snapshot.objective().to(self._device) for snapshot in self.snapshots()]
        else:
            objectives = [agent.objective for agent in self.agents]
        return [asdict(evaluate_objective(objective, self._request)) for objective in objectives]

    def agent_states(self) -> list[State]:
        """The whole training state of every seed, its tensors on the CPU."""
        return [
            ({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, values)
            for tensors, values in self._ahead.states()
        ]

    def _states(self) -> list[State]:
        return self._together.states() if self._together else [self.agents[0].state()]

    def random_state(self) -> dict[str, Tensor]:
        """What differs between learners: the states of the random generators."""
        return {name: value for name, value in self.agent_states()[0][0].items() if name.startswith("random.")}

    def load_agent_states(self, states: list[State]) -> None:
        """Resume from what ``agent_states`` of the first learner and ``random_state`` of the others gave."""
        self._ahead.clear()
        if self._together:
            self._together.load_states(states)
            return
        tensors, values = states[0]
        mine = f"learner{self._share.learner}." if self._share and self._share.learner else ""
        own = {name.removeprefix(mine): value for name, value in tensors.items() if name.startswith(f"{mine}random.")}
        self.agents[0].load_state({**tensors, **own}, values)

    # What RLlib would do itself is the agent's: its optimisers, its gradients, its losses.

    def configure_optimizers(self) -> None:
        return

    def _make_modules_ddp_if_necessary(self) -> None:
        return

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        raise NotImplementedError("Losses are computed by the agent; call train_updates.")
