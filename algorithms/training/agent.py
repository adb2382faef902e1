"""An offline learner: an objective, trained K updates at a time on data that lies on its device.

Plain PyTorch without Ray: the RLlib classes are a thin shell around it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spin_rl.algorithms.asm.files import ASMShape
from spin_rl.algorithms.asm.model import TRUNK_SIZES, ActionStructureModel, ASMSizes
from spin_rl.algorithms.cloning.networks import get_network
from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.data.features import FeatureStorage, FeatureTable
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.networks.precision import check_onednn, check_precision
from spin_rl.algorithms.objectives import Objective, ObjectiveSettings, get_objective
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.presets import Preset
from spin_rl.algorithms.training.data_parallel import Share
from spin_rl.algorithms.training.updates import Draw, UpdateLoop
from spin_rl.errors import UserError
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors
from spin_rl.platform.asm_store.store import ASMCheckpoint


class DivergedError(Exception):
    """A loss is no longer finite; names the term and the update."""


@dataclass(frozen=True)
class AgentSpec:
    """What an agent is built from; plain values only, so that it travels in any configuration."""

    algorithm: str  # name of the method
    observation_size: int
    nvec: tuple[int, ...]
    preset: Preset
    objective: ObjectiveSettings  # its class says which
    batch_size: int = 256
    seed: int = 0
    cuda_graph: bool = True  # on a GPU, where the update can be captured
    onednn: bool = False  # on a CPU: float32 products by oneDNN; up to twice as fast on AMD's, rounded differently


class OfflineAgent:
    """Networks, optimisers and random state of one training; ``train`` makes K updates.

    A run is a function of (spec, data): minibatches are a pure function of (seed, number of the update), all other
    randomness comes from torch's generators, whose state is part of ``state``.
    """

    def __init__(
        self,
        spec: AgentSpec,
        device: torch.device | None = None,
        asm: ActionStructureModel | Policy | None = None,
        objective: Objective | None = None,
        share: Share | None = None,
    ) -> None:
        """
        Args:
            spec: what to build.
            device: where the networks and the minibatches lie; the CPU by default.
            asm: the pretrained model, for a method that starts from one: an action structure model, or a clone.
            objective: the result of ``build_objective(spec)``, where the caller holds it too; built here by default.
            share: this learner's part, where several share every minibatch.
        """
        self.spec = spec
        self.device = device or torch.device("cpu")
        check_precision(spec.objective.precision, self.device)
        check_onednn(spec.onednn, self.device)
        self.objective = objective or build_objective(spec)
        self._asm: ActionStructureModel | None = None
        if get_method(spec.algorithm).uses_asm:
            self._asm = attach_asm(self.objective, asm, spec)
        elif get_method(spec.algorithm).uses_clone:
            attach_clone(self.objective, asm, spec)
        self.table: FeatureTable | None = None
        self._prepared_for: DeviceTransitions | None = None
        self.objective.to(self.device).train()
        self.objective.make_optimizers()
        self._share = share
        if share:
            for step in self.objective.optimizers.values():
                step.average_gradients = share.average_gradients
        self._loop = UpdateLoop(self.objective, cuda_graph=spec.cuda_graph and share is None, onednn=spec.onednn)
        self.updates = 0
        # dropout starts from a state of its own, whatever has been drawn since the weights; each learner from another
        torch.manual_seed(spec.seed + 1 + (share.learner * 0x9E3779B1 if share else 0))

    @property
    def policy(self) -> Policy | None:
        """The objective's policy, where its method has one."""
        return self.objective.policy

    def prepare(self, data: DeviceTransitions, storage: FeatureStorage | None = None) -> float:
        """Do what the method does once with its data before the first update; a second call has no effect.

        Args:
            data: the training data.
            storage: how features that are computed once are kept; in memory by default.

        Returns:
            The seconds that it took, or had taken when a result found in the storage was made.

        Raises:
            UserError: there is no room for what is to be kept.
        """
        if self._prepared_for is data:
            return 0.0
        prepared = self.objective.prepare(data, self._asm, storage or FeatureStorage(), self.spec.seed)
        self.table = prepared.table
        self._prepared_for = data
        return prepared.seconds

    def train(self, data: DeviceTransitions, updates: int) -> dict[str, float]:
        """Make ``updates`` updates; returns the mean of each logged value over them.

        Raises:
            DivergedError: a loss was not finite.
        """
        self.prepare(data)
        self.objective.train()
        names, values = self._loop.run(data, self.draw_for(data), self.updates, updates, self.table)
        if self._share:
            self._share.average(values)
        self.updates += updates
        return read_means(names, values.cpu(), self.updates)

    def draw_for(self, data: DeviceTransitions) -> Draw:
        """The function that draws the indices of its minibatches from ``data``."""

        def draw(first: int, count: int) -> Tensor:
            indices = draw_indices(self.spec.seed, 0, first, count, self.spec.batch_size, data.size, self.device)
            return indices[:, self._share.rows] if self._share else indices

        return draw

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next update depends on: tensors by name, and plain values."""
        tensors = {f"networks.{name}": value for name, value in self.objective.state_dict().items()}
        for name, step in self.objective.optimizers.items():
            tensors |= optimizer_tensors(step.optimizer, f"optimizers.{name}.")
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: value.detach().clone() for name, value in tensors.items()}, {"updates": self.updates}

    def load_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Resume from where ``state`` was taken."""
        self.objective.load_state_dict(
            {name.removeprefix("networks."): v for name, v in tensors.items() if name.startswith("networks.")}
        )
        for name, step in self.objective.optimizers.items():
            load_optimizer_tensors(step.optimizer, tensors, f"optimizers.{name}.")
        self._loop.forget_graph()
        torch.set_rng_state(tensors["random.cpu"].cpu())
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), self.device)
        self.updates = int(values["updates"])
        self._prepared_for = None


