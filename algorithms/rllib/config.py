"""RLlib configurations of the methods: every setting a plain value, so that any of them can be searched over."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Self

from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.methods import Preset, get_preset
from spin_rl.algorithms.objectives import OBJECTIVES, ObjectiveSettings, get_objective
from spin_rl.algorithms.rllib.checks import (
    check_device,
    check_evaluation,
    check_features,
    check_learners,
    check_model,
    check_seeds_at_once,
)
from spin_rl.algorithms.rllib.data import ArrowOfflineData
from spin_rl.algorithms.rllib.settings import (
    FREE_SETTINGS,
    NETWORK_SETTINGS,
    OBJECTIVE_SETTINGS,
    SETTINGS,
    SHARED_OBJECTIVE_SETTINGS,
    TRIAL_SETTINGS,
    parse_settings,
    split_dataset_path,
)
from spin_rl.algorithms.training.agent import AgentSpec
from spin_rl.envs import Task, get_task, tasks
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.datasets import DatasetMetadata, find_metadata
from spin_rl.platform.datasets.store import DatasetRoot

__all__ = [
    "FREE_SETTINGS",
    "NETWORK_SETTINGS",
    "OfflineConfig",
    "check_trial",
    "parse_settings",
    "split_dataset_path",
]


class OfflineConfig(AlgorithmConfig):
    """Configuration shared by all methods; a subclass names its method.

    ``environment`` takes a task's gymnasium id, ``offline_data(input_=...)`` a dataset's folder.
    """

    method_name = "factored"
    """The method trained; a subclass fixes it, the generic configuration takes any."""

    def __init__(self, algo_class: type | None = None) -> None:
        from spin_rl.algorithms.rllib.catalogue import ALGORITHMS  # its module needs this one's classes

        super().__init__(algo_class=algo_class or ALGORITHMS[self.method_name])
        self.trial: dict[str, Any] = {}
        self.objective = "iql"
        self.preset = "paper"
        self.network: dict[str, Any] = {}
        self.lr = 3e-4
        self.gamma = 0.99
        self.train_batch_size = 256
        self.target_rate = 0.005
        self.lr_decay = "constant"
        self.lr_decay_updates: int | None = None
        self.gradient_clip: float | None = None
        self.precision = "float32"
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
        self.evaluation_overlap: bool | None = None
        self.device = "auto"
        self.cuda_graph = True
        self.onednn = False
        # an offline algorithm steps no environment while it trains
        self.num_env_runners = 0
        self.create_local_env_runner = False
        self._is_online = False
        self.seed = 0
        self.seeds_per_trial = 1
        self.offline_data_class = ArrowOfflineData

    def training(
        self,
        *,
        objective: str = NotProvided,
        preset: str = NotProvided,
        network: dict[str, Any] = NotProvided,
        target_rate: float = NotProvided,
        lr_decay: str = NotProvided,
        lr_decay_updates: int | None = NotProvided,
        gradient_clip: float | None = NotProvided,
        precision: str = NotProvided,
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
        evaluation_overlap: bool | None = NotProvided,
        device: str = NotProvided,
        cuda_graph: bool = NotProvided,
        onednn: bool = NotProvided,
        seeds_per_trial: int = NotProvided,
        **rllib: Any,
    ) -> Self:
        """Set what training depends on.

        Args:
            objective: the offline objective: ``iql``, ``awac`` or ``bcq``.
            preset: sizes of all networks: ``paper``, ``small`` or ``tiny``.
            network: fields of the preset to change, those of the model under ``asm`` (``{"asm": {"width": 128}}``).
            target_rate: share of the online critic that the target takes over after every update.
            lr_decay: how the learning rate falls to 0: ``linear`` or ``cosine``; ``constant`` does not.
            lr_decay_updates: over how many updates it falls; a trial's whole budget by default.
            gradient_clip: largest norm of all gradients of a network together; no limit by default.
            precision: of matrix products in training: ``float32``, ``tf32`` (on GPUs) or ``bfloat16``.
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
            evaluation_overlap: evaluate in a process beside the training, which goes on meanwhile; the results are the
                same. By default where there is a CPU to spare: the trial has two or more, or learners of its own.
            seeds_per_trial: how many seeds, from ``seed`` on, are trained at once; results are means over them, with
                each one's by itself beside them (``eval/seed3/return_mean``).
            device: ``auto``: the GPU where the learner was given one; or a torch device.
            cuda_graph: capture the update on a GPU, where it can be captured.
            onednn: make float32 products on a CPU with oneDNN: up to twice as fast on AMD's, rounded otherwise.
            **rllib: RLlib's own, such as ``lr``, ``gamma`` and ``train_batch_size``, the minibatch that all learners
                share; ``train_batch_size_per_learner`` sets what each has of it instead.
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
        own = {name: config.pop(name) for name in SETTINGS if name in config}
        super().update_from_dict(config)
        for name, value in own.items():
            setattr(self, name, value)
        for name, value in trial.items():
            if name in TRIAL_SETTINGS:
                setattr(self, TRIAL_SETTINGS[name], value)
        self.network = {**self.network, **{name: trial[name] for name in NETWORK_SETTINGS if name in trial}}
        self.trial = dict(trial)
        return self

    def plain(self) -> dict[str, Any]:
        """Every setting that training depends on, as JSON can hold it; ``update_from_dict`` takes it back."""
        values = {name: getattr(self, name) for name in (*SETTINGS, "env", "input_", "seed", "trial")}
        return {**values, "train_batch_size_per_learner": self._train_batch_size_per_learner}

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
        check_device(self)
        check_learners(self)
        check_seeds_at_once(self)
        check_evaluation(self)
        check_features(self)
        check_model(self)

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
        given = {name: getattr(self, name) for name in OBJECTIVE_SETTINGS if getattr(self, name) is not None}
        for name in given.keys() - names:
            owners = [key for key, other in OBJECTIVES.items() if hasattr(other.settings_class, name)]
            raise UserError(
                f"{name}={given[name]} is a setting of {' and '.join(owners)}, the objective is {self.objective}: "
                "leave it out or change the objective."
            )
        shared = {name: getattr(self, name) for name in SHARED_OBJECTIVE_SETTINGS}
        if self.lr_decay != "constant" and self.lr_decay_updates is None:
            shared["lr_decay_updates"] = self.trial.get("updates")
        return known(
            learning_rate=float(self.lr),
            **shared,
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

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are trained at once."""
        first = int(self.seed or 0)
        return tuple(range(first, first + self.seeds_per_trial))

    @property
    def batch_size(self) -> int:
        """Transitions of a minibatch, of which each learner takes its part."""
        own = self._train_batch_size_per_learner
        return int(self.train_batch_size if own is None else own * max(1, self.num_learners))

    @property
    def learner_device(self) -> str:
        """Type of the device that learners train on."""
        return ("cuda" if self.num_gpus_per_learner else "cpu") if self.device == "auto" else self.device

    @property
    def overlaps_evaluation(self) -> bool:
        """Whether the batched evaluator runs beside the training."""
        if self.evaluation_overlap is not None or self.evaluation_num_env_runners:
            return bool(self.evaluation_overlap)
        # while learners of their own train, the process that steers them has nothing to do
        return self.num_learners > 0 or self.num_cpus_for_main_process >= 2

    @property
    def training_threads(self) -> int:
        """Threads of a learner: its CPUs, less the one that evaluation takes."""
        if self.num_learners:
            return 1 if self.num_cpus_per_learner == "auto" else max(1, int(self.num_cpus_per_learner))
        return max(1, int(self.num_cpus_for_main_process) - self.overlaps_evaluation)

    def feature_storage(self) -> FeatureStorage:
        """How spin-cached keeps its features."""
        path = self.input_ if isinstance(self.input_, str) else self.input_[0]
        folder = DatasetRoot(split_dataset_path(path)[0]).scratch / "features"
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
            batch_size=self.batch_size,
            seed=int(self.seed or 0),
            cuda_graph=self.cuda_graph,
            onednn=self.onednn,
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


def check_trial(trial: Mapping[str, Any]) -> None:
    """UserError where the settings of a flat trial do not fit each other; nothing it names needs to be there."""
    config = OfflineConfig()
    config.update_from_dict({"trial": trial})
    config.check_settings()
