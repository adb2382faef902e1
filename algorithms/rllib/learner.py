"""The learner: K updates at a time on data that lies on its device."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from spin_rl.algorithms.acting import ActingPolicy
from spin_rl.algorithms.agent import OfflineAgent, check_asm_data
from spin_rl.algorithms.asm_files import load_asm
from spin_rl.algorithms.batches import DeviceTransitions
from spin_rl.algorithms.methods import get_method
from spin_rl.platform.asm_store import read_checkpoint
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.evaluation import evaluate


class OfflineLearner(TorchLearner):
    """A thin shell around ``OfflineAgent``.

    RLlib's own minibatch loop costs more than a small update does, and is not used.
    """

    agent: OfflineAgent

    def build(self) -> None:
        config: Any = self.config
        # As many threads as CPUs were asked for: more would fight with the trials beside this one, and the number of
        # threads decides how sums are rounded.
        cpus = config.num_cpus_per_learner if config.num_learners else config.num_cpus_for_main_process
        torch.set_num_threads(max(1, int(cpus)) if cpus != "auto" else 1)
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
        self.agent = OfflineAgent(
            config.agent_spec(), self._device, asm, objective=self.module[DEFAULT_MODULE_ID].unwrapped().objective
        )
        self.preparation_seconds = 0.0
        # last: whatever does not fit has been found before any data is read
        dataset = open_dataset(meta.task, meta.level, bins=meta.bins, root=root, version=meta.version)
        self._data = DeviceTransitions(dataset, self._device)

    def train_updates(self, updates: int) -> tuple[dict[str, float], float]:
        """Make ``updates`` policy updates; returns the mean losses and the seconds that they took."""
        self._prepare()
        started = time.perf_counter()
        losses = self.agent.train(self._data, updates)
        return losses, time.perf_counter() - started

    def evaluate(self) -> tuple[dict[str, float], float]:
        """Evaluate the policy as it stands; returns the result and the seconds that it took."""
        config: Any = self.config
        self._prepare()
        started = time.perf_counter()
        policy = ActingPolicy(self.agent.objective, self._device, sample=config.samples_in_evaluation)
        result = evaluate(config.task(), policy, episodes=config.evaluation_episodes)
        return asdict(result), time.perf_counter() - started

    def _prepare(self) -> None:
        """Not when it is built: what a restored state brings along is not made again."""
        config: Any = self.config
        self.preparation_seconds += self.agent.prepare(self._data, config.feature_storage())

    def agent_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (on the CPU) and plain values of the whole training state."""
        tensors, values = self.agent.state()
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, values

    def load_agent_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from what ``agent_state`` gave."""
        self.agent.load_state(tensors, values)

    # What RLlib would do itself is the agent's: its optimisers, its gradients, its losses.

    def configure_optimizers(self) -> None:
        return

    def _make_modules_ddp_if_necessary(self) -> None:
        return

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        raise NotImplementedError("Losses are computed by the agent; call train_updates.")
