"""RLlib configurations of the methods: every setting a plain value, so that any of them can be searched over."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from spin_rl.algorithms.agent import AgentSpec, check_asm_data, check_asm_shape
from spin_rl.algorithms.asm_files import read_shape
from spin_rl.algorithms.features import FeatureStorage
from spin_rl.algorithms.methods import Preset, get_method, get_preset
from spin_rl.algorithms.objectives import OBJECTIVES, ObjectiveSettings, get_objective
from spin_rl.algorithms.rllib.data import ArrowOfflineData
from spin_rl.envs import Task, UserError, get_task, tasks, unknown_name
from spin_rl.platform.asm_store import read_checkpoint
from spin_rl.platform.datasets import DatasetMetadata, find_metadata
from spin_rl.platform.datasets.store import Root


class OfflineConfig(AlgorithmConfig):
    """Configuration shared by all methods; a subclass names its method.

    ``environment`` takes a task's gymnasium id, ``offline_data(input_=...)`` a dataset's folder.
    """

    method_name = "factored"
    """The method trained; a subclass fixes it, the generic configuration takes any."""

    def __init__(self, algo_class: type | None = None) -> None:
        from spin_rl.algorithms.rllib.algorithm import ALGORITHMS  # its module needs this one's classes

        super().__init__(algo_class=algo_class or ALGORITHMS[self.method_name])
        self.trial: dict[str, Any] = {}
        self.objective = "iql"
        self.preset = "paper"
        self.network: dict[str, Any] = {}
        self.lr = 3e-4
        self.gamma = 0.99
        self.train_batch_size_per_learner = 256
        self.target_rate = 0.005
        # settings of one objective; None: its default
        self.expectile: float | None = None
        self.beta: float | None = None
        self.weight_cap: float | None = None
        self.temperature: float | None = None
        self.value_samples: int | None = None
        self.threshold: float | None = None
        self.candidates: int | None = None
        self.asm: str | None = None
        self.feature_dtype: str | None = None
        self.feature_memory_gib: float | None = None
        self.updates_per_iteration = 1000
        self.evaluate_every = 5000
        self.evaluation_episodes = 10
        self.evaluation_sampled: bool | None = None
        self.device = "auto"
        # an offline algorithm steps no environment while it trains
        self.num_env_runners = 0
        self.create_local_env_runner = False
        self._is_online = False
        self.seed = 0
        self.offline_data_class = ArrowOfflineData

    def training(
        self,
        *,
        objective: str = NotProvided,
        preset: str = NotProvided,
        network: dict[str, Any] = NotProvided,
        target_rate: float = NotProvided,
        expectile: float | None = NotProvided,
        beta: float | None = NotProvided,
        weight_cap: float | None = NotProvided,
        temperature: float | None = NotProvided,
        value_samples: int | None = NotProvided,
        threshold: float | None = NotProvided,
        candidates: int | None = NotProvided,
        asm: str | None = NotProvided,
        feature_dtype: str | None = NotProvided,
        feature_memory_gib: float | None = NotProvided,
        updates_per_iteration: int = NotProvided,
        evaluate_every: int = NotProvided,
        evaluation_episodes: int = NotProvided,
        evaluation_sampled: bool | None = NotProvided,
        device: str = NotProvided,
        **rllib: Any,
    ) -> Self:
        """Set what training depends on.

        Args:
            objective: the offline objective: ``iql``, ``awac`` or ``bcq``.
            preset: sizes of all networks: ``paper``, ``small`` or ``tiny``.
            network: fields of the preset to change, those of the model under ``asm`` (``{"asm": {"width": 128}}``).
            target_rate: share of the online critic that the target takes over after every update.
            expectile: of IQL.
            beta: of IQL; inverse temperature of the advantage weights.
            weight_cap: of IQL and AWAC; largest advantage weight.
            temperature: of AWAC's advantage weights.
            value_samples: of AWAC; joint actions that the expected value of the autoregressive policy is a mean of.
            threshold: of BCQ; a choice is admissible if its probability is at least this share of the likeliest one's.
            candidates: of BCQ; joint actions sampled from the autoregressive policy, of which the best is taken.
            asm: folder of a pretrained action structure model's checkpoint, for methods that use one.
            feature_dtype: of spin-cached; how features are kept: ``float32`` (default) or ``bfloat16``.
            feature_memory_gib: of spin-cached; what does not fit goes to a file in the datasets' cache folder. Half of
                what is free by default.
            updates_per_iteration: policy updates in one ``train()``; the learner makes them in one go.
            evaluate_every: policy updates between evaluations; a multiple of ``updates_per_iteration``.
            evaluation_episodes: whole episodes of an evaluation.
            evaluation_sampled: sample actions in evaluation (the paper's choice for IQL and AWAC) or take the best (its
                choice for BCQ); by default what the paper chose.
            device: ``auto``: the GPU where the learner was given one; or a torch device.
            **rllib: RLlib's own, such as ``lr``, ``gamma`` and ``train_batch_size_per_learner``.
        """
        super().training(**rllib)
        given = {name: value for name, value in locals().items() if name not in ("self", "rllib", "__class__")}
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    def update_from_dict(self, config_dict: Any) -> Self:
        """RLlib's, plus the key ``trial``: a flat dictionary of settings that vary together between a sweep's trials.

        Fields of ``network`` may stand in it by their own names. What it holds besides settings (a label, the ASM steps
        behind ``asm``) only describes the trial.
        """
        config = {**config_dict}
        trial = config.pop("trial", {})
        # set here, because RLlib takes every name that begins with "evaluation_" for one of its own
        own = {name: config.pop(name) for name in _SETTINGS if name in config}
        super().update_from_dict(config)
        for name, value in own.items():
            setattr(self, name, value)
        for name, value in trial.items():
            if name in _TRIAL_SETTINGS:
                setattr(self, _TRIAL_SETTINGS[name], value)
        self.network = {**self.network, **{name: trial[name] for name in NETWORK_SETTINGS if name in trial}}
        self.trial = dict(trial)
        return self

    def plain(self) -> dict[str, Any]:
        """Every setting that training depends on, as JSON can hold it; ``update_from_dict`` takes it back."""
        return {name: getattr(self, name) for name in (*_SETTINGS, "env", "input_", "seed", "trial")}

    def validate(self) -> None:
        """Check the settings against each other and against the dataset, before anything is built."""
        if self.input_:
            meta = self.dataset()
            self.observation_space: Any = Box(-float("inf"), float("inf"), (meta.observation_size,))
            self.action_space: Any = MultiDiscrete(list(meta.nvec))
        super().validate()
        self.check_settings()
        if self.updates_per_iteration < 1 or self.evaluate_every % self.updates_per_iteration:
            raise UserError(
                f"evaluate_every ({self.evaluate_every}) must be a multiple of updates_per_iteration "
                f"({self.updates_per_iteration})."
            )

    def check_settings(self) -> None:
        """UserError where settings do not fit each other, the objective, the method or its model; reads no data."""
        self.objective_settings()
        method, preset = get_method(self.method_name), self.resolved_preset()
        if method.name == "spin-cached":
            FeatureStorage(self.feature_dtype or "float32")
        else:
            for name in ("feature_dtype", "feature_memory_gib"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"{name}={getattr(self, name)} is a setting of spin-cached, the method is {method.name}: "
                        "leave it out or train spin-cached."
                    )
        if self.network.get("trunk_dropout") and method.name in ("spin-cached", "spin-distill"):
            raise UserError(
                f"trunk_dropout=True makes features random, {method.name} trains on constant ones: leave it out or "
                "train spin."
            )
        if self.asm and not method.uses_asm:
            raise UserError(
                f"{method.name} starts from no pretrained model, but asm={self.asm} is given: leave it out "
                "or train spin."
            )
        if method.uses_asm and self.env:
            if not self.asm:
                raise UserError(
                    f"{method.label} needs a pretrained action structure model: "
                    f"'spin-rl pretrain {self.task().name} {self.dataset().level} --preset {self.preset}' makes one "
                    "and prints its folder, to be given as training(asm=...)."
                )
            if Path(self.asm).exists():  # a sweep's are made before its trials are
                meta = self.dataset()
                check_asm_data(read_checkpoint(Path(self.asm)), meta.task, meta.bins)
                check_asm_shape(read_shape(Path(self.asm)), meta.observation_size, tuple(meta.nvec), preset.asm)

    def task(self) -> Task:
        """The task whose gymnasium id was given as environment."""
        known = {task.gym_id: task for task in tasks().values()}
        if self.env not in known:
            raise unknown_name("task", self.env, known)
        return known[str(self.env)]

    def dataset(self) -> DatasetMetadata:
        """Metadata of the dataset given as input; UserError where it is not one of the task's."""
        path = self.input_ if isinstance(self.input_, str) else self.input_[0]
        root, key, name = split_dataset_path(path)
        task = self.task()
        level, version = name.rsplit("-v", 1)
        if key != task.key:
            raise UserError(
                f"{path} is a dataset of {key}, the environment is {task.key}: give a dataset of {task.key}."
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
        known = get_objective(self.objective).settings_class
        names = {field.name for field in fields(known)}
        given = {name: getattr(self, name) for name in _OBJECTIVE_SETTINGS if getattr(self, name) is not None}
        for name in given.keys() - names:
            owners = [key for key, other in OBJECTIVES.items() if hasattr(other.settings_class, name)]
            raise UserError(
                f"{name}={given[name]} is a setting of {' and '.join(owners)}, the objective is {self.objective}: "
                "leave it out or change the objective."
            )
        return known(
            learning_rate=float(self.lr),
            gamma=self.gamma,
            target_rate=self.target_rate,
            critic_width=self.resolved_preset().critic_width,
            **given,
        )

    @property
    def samples_in_evaluation(self) -> bool:
        """Whether evaluation samples actions."""
        default = get_objective(self.objective).sampled
        return default if self.evaluation_sampled is None else self.evaluation_sampled

    def feature_storage(self) -> FeatureStorage:
        """How spin-cached keeps its features."""
        path = self.input_ if isinstance(self.input_, str) else self.input_[0]
        folder = Root(split_dataset_path(path)[0]).scratch / "features"
        return FeatureStorage(self.feature_dtype or "float32", self.feature_memory_gib, folder)

    def agent_spec(self) -> AgentSpec:
        """What the learner builds."""
        preset = self.resolved_preset()
        meta = self.dataset()
        get_task(meta.task, meta.bins)
        return AgentSpec(
            algorithm=self.method_name,
            observation_size=meta.observation_size,
            nvec=tuple(meta.nvec),
            preset=preset,
            objective=self.objective_settings(),
            batch_size=int(self.train_batch_size_per_learner),
            seed=int(self.seed or 0),
        )

    def get_default_learner_class(self) -> type:
        from spin_rl.algorithms.rllib.learner import OfflineLearner

        return OfflineLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        from spin_rl.algorithms.rllib.module import OfflineRLModule

        # the learner adds its agent's objective to the module: what is built from has to travel with it
        return RLModuleSpec(module_class=OfflineRLModule, model_config={"spec": self.agent_spec()})

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}


