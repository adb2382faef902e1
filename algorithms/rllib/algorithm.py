"""The methods as RLlib Algorithms: iterations of K updates, batched evaluation, safe checkpoints."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from pyarrow.fs import FileType
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.tune import Checkpoint
from ray.tune.registry import register_trainable
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.checkpoints import save_agent_spec
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.rllib.config import (
    AutoregressiveConfig,
    FactoredConfig,
    FinetuneConfig,
    OfflineConfig,
    SaintConfig,
    SPINCachedConfig,
    SPINConfig,
    SPINDistillConfig,
)
from spin_rl.algorithms.rllib.recovery import RECORD, digests_of, last_whole_checkpoint
from spin_rl.envs import UserError

logger = logging.getLogger(__name__)


class OfflineAlgorithm(Algorithm):
    """Trains a policy offline; one ``train()`` is ``updates_per_iteration`` policy updates.

    The first iteration makes none: it evaluates the untrained policy, the curve's point at update 0. Between
    evaluations the last one is reported again, with ``eval/updates`` saying when it was made.
    """

    config_class: type[OfflineConfig] = OfflineConfig

    @classmethod
    def get_default_config(cls) -> OfflineConfig:
        return cls.config_class(algo_class=cls)

    def setup(self, config: OfflineConfig) -> None:
        self._started = False
        self._updates = 0
        self._evaluation: dict[str, float] = {}
        self._losses: dict[str, float] = {}
        self._preparation_seconds = 0.0
        self._train_seconds = 0.0
        self._evaluation_seconds = 0.0
        self._updates_per_second = 0.0
        super().setup(config)
        self._pretrain_seconds = float(self._first_learner(lambda learner: learner.pretrain_seconds))
        self._go_on()

    def training_step(self) -> None:
        config: Any = self.config
        if self._started and self._updates >= config.trial.get("updates", math.inf):
            # cut off between its last update and Tune's note of it: there is nothing left but to report it again
            self._log()
            return
        if self._started:
            updates = config.updates_per_iteration
            results = self._each_learner(lambda learner: learner.train_updates(updates))
            self._losses, seconds = results[0]
            self._updates += updates
            self._train_seconds += seconds
            self._updates_per_second = updates / seconds
        if self._updates % config.evaluate_every == 0:
            result, seconds = self._first_learner(lambda learner: learner.evaluate())
            self._evaluation = {**result, "updates": self._updates}
            self._evaluation_seconds += seconds
            # nothing is prepared again after a restore, but for what lies in memory only
            preparation = float(self._first_learner(lambda learner: learner.preparation_seconds))
            self._preparation_seconds = max(self._preparation_seconds, preparation)
        self._started = True
        self._log()

    def _log(self) -> None:
        log = self.metrics.log_value
        for name, value in self._evaluation.items():
            log(("eval", name), value, window=1)
        for name, value in self._losses.items():
            log(("train", name), value, window=1)
        log(("time", "pretrain_seconds"), self._pretrain_seconds, window=1)
        log(("time", "preparation_seconds"), self._preparation_seconds, window=1)
        log(("time", "train_seconds"), self._train_seconds, window=1)
        log(("time", "evaluation_seconds"), self._evaluation_seconds, window=1)
        before = self._pretrain_seconds + self._preparation_seconds
        log(("time", "total_seconds"), before + self._train_seconds, window=1)

    def _compile_iteration_results(self, **results: Any) -> dict[str, Any]:
        compiled: dict[str, Any] = super()._compile_iteration_results(**results)
        compiled["updates"] = self._updates
        return compiled

    def log_result(self, result: dict[str, Any]) -> None:
        # Tune's own monitor has just put its figures in the place of whatever "perf" held
        result["perf"] = {**result.get("perf", {}), "updates_per_second": self._updates_per_second}
        super().log_result(result)

    def _each_learner(self, call: Any) -> list[Any]:
        """What ``call(learner)`` gave on every learner; raises what it raised."""
        return [result.get() for result in self.learner_group.foreach_learner(call)]

    def _first_learner(self, call: Any) -> Any:
        group = self.learner_group
        ids = None if group.is_local else [0]
        return next(iter(group.foreach_learner(call, remote_actor_ids=ids))).get()

    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> RLModule:
        """The trained module; it acts on a batch of observations."""
        if self.learner_group.is_local:
            module: RLModule = self.learner_group._learner.module[module_id]
            return module
        spec = self.config.get_default_rl_module_spec()
        module = spec.module_class(
            observation_space=self.config.observation_space,
            action_space=self.config.action_space,
            model_config=spec.model_config,
        )
        module.set_state(self._first_learner(lambda learner: learner.module[module_id].get_state()))
        return module

    # Checkpoints hold tensors as safetensors and everything else as JSON: reading one runs no code.

    def save_to_path(self, path: Any = None, **_rllib: Any) -> str:
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)  # while others are written over, the folder holds no checkpoint
        tensors, values = self._first_learner(lambda learner: learner.agent_state())
        save_file(tensors, folder / "learner.safetensors")
        config: Any = self.config
        (folder / "settings.json").write_text(json.dumps(config.plain(), indent=2))
        save_agent_spec(config.agent_spec(), folder)
        (folder / RECORD).write_text(json.dumps({"agent": values, **self._progress(), "files": digests_of(folder)}))
        return str(folder)

    @classmethod
    def from_checkpoint(cls, path: Any, **_rllib: Any) -> "OfflineAlgorithm":
        """The algorithm that wrote the checkpoint in folder ``path``, as it was then.

        Raises:
            UserError: the folder is not a checkpoint that can be read.
        """
        folder = Path(getattr(path, "path", path))
        try:
            settings = json.loads((folder / "settings.json").read_text())
            get_method(settings["method_name"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{folder} is not a checkpoint that can be read ({error}).") from error
        algorithm: OfflineAlgorithm = ALGORITHMS[settings["method_name"]](
            config=cls.get_default_config().update_from_dict(settings)
        )
        algorithm.restore_from_path(folder)
        return algorithm

    def restore_from_path(self, path: Any, *_args: Any, **_rllib: Any) -> None:
        folder = Path(path)
        try:
            tensors = load_file(folder / "learner.safetensors")
            progress = json.loads((folder / RECORD).read_text())
            values = progress["agent"]
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise UserError(f"{folder} is not a checkpoint that can be read ({error}).") from error
        self._each_learner(lambda learner: learner.load_agent_state(tensors, values))
        for name in self._progress().keys() & progress.keys():
            setattr(self, f"_{name}", progress[name])

    def restore(self, checkpoint_path: Any) -> None:
        """Tune's; what Tune names may be gone, as a killed driver leaves an older note of its trials than they are."""
        named = getattr(checkpoint_path, "checkpoint", None)
        if named and named.filesystem.get_file_info(named.path).type == FileType.NotFound:
            logger.warning("%s is gone; the trial goes on from update %d.", named.path, self._updates)
            return
        super().restore(checkpoint_path)

    def _go_on(self) -> None:
        """Go on from the last whole checkpoint in the trial's own folder, whatever Tune knows of it."""
        if self._storage is None or not self._storage.trial_dir_name:
            return
        filesystem = self._storage.storage_filesystem
        last = last_whole_checkpoint(filesystem, self._storage.trial_fs_path)
        if last is not None:
            super().restore(Checkpoint(last, filesystem))

    def _progress(self) -> dict[str, Any]:
        return {
            "started": self._started,
            "updates": self._updates,
            "evaluation": self._evaluation,
            "losses": self._losses,
            "preparation_seconds": self._preparation_seconds,
            "train_seconds": self._train_seconds,
            "evaluation_seconds": self._evaluation_seconds,
            "updates_per_second": self._updates_per_second,
        }