def read_means(names: Sequence[str], values: Tensor, updates: int, whose: str = "") -> dict[str, float]:
    """The mean of each logged value over K updates.

    Args:
        names: of the values.
        values: (K, names), on the CPU.
        updates: how many the run has made, these included.
        whose: said behind a value's name, where one of several runs is meant.

    Raises:
        DivergedError: a value is not finite.
    """
    finite = values.isfinite()
    if not bool(finite.all()):
        update, column = (int(number) for number in (~finite).nonzero()[0])
        raise DivergedError(
            f"{names[column]}{whose} became {values[update, column]} in update {updates - len(values) + update + 1}; "
            "try a smaller learning rate or clip the gradients."
        )
    return dict(zip(names, values.double().mean(0).tolist(), strict=True))


def build_objective(spec: AgentSpec) -> Objective:
    """The objective of ``spec`` with its policy; the same spec gives the same weights.

    Raises:
        UserError: the method cannot be trained with the objective.
    """
    method, objective = get_method(spec.algorithm), get_objective(spec.objective.name)
    method.check_objective(spec.objective.name)
    preset = spec.preset
    if preset.policy_dropout is None:
        preset = replace(preset, policy_dropout=objective.policy_dropout)
    torch.manual_seed(spec.seed)
    policy = method.build(spec.observation_size, spec.nvec, preset) if method.build else None
    return objective(policy, spec.observation_size, spec.nvec, spec.objective)


def attach_asm(
    objective: Objective, asm: ActionStructureModel | Policy | None, spec: AgentSpec
) -> ActionStructureModel:
    """Let ``objective`` start from ``asm``, and return it; UserError that names both sides where they do not fit."""
    if not isinstance(asm, ActionStructureModel):
        raise UserError(
            f"{get_method(spec.algorithm).label} needs a pretrained action structure model; make one with "
            "'spin-rl pretrain TASK LEVEL' and give its checkpoint."
        )
    shape = ASMShape(asm.observation_size, asm.nvec, asm.sizes)
    check_asm_shape(shape, spec.observation_size, spec.nvec, spec.preset.asm)
    objective.start_from(asm)
    return asm


def attach_clone(objective: Objective, clone: ActionStructureModel | Policy | None, spec: AgentSpec) -> None:
    """Let ``objective`` start from ``clone``; UserError where there is none, or it is another network's."""
    method = get_method(spec.algorithm)
    if not isinstance(clone, Policy):
        raise UserError(
            f"{method.label} needs a clone of the network '{method.cloned}'; make one with "
            f"'spin-rl pretrain TASK LEVEL --method {method.name}' and give its checkpoint."
        )
    with torch.random.fork_rng(devices=[]):
        wanted = get_network(method.cloned).build(spec.observation_size, spec.nvec, spec.preset)
    ours, theirs = ([tuple(each.shape) for each in policy.parameters()] for policy in (wanted, clone))
    if type(clone) is not type(wanted) or ours != theirs or clone.nvec != wanted.nvec:
        raise UserError(
            f"The clone is of {type(clone).__name__}, or of other sizes than {method.name}'s, which starts from the "
            f"network '{method.cloned}' of its own preset and dataset: make that with "
            f"'spin-rl pretrain TASK LEVEL --method {method.name}'."
        )
    objective.start_from(clone)


def check_asm_shape(shape: ASMShape, observation_size: int, nvec: tuple[int, ...], sizes: ASMSizes) -> None:
    """UserError where a model of ``shape`` does not fit a policy of the other arguments."""
    theirs = {"observation size": shape.observation_size, "nvec": tuple(shape.nvec)}
    ours = {"observation size": observation_size, "nvec": tuple(nvec)}
    for name in TRUNK_SIZES:
        theirs[name], ours[name] = getattr(shape.sizes, name), getattr(sizes, name)
    for what, value in ours.items():
        if theirs[what] != value:
            raise UserError(
                f"The action structure model has {what} {theirs[what]}, the policy needs {value}: "
                "pretrain one with the policy's preset on the policy's dataset."
            )


def check_asm_data(checkpoint: ASMCheckpoint, task: str, bins: int) -> None:
    """UserError where a checkpoint, of whichever kind, was pretrained on another task."""
    if (checkpoint.task, checkpoint.bins) != (task, bins):
        raise UserError(
            f"{checkpoint.path} was pretrained on {checkpoint.task} with {checkpoint.bins} bins, the policy trains on "
            f"{task} with {bins}: 'spin-rl pretrain {task} LEVEL --bins {bins}' makes the one that is needed."
        )
