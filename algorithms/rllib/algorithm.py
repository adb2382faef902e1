"""The methods as RLlib Algorithms: iterations of K updates, batched evaluation, safe checkpoints."""

import gc
import logging
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from pyarrow.fs import FileType
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune import Checkpoint

from spin_rl.algorithms.evaluation.evaluator import random_state_kept
from spin_rl.algorithms.rllib.checkpoint import Progress, read_checkpoint, read_settings, write_checkpoint
from spin_rl.algorithms.rllib.config import ALGORITHMS, OfflineConfig
from spin_rl.algorithms.rllib.learners import Learners
from spin_rl.algorithms.rllib.overlap import OverlappedEvaluation
from spin_rl.algorithms.rllib.recovery import last_whole_checkpoint
from spin_rl.algorithms.settings import TrainingSettings
from spin_rl.platform.common.process_metrics import system_metrics

logger = logging.getLogger(__name__)

ANY_METHOD = "OfflineRL"
"""The trainable whose configuration names the method, for sweeps over methods."""


class OfflineAlgorithm(Algorithm):
    """Trains a policy offline; one ``train()`` is ``updates_per_iteration`` policy updates.

    The first iteration makes none: it evaluates the untrained policy, the curve's point at update 0. Between
    evaluations the last one is reported again, with ``eval/updates`` saying when it was made.

    Where evaluation overlaps with training, the learners make updates of later iterations meanwhile
    (``spin_rl.algorithms.rllib.ahead``), with the same results and checkpoints.
    """

    config_class: type[OfflineConfig] = OfflineConfig
    learner_group: Any

    # Life of an algorithm: built for a trial, reused for others, stopped.

    @classmethod
    def get_default_config(cls) -> OfflineConfig:
        return cls.config_class(algo_class=cls)

    @classmethod
    def _should_create_evaluation_env_runners(cls, eval_config: Any) -> bool:  # noqa: ARG003
        return False  # RLlib wants them for evaluation_interval; ``evaluate`` needs none

    def setup(self, config: OfflineConfig) -> None:
        self._overlap = OverlappedEvaluation()
        self._build(config)
        self._resume()

    def _build(self, config: OfflineConfig) -> None:
        self._progress = Progress()
        self._prepared = False
        super().setup(config)
        self._settings: TrainingSettings = self.config.settings
        self._pretrain_seconds = float(self._learners.first(lambda learner: learner.pretrain_seconds))

    @property
    def _learners(self) -> Learners:
        return Learners(self.learner_group)

    def reset(self, new_config: Any, storage: Any = None) -> bool:
        """Tune's, where it reuses the process of a trial for the next."""
        if not super().reset(new_config, storage=storage):
            return False
        self._resume()
        return True

    def reset_config(self, new_config: Any) -> bool:
        """Become what a new algorithm with ``new_config`` is; the evaluator stays, which takes seconds to start."""
        super().cleanup()
        self.learner_group = self.offline_data = None
        if torch.cuda.is_initialized():
            gc.collect()  # two trials' data need not lie on a GPU together
            torch.cuda.empty_cache()
        config = self.get_default_config().update_from_dict(new_config)
        config.validate()
        config.freeze()
        self.config = config
        self._env_id, self.env_creator = self._get_env_id_and_creator(config.env, config)
        self.metrics = MetricsLogger(root=True, stats_cls_lookup=config.stats_cls_lookup)
        self._build(config)
        return True

    def cleanup(self) -> None:
        super().cleanup()
        self._overlap.close()

    # An iteration.

    def training_step(self) -> None:
        settings, progress = self._settings, self._progress
        if progress.started and progress.updates >= settings.trial.get("updates", math.inf):
            # killed between its last update and Tune's note of it: all that is left is to report it again
            self._log()
            return
        if not self._prepared:
            # nothing is prepared again after a restore, except for what lies in memory only
            preparation = float(self._learners.each(lambda learner: learner.prepare())[0])
            progress.preparation_seconds = max(progress.preparation_seconds, preparation)
            self._prepared = True
        if progress.started:
            updates = settings.updates_per_iteration
            progress.losses, seconds = self._learners.each(lambda learner: learner.train_updates(updates))[0]
            progress.updates += updates
            progress.train_seconds += seconds
            progress.updates_per_second = updates / seconds
        if progress.updates % settings.evaluate_every == 0:
            self._evaluate()
        progress.started = True
        self._log()

    def _evaluate(self) -> None:
        """Evaluate the policy as it stands; ``time/evaluation_seconds`` is how long that held up the training."""
        settings, started, trained = self._settings, time.perf_counter(), 0.0
        if self.config.overlaps_evaluation:
            left = settings.trial.get("updates", math.inf) - self._progress.updates
            most = min(settings.evaluate_every, left)
            results, trained = self._overlap.evaluate(self._learners, settings.updates_per_iteration, most)
        else:
            results = self._learners.first(lambda learner: learner.evaluate())
        self._progress.evaluation = [{**result, "updates": self._progress.updates} for result in results]
        self._progress.evaluation_seconds += time.perf_counter() - started - trained

    def _log(self) -> None:
        log, progress = self.metrics.log_value, self._progress
        for group, by_seed in (("eval", progress.evaluation), ("train", progress.losses)):
            for name in by_seed[0] if by_seed else ():
                log((group, name), fmean(values[name] for values in by_seed), window=1)
            if len(by_seed) > 1:
                for seed, values in zip(self._settings.seeds, by_seed, strict=True):
                    for name, value in values.items():
                        log((group, f"seed{seed}", name), value, window=1)
        log(("time", "pretrain_seconds"), self._pretrain_seconds, window=1)
        log(("time", "preparation_seconds"), progress.preparation_seconds, window=1)
        log(("time", "train_seconds"), progress.train_seconds, window=1)
        log(("time", "evaluation_seconds"), progress.evaluation_seconds, window=1)
        before = self._pretrain_seconds + progress.preparation_seconds
        log(("time", "total_seconds"), before + progress.train_seconds, window=1)

    def _compile_iteration_results(self, **results: Any) -> dict[str, Any]:
        compiled: dict[str, Any] = super()._compile_iteration_results(**results)
        compiled["updates"] = self._progress.updates
        return compiled

    def log_result(self, result: dict[str, Any]) -> None:
        # Tune's own monitor has just replaced whatever "perf" held
        result["perf"] = {**result.get("perf", {}), "updates_per_second": self._progress.updates_per_second}
        result["system"] = system_metrics(torch)
        super().log_result(result)

    # What RLlib's users call.

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Evaluate the policy as it stands, on the same episodes as training does; changes no later result.

        RLlib's own plays episodes on env runners, one environment at a time; it calls this one, too, where
        ``evaluation_interval`` is set.

        Returns:
            Means over the seeds under the names of ``eval/``, and under RLlib's ``env_runners``.
        """
        by_seed = self._learners.first(lambda learner: learner.evaluate())
        means = {name: fmean(values[name] for values in by_seed) for name in by_seed[0]}
        rllib = {"episode_return_mean": means["return_mean"], "num_episodes": int(means["episodes"])}
        return {**means, "env_runners": rllib}

    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> RLModule:
        """The trained module; it acts on a batch of observations."""
        if self.learner_group.is_local and not self.learner_group._learner.updates_ahead():
            module: RLModule = self.learner_group._learner.module[module_id]
            return module
        spec = self.config.get_default_rl_module_spec()
        with random_state_kept():  # a local learner draws from the same generators
            module = spec.module_class(
                observation_space=self.config.observation_space,
                action_space=self.config.action_space,
                model_config=spec.model_config,
            )
        snapshot = self._learners.first(lambda learner: learner.snapshots())[0]
        module.objective.load_state_dict(snapshot.networks)
        return module

    def save_to_path(self, path: Any = None, **_rllib: Any) -> str:
        """Write a checkpoint into folder ``path``, a new temporary one by default; returns the folder."""
        folder = Path(path or tempfile.mkdtemp(prefix="spin-rl-checkpoint-"))
        states = self._learners.first(lambda learner: learner.agent_states())
        for number, state in enumerate(self._learners.each(lambda learner: learner.random_state())[1:], 1):
            states[0][0].update({f"learner{number}.{name}": value for name, value in state.items()})
        spec = self._settings.agent_spec()
        specs = [replace(spec, seed=seed) for seed in self._settings.seeds]
        write_checkpoint(folder, self.config.plain(), specs, states, self._progress)
        return str(folder)

    @classmethod
    def from_checkpoint(cls, path: Any, *_args: Any, **_rllib: Any) -> "OfflineAlgorithm":
        """The algorithm that wrote the checkpoint in folder ``path``, as it was then.

        Raises:
            UserError: the folder is not a checkpoint that can be read.
        """
        folder = Path(getattr(path, "path", path))
        settings = read_settings(folder)
        algorithm = ALGORITHMS[settings["method_name"]]
        restored: OfflineAlgorithm = algorithm(config=algorithm.get_default_config().update_from_dict(settings))
        restored.restore_from_path(folder)
        return restored

    def restore_from_path(self, path: Any, *_args: Any, **_rllib: Any) -> None:
        """Become what the algorithm that wrote the checkpoint in folder ``path`` was.

        Raises:
            UserError: the folder is not a checkpoint that can be read.
        """
        states, self._progress = read_checkpoint(Path(path), self._settings.seeds)
        self._learners.each(lambda learner: learner.load_agent_states(states))
        self._prepared = False

    def restore(self, checkpoint_path: Any) -> None:
        """Tune's; the checkpoint that it names may be gone: a killed driver leaves an outdated note of its trials."""
        named = getattr(checkpoint_path, "checkpoint", None)
        if named and named.filesystem.get_file_info(named.path).type == FileType.NotFound:
            logger.warning("%s is gone; the trial resumes from update %d.", named.path, self._progress.updates)
            return
        super().restore(checkpoint_path)

    def _resume(self) -> None:
        """Resume from the last whole checkpoint in the trial's own folder, whatever Tune knows of it."""
        if self._storage is None or not self._storage.trial_dir_name:
            return
        filesystem = self._storage.storage_filesystem
        last = last_whole_checkpoint(filesystem, self._storage.trial_fs_path)
        if last is not None:
            super().restore(Checkpoint(last, filesystem))
