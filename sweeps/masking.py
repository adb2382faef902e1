"""Which masking pretraining needs, and whether SPIN's queries must be trained: pairs of trials with one difference."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from spin_rl.platform.reports.groups import evaluations
from spin_rl.platform.reports.labels import parameters_of
from spin_rl.platform.reports.presentation import Presentation
from spin_rl.platform.reports.sections import Section
from spin_rl.platform.results.files import SweepResults
from spin_rl.sweeps.analysis.outcomes import number
from spin_rl.sweeps.planning.sweep import TINY, Sweep

SPACE = {
    "task": ("cheetah-run", "finger-spin", "walker-walk"),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin", "spin-cached"),
    "objective": ("iql",),
    "asm_masking": ("fixed", "variable"),
    "asm_steps": (2000,),
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (3000,),
    "evaluations": (3,),
    "episodes": (10,),
}

TINY_SPACE = {
    **TINY,
    "task": ("cheetah-run",),
    "algorithm": ("factored", "spin"),
    "seed": (0, 1),
    "asm_steps": (20,),
}

_VARIED = ("algorithm", "asm_masking")


def analysis(results: SweepResults) -> Sequence[Section]:
    """Differences in final score between trials that differ only in the masking, or only in the method."""
    scores = evaluations(results).groupby("trial_id")["score"].last()
    if not {*_VARIED} <= {*results.trials}:
        return []
    trials = results.trials.assign(score=scores).dropna(subset=["score", *_VARIED])
    same = [name for name in parameters_of(trials.drop(columns="score")) if name not in _VARIED]
    trials[same] = trials[same].map(str)  # a setting may be missing or nested
    rows = [
        row
        for one, other in (("algorithm", "asm_masking"), ("asm_masking", "algorithm"))
        for kept, group in trials.groupby(other, sort=False)
        for row in _differences(group, one, str(kept), same, Presentation(results))
    ]
    if not rows:
        return []
    text = (
        "Normalised score of the last evaluation, first minus second, for pairs of trials that are equal in "
        "everything else, including the seed: mean, its 95 % confidence interval (Student's t over the pairs), and how "
        "many pairs the first won."
    )
    table = pd.DataFrame(rows)
    readable = pd.DataFrame(
        {
            "with": table["with"],
            "first": table["first"],
            "second": table["second"],
            "difference": [number(value) for value in table["difference"]],
            "95 %": [f"{number(low)} to {number(high)}" for low, high in zip(table["low"], table["high"], strict=True)],
            "won": [f"{won} of {pairs}" for won, pairs in zip(table["won"], table["pairs"], strict=True)],
        }
    )
    return [Section("Masking, and trained or fixed queries", text, {"": readable}, {"pairs": table})]


def _differences(
    trials: pd.DataFrame, one: str, kept: str, same: list[str], presentation: Presentation
) -> list[dict[str, object]]:
    """A row for every two values of the parameter ``one``, in reverse alphabetical order."""
    scores = trials.pivot_table("score", same, one)
    found = []
    for index, second in enumerate(scores):
        for first in list(scores)[index + 1 :]:
            pairs = (scores[first] - scores[second]).dropna()
            if len(pairs) < 2:
                continue
            low, high = stats.t.interval(0.95, len(pairs) - 1, pairs.mean(), max(stats.sem(pairs), 1e-12))
            found.append(
                {
                    "with": _readable(kept, presentation),
                    "first": _readable(first, presentation),
                    "second": _readable(second, presentation),
                    "pairs": len(pairs),
                    "difference": float(pairs.mean()),
                    "low": float(low),
                    "high": float(high),
                    "won": int(np.count_nonzero(pairs > 0)),
                }
            )
    return found


def _readable(value: str, presentation: Presentation) -> str:
    return f"{value} masking" if value in ("fixed", "variable") else presentation.name(value)


SWEEP = Sweep(
    name="masking",
    description="Which masking should pretraining have, and do SPIN's queries have to be trained?",
    space=SPACE,
    tiny=TINY_SPACE,
    analysis=analysis,
)
