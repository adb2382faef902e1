"""Which settings do not fit each other: each refusal names both sides, before any data is read."""

from pathlib import Path

import torch

from spin_rl.algorithms.asm.files import read_shape
from spin_rl.algorithms.cloning.files import check_clone_shape, read_clone_shape
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.methods import METHOD_SETTINGS, METHODS, Method, get_method
from spin_rl.algorithms.networks.precision import check_onednn, check_precision
from spin_rl.algorithms.objectives import get_objective
from spin_rl.algorithms.presets import Preset
from spin_rl.algorithms.settings.training import TrainingSettings
from spin_rl.algorithms.training.agent import check_asm_data, check_asm_shape
from spin_rl.algorithms.training.seeds import check_seeds
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import read_checkpoint


def check_settings(settings: TrainingSettings) -> None:
    """UserError where settings do not fit each other, the objective, the method or its model; reads no transitions."""
    settings.objective_settings()
    get_method(settings.method_name).check_objective(settings.objective)
    objective = get_objective(settings.objective)
    if settings.env and not objective.any_actions:
        objective.check_actions(settings.dataset().nvec)
    check_device(settings)
    check_learners(settings)
    check_seeds_at_once(settings)
    check_features(settings)
    check_model(settings)


def check_device(settings: TrainingSettings) -> None:
    """UserError where there is no such device, or it does not have the precision."""
    try:
        device = torch.device(settings.learner_device)
    except RuntimeError as error:
        raise UserError(f"device={settings.device} is no device: use auto, cpu, cuda, or cuda:0.") from error
    check_precision(settings.precision, device)
    if device.type != "cpu":  # only the learner's own process can tell what its CPU does
        check_onednn(settings.onednn, device)


def check_learners(settings: TrainingSettings) -> None:
    """UserError where a minibatch is too small for the learners that share it."""
    if settings.batch_size < max(1, settings.num_learners):
        raise UserError(
            f"A minibatch of {settings.batch_size} cannot be shared by {settings.num_learners} learners: "
            "raise train_batch_size or ask for fewer learners."
        )
    if settings.num_learners > 1 and settings.objective_settings().draws_minibatches:
        raise UserError(
            f"num_learners={settings.num_learners} share minibatches, {settings.objective} with prioritised=true draws "
            "its own by what one learner has seen: give prioritised=false or ask for one learner."
        )


def check_seeds_at_once(settings: TrainingSettings) -> None:
    """UserError where several seeds cannot be trained at once with the other settings."""
    seeds = settings.seeds_per_trial
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise UserError(f"seeds_per_trial={seeds} must be a whole number of at least 1.")
    if seeds == 1:
        return
    if settings.num_learners > 1:
        raise UserError(
            f"seeds_per_trial={seeds} trains several seeds in one learner, num_learners={settings.num_learners} shares "
            "one seed between several: leave one of them out."
        )
    if settings.env:
        check_seeds(settings.agent_spec(), settings.seeds)


def check_features(settings: TrainingSettings) -> None:
    """UserError where settings are given that only other methods have, or that the method's features exclude."""
    method = get_method(settings.method_name)
    for name in sorted(METHOD_SETTINGS - method.settings):
        if (value := getattr(settings, name)) is not None:
            owners = " and ".join(other.name for other in METHODS.values() if name in other.settings)
            raise UserError(
                f"{name}={value} is a setting of {owners}, the method is {method.name}: leave it out or train {owners}."
            )
    FeatureStorage(settings.feature_dtype or "float32")
    if settings.network.get("trunk_dropout") and method.constant_features:
        raise UserError(
            f"trunk_dropout=True makes features random, {method.name} trains on constant ones: leave it out or "
            "train spin."
        )


def check_model(settings: TrainingSettings) -> None:
    """UserError where a method lacks its pretrained model, has one that it does not use, or one that does not fit."""
    method = get_method(settings.method_name)
    key, kind = ("clone", "clone") if method.uses_clone else ("asm", "action structure model")
    for name, folder, example in (("asm", settings.asm, "spin"), ("clone", settings.clone, "factored-bc")):
        if folder and not (method.pretrained and name == key):
            what = f"a pretrained {kind}" if method.pretrained else "no pretrained model"
            raise UserError(
                f"{method.name} starts from {what}, but {name}={folder} is given: leave it out or train {example}."
            )
    if method.pretrained and settings.env:
        folder = settings.pretrained_model
        if not folder:
            option = f" --method {method.name}" if method.uses_clone else ""
            raise UserError(
                f"{method.label} needs a pretrained {kind}: 'spin-rl pretrain {settings.task.name} "
                f"{settings.dataset().level}{option} --preset {settings.preset}' makes one and prints its folder, to "
                f"be given as training({key}=...)."
            )
        if Path(folder).exists():  # a sweep's models are made before its trials start
            meta = settings.dataset()
            check_asm_data(read_checkpoint(Path(folder)), meta.task, meta.bins)
            spaces = meta.observation_size, tuple(meta.nvec)
            check_pretrained_shape(Path(folder), method, *spaces, settings.resolved_preset())
    if method.check and settings.env:
        method.check(settings.dataset().nvec, settings.resolved_preset())


def check_pretrained_shape(
    folder: Path, method: Method, observation_size: int, nvec: tuple[int, ...], preset: Preset
) -> None:
    """UserError where the model in ``folder`` is not what a policy of ``method`` starts from."""
    if method.uses_clone:
        check_clone_shape(read_clone_shape(folder), method.cloned, observation_size, nvec, preset)
    else:
        check_asm_shape(read_shape(folder), observation_size, nvec, preset.asm)
