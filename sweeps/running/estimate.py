"""How long a plan will take, from how long trials and pretrainings of the same kind took in the same storage."""

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from spin_rl.algorithms.pretraining.checkpoints import model_identity
from spin_rl.platform.asm_store.store import ASMStore, asm_root
from spin_rl.sweeps.planning.datasets import open_by_path
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running.completion import trial_records
from spin_rl.sweeps.running.progress import kind_of


class Estimate(NamedTuple):
    """Seconds of all trials and of all pretrainings, one after the other; None if nothing similar was timed here."""

    trials: float | None
    pretrainings: float | None


def estimate(plan: SweepPlan, coming: Iterable[Mapping[str, Any]], storage: Path) -> Estimate:
    """Seconds that ``coming``, trials of the plan, and its missing pretrainings will take.

    Trials of a kind that was never timed are assumed to take the mean time of the others.
    """
    rates = _rates(storage)
    wanted = [(kind_of(trial), int(trial["updates"])) for trial in coming]
    known = [rates[kind] for kind, _ in wanted if kind in rates]
    usual = sum(known) / len(known) if known else None
    trials = None if usual is None else sum(updates * rates.get(kind, usual) for kind, updates in wanted)
    return Estimate(0.0 if not wanted else trials, _pretraining(plan, ASMStore(asm_root(storage))))


def _rates(storage: Path) -> dict[str, float]:
    """Median seconds of an update for each kind of trial, including evaluations and start-up."""
    found: dict[str, list[float]] = {}
    for record in chain.from_iterable(map(trial_records, storage.glob("*/"))):
        params = record.get("params", {})
        if record["state"] == "finished" and record.get("starts") == 1:
            try:
                seconds = (record["ended"] - record["started"]) / params["updates"]
                found.setdefault(kind_of(params), []).append(seconds)
            except (KeyError, TypeError, ZeroDivisionError):
                continue
    return {kind: median(values) for kind, values in found.items()}


def _pretraining(plan: SweepPlan, store: ASMStore) -> float | None:
    """Seconds of the missing steps, at the median pace of stored models of the same sizes on the same task."""
    total = 0.0
    for item in plan.pretrainings:
        dataset = open_by_path(item.dataset)
        identity = model_identity(dataset, item.config)
        stored = store.checkpoints(store.folder(dataset.meta.key, identity))
        missing = max(item.steps) - max((step for step in stored if step <= max(item.steps)), default=0)
        if missing == 0:
            continue
        paces = [
            checkpoint.pretrain_seconds / checkpoint.step
            for checkpoint in store.all()
            if checkpoint.step and checkpoint.task == dataset.meta.task and _alike(store.identity(checkpoint), identity)
        ]
        if not paces:
            return None
        total += missing * median(paces)
    return total


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two models differ at most in dataset and seed."""
    plain = [
        json.dumps({name: value for name, value in identity.items() if name not in ("dataset", "seed")}, sort_keys=True)
        for identity in (one, other)
    ]
    return plain[0] == plain[1]
