"""Every setting of a training, once: its default, its type, its help, who sets it; and what the settings come to.

Commands, sweeps, trials and RLlib's configurations take their names, defaults and help from ``TrainingSettings``. The
settings of an objective stand in its own settings class (``names.OBJECTIVE_SETTINGS``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.objectives import OBJECTIVES, ObjectiveSettings, get_objective
from spin_rl.algorithms.presets import Preset, get_preset
from spin_rl.algorithms.training.agent import AgentSpec
from spin_rl.envs import Task, tasks
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.datasets import DatasetMetadata, find_metadata
from spin_rl.platform.datasets.store import DatasetRoot


class SetBy(Enum):
    """How a setting gets its value in an RLlib configuration."""

    CLASS = "the configuration's class"
    TRAINING = "a keyword of training() that we add to RLlib's"
    OBJECTIVE = "keywords of training(), one for each setting of the objectives"
    RLLIB = "RLlib's own methods"
    RUN = "what a run is given besides settings: data, seed, resources"


def _setting(default: Any = None, by: SetBy = SetBy.TRAINING, *, option: bool = False) -> Any:
    """A field; ``option``: commands have an argument of their own for it, or derive it from others."""
    metadata = {"by": by, "option": option}
    return (
        field(default_factory=dict, metadata=metadata) if default == {} else field(default=default, metadata=metadata)
    )


@dataclass(frozen=True)
class TrainingSettings:
    """What a training depends on. Plain values, each of which a sweep can vary.

    Attributes:
        method_name: the method; the configuration's class fixes it.
        objective: the offline objective; a configuration begins with the first of its method.
        preset: sizes of all networks.
        network: fields of the preset to change, those of the model under ``asm`` (``{"asm": {"width": 128}}``).
        lr: learning rate of the first update.
        gamma: discount factor.
        train_batch_size: transitions of a minibatch, which all learners share.
        train_batch_size_per_learner: each learner's part of the minibatch, in place of ``train_batch_size``.
        target_rate: share of the online critic that the target takes over after every update.
        lr_decay: how the learning rate falls to 0: constant (it does not), linear or cosine.
        lr_decay_updates: updates over which it falls; a trial's whole budget by default.
        gradient_clip: largest norm of all gradients of a network together; no limit by default.
        precision: of matrix products in training: float32, tf32 (on GPUs) or bfloat16.
        objective_overrides: settings of the objective that differ from its defaults.
        asm: folder of a pretrained action structure model's checkpoint, for methods that start from one.
        clone: folder of a clone's checkpoint, for methods that start from a clone of a policy's network.
        feature_dtype: of spin-cached; how features are kept: float32 (default) or bfloat16.
        feature_memory_gib: of spin-cached; features beyond it go to a file in the datasets' cache folder. Half of the
            free memory by default.
        updates_per_iteration: policy updates in one ``train()``; the learner makes them in one go.
        evaluate_every: policy updates between evaluations; a multiple of ``updates_per_iteration``.
        evaluation_episodes: whole episodes of an evaluation.
        evaluation_sampled: sample actions in evaluation (the paper's choice for IQL and AWAC) or take the best (its
            choice for BCQ); by default the paper's choice for the objective.
        evaluation_overlap: evaluate in a process beside the training, which continues meanwhile; the results are the
            same. By default where a CPU is to spare: the trial has two or more, or learners of its own.
        device: auto (the GPU where the learner was given one) or a torch device.
        cuda_graph: capture the update on a GPU, where it can be captured.
        onednn: compute float32 products on a CPU with oneDNN: up to twice as fast on AMD's, rounded otherwise.
        num_learners: processes that share every minibatch; 0: the algorithm's own process trains.
        seeds_per_trial: how many seeds, from ``seed`` on, are trained at once; results are means over them, with each
            seed's beside them (``eval/seed3/return_mean``).
        env: gymnasium id of the task.
        input_: folder of the dataset; RLlib also gives a list that holds it.
        seed: of the weights, the minibatches and dropout.
        trial: the flat trial that the settings were read from.
        num_gpus_per_learner: GPUs, or a fraction of one, of each learner.
    """

    method_name: str = _setting("factored", SetBy.CLASS, option=True)
    objective: str = _setting("iql", option=True)
    preset: str = _setting("paper", option=True)
    network: Mapping[str, Any] = _setting({})
    lr: float = _setting(ObjectiveSettings.learning_rate, SetBy.RLLIB)
    gamma: float = _setting(ObjectiveSettings.gamma, SetBy.RLLIB)
    train_batch_size: int = _setting(AgentSpec.batch_size, SetBy.RLLIB)
    train_batch_size_per_learner: int | None = _setting(None, SetBy.RLLIB)
    target_rate: float = _setting(ObjectiveSettings.target_rate)
    lr_decay: str = _setting(ObjectiveSettings.lr_decay)
    lr_decay_updates: int | None = _setting(ObjectiveSettings.lr_decay_updates)
    gradient_clip: float | None = _setting(ObjectiveSettings.gradient_clip)
    precision: str = _setting(ObjectiveSettings.precision)
    objective_overrides: Mapping[str, Any] = _setting({}, SetBy.OBJECTIVE)
    asm: str | None = _setting(option=True)
    clone: str | None = _setting(option=True)
    feature_dtype: str | None = _setting()
    feature_memory_gib: float | None = _setting()
    updates_per_iteration: int = _setting(1000, option=True)
    evaluate_every: int = _setting(5000, option=True)
    evaluation_episodes: int = _setting(10, option=True)
    evaluation_sampled: bool | None = _setting()
    evaluation_overlap: bool | None = _setting()
    device: str = _setting("auto")
    cuda_graph: bool = _setting(AgentSpec.cuda_graph)
    onednn: bool = _setting(AgentSpec.onednn)
    num_learners: int = _setting(0, SetBy.RLLIB)
    seeds_per_trial: int = _setting(1)
    env: str | None = _setting(None, SetBy.RUN)
    input_: str | Sequence[str] = _setting("", SetBy.RUN)
    seed: int | None = _setting(0, SetBy.RUN)
    trial: Mapping[str, Any] = _setting({}, SetBy.RUN)
    num_gpus_per_learner: float = _setting(0, SetBy.RUN)

    @property
    def task(self) -> Task:
        """The task that ``env`` is the gymnasium id of."""
        known = {task.gym_id: task for task in tasks().values()}
        if self.env not in known:
            raise unknown_name("task", self.env, known)
        return known[str(self.env)]

    @property
    def dataset_folder(self) -> str:
        return (self.input_ if isinstance(self.input_, str) else self.input_[0]).rstrip("/")

    @property
    def dataset_root(self) -> str:
        return split_dataset_path(self.dataset_folder)[0]

    def dataset(self) -> DatasetMetadata:
        """Metadata of the dataset; UserError where it is not one of the task's."""
        root, key, name = split_dataset_path(self.dataset_folder)
        task = self.task
        level, version = name.rsplit("-v", 1)
        if key != task.key:
            raise UserError(
                f"{self.dataset_folder} is a dataset of {key}, the environment is {task.key}: "
                f"give a dataset of {task.key}."
            )
        return find_metadata(task.name, level, bins=task.bins, root=root, version=int(version))

    def resolved_preset(self) -> Preset:
        """The preset with the changes of ``network``."""
        changes = dict(self.network)
        try:
            asm = replace(get_preset(self.preset).asm, **changes.pop("asm", {}))
            return get_preset(self.preset, asm=asm, **changes)
        except TypeError as error:
            raise UserError(f"network={self.network} names a size that there is not ({error}).") from error

    def objective_settings(self) -> ObjectiveSettings:
        """The settings of the objective; UserError where one is given that it does not have."""
        objective = get_objective(self.objective)
        known = objective.settings_class
        names = {field.name for field in fields(known)}
        for name in self.objective_overrides.keys() - names:
            owners = [key for key, other in OBJECTIVES.items() if hasattr(other.settings_class, name)]
            raise UserError(
                f"{name}={self.objective_overrides[name]} is a setting of {' and '.join(owners)}, the objective is "
                f"{self.objective}: leave it out or change the objective."
            )
        decays_over_budget = self.lr_decay != "constant" and self.lr_decay_updates is None
        return known(
            learning_rate=float(self.lr),
            lr_decay=self.lr_decay,
            lr_decay_updates=self.trial.get("updates") if decays_over_budget else self.lr_decay_updates,
            gradient_clip=self.gradient_clip,
            precision=self.precision,
            gamma=self.gamma,
            target_rate=self.target_rate,
            critic_width=objective.width(self.resolved_preset()),
            **self.objective_overrides,
        )

    @property
    def pretrained_model(self) -> str | None:
        """The folder of what the policy starts from, of whichever kind; None if it starts from nothing."""
        return self.clone if get_method(self.method_name).uses_clone else self.asm

    @property
    def samples_in_evaluation(self) -> bool:
        """Whether evaluation samples actions."""
        default = get_objective(self.objective).sampled
        return default if self.evaluation_sampled is None else self.evaluation_sampled

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are trained at once."""
        first = int(self.seed or 0)
        return tuple(range(first, first + self.seeds_per_trial))

    @property
    def batch_size(self) -> int:
        """Transitions of a minibatch, of which each learner takes its part."""
        own = self.train_batch_size_per_learner
        return int(self.train_batch_size if own is None else own * max(1, self.num_learners))

    @property
    def learner_device(self) -> str:
        """Type of the device that learners train on."""
        return ("cuda" if self.num_gpus_per_learner else "cpu") if self.device == "auto" else self.device

    def feature_storage(self) -> FeatureStorage:
        """How spin-cached keeps its features."""
        folder = DatasetRoot(self.dataset_root).scratch / "features"
        return FeatureStorage(self.feature_dtype or "float32", self.feature_memory_gib, folder)

    def agent_spec(self) -> AgentSpec:
        """What the learner builds."""
        meta = self.dataset()
        return AgentSpec(
            algorithm=self.method_name,
            observation_size=meta.observation_size,
            nvec=tuple(meta.nvec),
            preset=self.resolved_preset(),
            objective=self.objective_settings(),
            batch_size=self.batch_size,
            seed=int(self.seed or 0),
            cuda_graph=self.cuda_graph,
            onednn=self.onednn,
        )


def split_dataset_path(path: str) -> tuple[str, str, str]:
    """(root, ``<task>-<bins>``, ``<level>-v<n>``) of a dataset's folder, which may lie at any fsspec location."""
    parts = path.rstrip("/").rsplit("/", 2)
    if len(parts) != 3 or "-v" not in parts[2]:
        raise UserError(
            f"'{path}' is not the folder of a dataset, which has the form ROOT/TASK-BINS/LEVEL-vN; "
            "'spin-rl data list' prints those that there are."
        )
    return parts[0], parts[1], parts[2]
