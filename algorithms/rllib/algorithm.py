"""The methods as RLlib Algorithms: iterations of K updates, batched evaluation, safe checkpoints."""

import gc
import json
import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from pyarrow.fs import FileType
from ray.exceptions import RayTaskError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune import Checkpoint
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.evaluation.evaluator import close_idle
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.rllib.config import OfflineConfig
from spin_rl.algorithms.rllib.env_runners import evaluate_on_env_runners
from spin_rl.algorithms.rllib.recovery import RECORD, digests_of, last_whole_checkpoint
from spin_rl.algorithms.training.checkpoints import save_agent_spec
from spin_rl.errors import UserError
from spin_rl.platform.common.process_metrics import system_metrics

logger = logging.getLogger(__name__)

ANY_METHOD = "OfflineRL"
"""The trainable whose configuration names the method, for sweeps over methods."""


class OfflineAlgorithm(Algorithm):
    """Trains a policy offline; one ``train()`` is ``updates_per_iteration`` policy updates.

    The first iteration makes none: it evaluates the untrained policy, the curve's point at update 0. Between
    evaluations the last one is reported again, with ``eval/updates`` saying when it was made.

    Where evaluation overlaps with training, the learners go on to updates of later iterations while it runs, and the
    iterations find them made: their results and checkpoints are those of an evaluation that everything waits for.
    """

    config_class: type[OfflineConfig] = OfflineConfig
    learner_group: Any

    @classmethod
    def get_default_config(cls) -> OfflineConfig:
        return cls.config_class(algo_class=cls)

    def setup(self, config: OfflineConfig) -> None:
        self._build(config)
        self._go_on()

    def _build(self, config: OfflineConfig) -> None:
        self._started = False
        self._prepared = False
        self._updates = 0
        self._ahead = 0  # updates that the learners have made beyond those
        self._evaluation: list[dict[str, float]] = []  # of every seed, as are
        self._losses: list[dict[str, float]] = []
        self._preparation_seconds = 0.0
        self._train_seconds = 0.0
        self._evaluation_seconds = 0.0
        self._updates_per_second = 0.0
        super().setup(config)
        self._pretrain_seconds = float(self._first_learner(lambda learner: learner.pretrain_seconds))

    def reset(self, new_config: Any, storage: Any = None) -> bool:
        """Tune's, where it reuses the process of a trial for the next."""
        if not super().reset(new_config, storage=storage):
            return False
        self._go_on()
        return True

    def reset_config(self, new_config: Any) -> bool:
        """Become what a new algorithm with ``new_config`` is."""
        super().cleanup()
        self.learner_group = self.eval_env_runner_group = self.offline_data = None
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
        close_idle()

    def training_step(self) -> None:
        config: Any = self.config
        if self._started and self._updates >= config.trial.get("updates", math.inf):
            # cut off between its last update and Tune's note of it: there is nothing left but to report it again
            self._log()
            return
        if not self._prepared:
            # nothing is prepared again after a restore, but for what lies in memory only
            preparation = float(self._each_learner(lambda learner: learner.prepare())[0])
            self._preparation_seconds = max(self._preparation_seconds, preparation)
            self._prepared = True
        if self._started:
            updates = config.updates_per_iteration
            self._losses, seconds = self._each_learner(lambda learner: learner.train_updates(updates))[0]
            self._updates += updates
            self._ahead = max(0, self._ahead - updates)
            self._train_seconds += seconds
            self._updates_per_second = updates / seconds
        if self._updates % config.evaluate_every == 0:
            self._evaluate()
        self._started = True
        self._log()

    def _evaluate(self) -> None:
        """Evaluate the policy as it stands; ``time/evaluation_seconds`` is how long that held up the training."""
        config: Any = self.config
        started = time.perf_counter()
        trained = 0.0
        if self.eval_env_runner_group:
            results = [evaluate_on_env_runners(self.eval_env_runner_group, self.learner_group, config)]
        elif config.overlaps_evaluation:
            self._first_learner(lambda learner: learner.start_evaluation())
            updates = config.updates_per_iteration
            end = min(self._updates + config.evaluate_every, config.trial.get("updates", math.inf))
            while self._updates + self._ahead < end and not self._first_learner(
                lambda learner: learner.evaluation_done()
            ):
                trained += self._each_learner(lambda learner: learner.train_ahead(updates))[0]
                self._ahead += updates
            results = self._first_learner(lambda learner: learner.finish_evaluation())
        else:
            results = self._first_learner(lambda learner: learner.evaluate())
        self._evaluation = [{**result, "updates": self._updates} for result in results]
        self._evaluation_seconds += time.perf_counter() - started - trained

    def _log(self) -> None:
        log = self.metrics.log_value
        for group, by_seed in (("eval", self._evaluation), ("train", self._losses)):
            for name in by_seed[0] if by_seed else ():
                log((group, name), fmean(values[name] for values in by_seed), window=1)
            if len(by_seed) > 1:
                for seed, values in zip(self.config.seeds, by_seed, strict=True):
                    for name, value in values.items():
                        log((group, f"seed{seed}", name), value, window=1)
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
        result["system"] = system_metrics(torch)
        super().log_result(result)

    def _each_learner(self, call: Any) -> list[Any]:
        """What ``call(learner)`` gave on every learner; raises what it raised."""
        return _values(self.learner_group.foreach_learner(call))

    def _first_learner(self, call: Any) -> Any:
        ids = None if self.learner_group.is_local else [0]
        return _values(self.learner_group.foreach_learner(call, remote_actor_ids=ids))[0]

    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> RLModule:
        """The trained module; it acts on a batch of observations."""
        if self.learner_group.is_local and not self._ahead:
            module: RLModule = self.learner_group._learner.module[module_id]
            return module
        spec = self.config.get_default_rl_module_spec()
        module = spec.module_class(
            observation_space=self.config.observation_space,
            action_space=self.config.action_space,
            model_config=spec.model_config,
        )
        tensors, _ = self._first_learner(lambda learner: learner.agent_states())[0]
        networks = {name: value for name, value in tensors.items() if name.startswith("networks.")}
        module.objective.load_state_dict({name.removeprefix("networks."): v for name, v in networks.items()})
        return module

    # Checkpoints hold tensors as safetensors and everything else as JSON: reading one runs no code.

    def save_to_path(self, path: Any = None, **_rllib: Any) -> str:
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)  # while others are written over, the folder holds no checkpoint
        states = self._first_learner(lambda learner: learner.agent_states())
        for number, state in enumerate(self._each_learner(lambda learner: learner.random_state())[1:], 1):
            states[0][0].update({f"learner{number}.{name}": value for name, value in state.items()})
        config: Any = self.config
        (folder / "settings.json").write_text(json.dumps(config.plain(), indent=2))
        for (tensors, _), place, seed in zip(states, self._places(folder), config.seeds, strict=True):
            place.mkdir(exist_ok=True)
            save_file(tensors, place / "learner.safetensors")
            save_agent_spec(replace(config.agent_spec(), seed=seed), place)
        record = {"agent": states[0][1], **self._progress(), "files": digests_of(folder)}
        (folder / RECORD).write_text(json.dumps(record))
        return str(folder)

    def _places(self, folder: Path) -> list[Path]:
        """Where a checkpoint in ``folder`` holds the state of each seed; the first one's policy is the checkpoint's."""
        config: Any = self.config
        return [folder, *(folder / f"seed{seed}" for seed in config.seeds[1:])]

    @classmethod
    def from_checkpoint(cls, path: Any, **_rllib: Any) -> "OfflineAlgorithm":
        """The algorithm that wrote the checkpoint in folder ``path``, as it was then.

        Raises:
            UserError: the folder is not a checkpoint that can be read.
        """
        folder = Path(getattr(path, "path", path))
        from spin_rl.algorithms.rllib.catalogue import ALGORITHMS  # its module needs this one's class

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
            tensors = [load_file(place / "learner.safetensors") for place in self._places(folder)]
            progress = json.loads((folder / RECORD).read_text())
            values = progress["agent"]
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise UserError(f"{folder} is not a checkpoint that can be read ({error}).") from error
        states = [(of_seed, values) for of_seed in tensors]
        self._each_learner(lambda learner: learner.load_agent_states(states))
        self._ahead, self._prepared = 0, False
        for name in self._progress().keys() & progress.keys():
            setattr(self, f"_{name}", progress[name])
        # checkpoints had one seed and no list of them
        self._evaluation, self._losses = (
            values if isinstance(values, list) else [values] if values else []
            for values in (self._evaluation, self._losses)
        )

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


def _values(results: Any) -> list[Any]:
    """What calls on learners gave, which may run elsewhere; raises what one of them raised, by its own type."""
    for result in results.result_or_errors:
        if not result.ok:
            error = result.get()
            raise error.cause if isinstance(error, RayTaskError) else error
    return [result.get() for result in results]
