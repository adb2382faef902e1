"""Which settings do not fit each other: each refusal names both sides, before any data is read."""

from pathlib import Path
from typing import Any

import torch

from spin_rl.algorithms.asm.files import read_shape
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.networks.precision import check_onednn, check_precision
from spin_rl.algorithms.training.agent import check_asm_data, check_asm_shape
from spin_rl.algorithms.training.seeds import check_seeds
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import read_checkpoint

# Each takes an OfflineConfig, whose module needs this one.


def check_device(config: Any) -> None:
    """UserError where there is no such device, or the precision is not one of its."""
    try:
        device = torch.device(config.learner_device)
    except RuntimeError as error:
        raise UserError(f"device={config.device} is no device: use auto, cpu, cuda, or cuda:0.") from error
    check_precision(config.precision, device)
    if device.type != "cpu":  # what the learner's CPU can is seen there
        check_onednn(config.onednn, device)


def check_learners(config: Any) -> None:
    """UserError where a minibatch is too small for the learners that share it."""
    if config.batch_size < max(1, config.num_learners):
        raise UserError(
            f"A minibatch of {config.batch_size} cannot be shared by {config.num_learners} learners: "
            "raise train_batch_size or ask for fewer learners."
        )


def check_seeds_at_once(config: Any) -> None:
    """UserError where several seeds cannot be trained at once with the other settings."""
    seeds = config.seeds_per_trial
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise UserError(f"seeds_per_trial={seeds} must be a whole number of at least 1.")
    if seeds == 1:
        return
    if config.num_learners > 1:
        raise UserError(
            f"seeds_per_trial={seeds} trains several seeds in one learner, num_learners={config.num_learners} shares "
            "one seed between several: leave one of them out."
        )
    if config.evaluation_num_env_runners:
        raise UserError(
            f"seeds_per_trial={seeds} is evaluated by the batched evaluator, evaluation_num_env_runners="
            f"{config.evaluation_num_env_runners} evaluates one seed on env runners: leave one of them out."
        )
    if config.env:
        check_seeds(config.agent_spec(), config.seeds)


def check_evaluation(config: Any) -> None:
    """UserError where two ways of evaluating are asked for, or one that env runners would distort."""
    runners = config.evaluation_num_env_runners
    if runners and config.evaluation_overlap:
        raise UserError(
            f"evaluation_overlap=True is of the batched evaluator, evaluation_num_env_runners={runners} evaluates on "
            "env runners: leave one of them out."
        )
    if runners and config.num_envs_per_env_runner != 1:
        raise UserError(
            f"num_envs_per_env_runner={config.num_envs_per_env_runner} favours short episodes in evaluation, as a "
            "runner stops at the first that end: leave it at 1 and ask for more evaluation_num_env_runners."
        )


def check_features(config: Any) -> None:
    """UserError where settings of constant features are given to a method that has none, or the reverse."""
    method = get_method(config.method_name)
    if method.name == "spin-cached":
        FeatureStorage(config.feature_dtype or "float32")
    else:
        for name in ("feature_dtype", "feature_memory_gib"):
            if getattr(config, name) is not None:
                raise UserError(
                    f"{name}={getattr(config, name)} is a setting of spin-cached, the method is {method.name}: "
                    "leave it out or train spin-cached."
                )
    if config.network.get("trunk_dropout") and method.name in ("spin-cached", "spin-distill"):
        raise UserError(
            f"trunk_dropout=True makes features random, {method.name} trains on constant ones: leave it out or "
            "train spin."
        )


def check_model(config: Any) -> None:
    """UserError where a method lacks its pretrained model, has one that it does not use, or one that does not fit."""
    method, preset = get_method(config.method_name), config.resolved_preset()
    if config.asm and not method.uses_asm:
        raise UserError(
            f"{method.name} starts from no pretrained model, but asm={config.asm} is given: leave it out or train spin."
        )
    if method.uses_asm and config.env:
        if not config.asm:
            raise UserError(
                f"{method.label} needs a pretrained action structure model: "
                f"'spin-rl pretrain {config.task().name} {config.dataset().level} --preset {config.preset}' makes one "
                "and prints its folder, to be given as training(asm=...)."
            )
        if Path(config.asm).exists():  # a sweep's are made before its trials are
            meta = config.dataset()
            check_asm_data(read_checkpoint(Path(config.asm)), meta.task, meta.bins)
            check_asm_shape(read_shape(Path(config.asm)), meta.observation_size, tuple(meta.nvec), preset.asm)