class SPIN(OfflineAlgorithm):
    """SPIN; see ``SPINConfig``."""

    config_class = SPINConfig


class SPINCached(OfflineAlgorithm):
    """SPIN on cached features; see ``SPINCachedConfig``."""

    config_class = SPINCachedConfig


class SPINDistill(OfflineAlgorithm):
    """SPIN with a distilled trunk; see ``SPINDistillConfig``."""

    config_class = SPINDistillConfig


class Finetune(OfflineAlgorithm):
    """SPIN with a trunk that trains; see ``FinetuneConfig``."""

    config_class = FinetuneConfig


class Saint(OfflineAlgorithm):
    """SAINT; see ``SaintConfig``."""

    config_class = SaintConfig


class Factored(OfflineAlgorithm):
    """The factored baseline; see ``FactoredConfig``."""

    config_class = FactoredConfig


class Autoregressive(OfflineAlgorithm):
    """The autoregressive baseline; see ``AutoregressiveConfig``."""

    config_class = AutoregressiveConfig


ALGORITHMS: dict[str, type[OfflineAlgorithm]] = {
    algorithm.config_class.method_name: algorithm
    for algorithm in (SPIN, SPINCached, SPINDistill, Finetune, Saint, Factored, Autoregressive)
}


ANY_METHOD = "OfflineRL"
"""The trainable whose configuration names the method, for sweeps over methods."""


def register_algorithms() -> None:
    """Register every method with Ray under its class name (``tune.Tuner("SPIN", ...)``) and its method name.

    To be called in the process that fits or restores a Tuner.
    """
    for name, algorithm in ALGORITHMS.items():
        register_trainable(algorithm.__name__, algorithm)
        register_trainable(name, algorithm)
    register_trainable(ANY_METHOD, OfflineAlgorithm)