_OBJECTIVE_SETTINGS = ("expectile", "beta", "weight_cap", "temperature", "value_samples", "threshold", "candidates")
_SETTINGS = (
    "method_name",
    "objective",
    "preset",
    "network",
    "lr",
    "gamma",
    "train_batch_size_per_learner",
    "target_rate",
    *_OBJECTIVE_SETTINGS,
    "asm",
    "feature_dtype",
    "feature_memory_gib",
    "updates_per_iteration",
    "evaluate_every",
    "evaluation_episodes",
    "evaluation_sampled",
    "device",
)
NETWORK_SETTINGS = tuple(field.name for field in fields(Preset) if field.name not in ("asm", "masking"))
FREE_SETTINGS = (
    "lr",
    "gamma",
    "train_batch_size_per_learner",
    "target_rate",
    *_OBJECTIVE_SETTINGS,
    "feature_dtype",
    "feature_memory_gib",
    "evaluation_sampled",
    "device",
    "network",
)
_TRIAL_SETTINGS = {name: name for name in (*_SETTINGS, "seed")} | {
    "algorithm": "method_name",
    "environment": "env",
    "dataset": "input_",
}


def split_dataset_path(path: str) -> tuple[str, str, str]:
    """(root, ``<task>-<bins>``, ``<level>-v<n>``) of a dataset's folder, which may lie at any fsspec location."""
    parts = path.rstrip("/").rsplit("/", 2)
    if len(parts) != 3 or "-v" not in parts[2]:
        raise UserError(
            f"'{path}' is not the folder of a dataset, which has the form ROOT/TASK-BINS/LEVEL-vN; "
            "'spin-rl data list' prints those that there are."
        )
    return parts[0], parts[1], parts[2]


