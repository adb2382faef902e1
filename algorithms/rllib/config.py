"""RLlib configurations: every setting a plain attribute, so that any of them can be searched over."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Self

from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.rllib.data import ArrowOfflineData
from spin_rl.algorithms.rllib.learner import OfflineLearner
from spin_rl.algorithms.rllib.module import OfflineRLModule
from spin_rl.algorithms.settings import (
    HELP,
    OBJECTIVE_SETTINGS,
    SETTINGS,
    TrainingSettings,
    check_settings,
    settings_of_trial,
)
from spin_rl.algorithms.settings.names import type_of
from spin_rl.algorithms.settings.training import SetBy
from spin_rl.errors import UserError

ALGORITHMS: dict[str, Any] = {}
"""The algorithm class of each method, by the method's name; ``classes`` makes them.

They are no attributes of the configurations: Ray follows a class's attributes, and each would lead back to the other.
"""

_SET_BY = {field.name: field.metadata["by"] for field in fields(TrainingSettings)}
_KEYWORDS = tuple(name for name in SETTINGS if _SET_BY.get(name, SetBy.OBJECTIVE) in (SetBy.TRAINING, SetBy.OBJECTIVE))
"""Settings that ``training`` takes beside RLlib's own."""


def _with_keywords(training: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``training`` the signature and the docstring that help and notebooks show."""
    ours = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=NotProvided, annotation=type_of(name))
        for name in _KEYWORDS
    ]
    defaults = TrainingSettings()
    itself, *theirs = inspect.signature(AlgorithmConfig.training).parameters.values()
    training.__dict__["__signature__"] = inspect.Signature([itself, *ours, *theirs], return_annotation=Self)
    entries = []
    for name in _KEYWORDS:
        default = getattr(defaults, name, None)
        said = HELP[name] if default is None else f"{HELP[name].rstrip('.')} (default: {default})."
        entries.append(textwrap.fill(f"{name}: {said}", 116, initial_indent=" " * 4, subsequent_indent=" " * 8))
    training.__doc__ = "\n".join([inspect.cleandoc(training.__doc__ or ""), "", "Args:", *entries])
    return training


class OfflineConfig(AlgorithmConfig):
    """Configuration shared by all methods; a subclass names its method, the generic one takes any.

    ``environment`` takes a task's gymnasium id, ``offline_data(input_=...)`` a dataset's folder.
    """

    method_name = TrainingSettings.method_name
    network: Mapping[str, Any]
    trial: Mapping[str, Any]

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or ALGORITHMS[self.method_name])
        defaults = TrainingSettings()
        for name, by in _SET_BY.items():
            if by not in (SetBy.CLASS, SetBy.OBJECTIVE):
                setattr(self, name, getattr(defaults, name))
        self.objective = get_method(self.method_name).objectives[0]
        for name in OBJECTIVE_SETTINGS:
            setattr(self, name, None)  # the objective's default
        # an offline algorithm steps no environment while it trains
        self.num_env_runners = 0
        self.create_local_env_runner = False
        self._is_online = False
        self.offline_data_class = ArrowOfflineData

    @_with_keywords
    def training(self, **settings: Any) -> Self:
        """Set what training depends on.

        RLlib's own keywords are taken too, such as ``lr``, ``gamma`` and ``train_batch_size``, the minibatch that all
        learners share; ``train_batch_size_per_learner`` sets each one's part of it instead.
        """
        ours = {name: settings.pop(name) for name in _KEYWORDS if name in settings}
        super().training(**settings)
        for name, value in ours.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    def update_from_dict(self, config_dict: Any) -> Self:
        """RLlib's, plus the key ``trial``: a flat dictionary of settings that vary together between a sweep's trials.

        Raises:
            UserError: the trial has an unknown key.
        """
        config = {**config_dict}
        trial = dict(config.pop("trial", self.trial))
        settings, network = settings_of_trial(trial)
        # set here, because RLlib takes every name that begins with "evaluation_" for one of its own
        ours = {name: config.pop(name) for name in SETTINGS if name in config}
        super().update_from_dict(config)
        for name, value in {**ours, **settings}.items():
            setattr(self, name, value)
        self.network = {**self.network, **network}
        self.trial = trial
        return self

    @property
    def settings(self) -> TrainingSettings:
        """The settings as they stand."""
        values = {name: getattr(self, name) for name, by in _SET_BY.items() if by is not SetBy.OBJECTIVE}
        values["train_batch_size_per_learner"] = self._train_batch_size_per_learner  # RLlib's property derives one
        overrides = {name: getattr(self, name) for name in OBJECTIVE_SETTINGS}
        given = {name: value for name, value in overrides.items() if value is not None}
        return TrainingSettings(**values, objective_overrides=given)

    def plain(self) -> dict[str, Any]:
        """Every setting that training depends on, as JSON can hold it; ``update_from_dict`` takes it back."""
        values = {name: getattr(self, name) for name in (*SETTINGS, "env", "input_", "seed", "trial")}
        return {**values, "train_batch_size_per_learner": self._train_batch_size_per_learner}

    def validate(self) -> None:
        """Check the settings against each other and against the dataset, before anything is built."""
        if self.input_:
            meta = self.settings.dataset()
            self.observation_space: Any = Box(-float("inf"), float("inf"), (meta.observation_size,))
            self.action_space: Any = MultiDiscrete(list(meta.nvec))
        super().validate()
        check_settings(self.settings)
        if self.evaluation_num_env_runners:
            raise UserError(
                f"evaluation_num_env_runners={self.evaluation_num_env_runners} asks for RLlib's env runners; episodes "
                "are evaluated in one batch instead: leave it out and set training(evaluation_episodes=...)."
            )
        if self.updates_per_iteration < 1 or self.evaluate_every % self.updates_per_iteration:
            raise UserError(
                f"evaluate_every ({self.evaluate_every}) must be a multiple of updates_per_iteration "
                f"({self.updates_per_iteration})."
            )

    @property
    def overlaps_evaluation(self) -> bool:
        """Whether evaluation runs beside the training."""
        if self.evaluation_overlap is not None:
            return bool(self.evaluation_overlap)
        # while learners of their own train, the process that steers them has nothing to do
        return self.num_learners > 0 or self.num_cpus_for_main_process >= 2

    @property
    def training_threads(self) -> int:
        """Threads of a learner: its CPUs, less the one that evaluation takes."""
        if self.num_learners:
            return 1 if self.num_cpus_per_learner == "auto" else max(1, int(self.num_cpus_per_learner))
        return max(1, int(self.num_cpus_for_main_process) - self.overlaps_evaluation)

    def get_default_learner_class(self) -> type:
        return OfflineLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        # the learner adds its agent's objective to the module: what it is built from has to travel with it
        return RLModuleSpec(module_class=OfflineRLModule, model_config={"spec": self.settings.agent_spec()})

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}