def check_trial(trial: Mapping[str, Any]) -> None:
    """UserError where the settings of a flat trial do not fit each other; nothing it names needs to be there."""
    config = OfflineConfig()
    config.update_from_dict({"trial": trial})
    config.check_settings()


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings of a trial from ``NAME=VALUE``, where a value is JSON or else a string.

    Raises:
        UserError: there is no setting of that name, or no value.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, found, text = assignment.partition("=")
        if not found:
            raise UserError(f"'{assignment}' sets nothing; write NAME=VALUE.")
        if name not in (*FREE_SETTINGS, *NETWORK_SETTINGS):
            raise unknown_name("setting", name, (*FREE_SETTINGS, *NETWORK_SETTINGS))
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
        if name not in ("feature_dtype", "device", "network") and isinstance(settings[name], str | list | dict):
            raise UserError(f"{name} is a number, true, false or null, not '{text}'.")
    return settings


class SPINConfig(OfflineConfig):
    """SPIN (arXiv 2601.04441): light heads and queries on a frozen, pretrained action structure model."""

    method_name = "spin"


class SPINCachedConfig(OfflineConfig):
    """SPIN on features that are computed once for the whole dataset."""

    method_name = "spin-cached"


class SPINDistillConfig(OfflineConfig):
    """SPIN with a student without attention in the trunk's place."""

    method_name = "spin-distill"


class FinetuneConfig(OfflineConfig):
    """SPIN whose state encoder and trunk train too, at a learning rate of their own."""

    method_name = "finetune"


class SaintConfig(OfflineConfig):
    """SAINT (arXiv 2505.12109): the same network, trained from scratch."""

    method_name = "saint"


class FactoredConfig(OfflineConfig):
    """The factored baseline: an MLP with independent heads."""

    method_name = "factored"


class AutoregressiveConfig(OfflineConfig):
    """The autoregressive baseline: an LSTM over sub-actions."""

    method_name = "autoregressive"
