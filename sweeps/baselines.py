"""The comparison: every method with every objective on every task and level, all with the same data and budget."""

from collections.abc import Sequence

import pandas as pd

from spin_rl.algorithms.methods import POLICY_OBJECTIVES
from spin_rl.platform.reports.sections import Section
from spin_rl.platform.results.files import SweepResults
from spin_rl.sweeps.analysis.outcomes import number, outcomes
from spin_rl.sweeps.planning.sweep import TINY, Sweep

SPACE = {
    "task": ("cheetah-run", "finger-spin"),
    "bins": (3,),
    "level": ("medium-expert", "random-medium-expert"),
    "algorithm": ("factored", "autoregressive", "saint", "spin", "spin-cached", "spin-distill"),
    "objective": ("iql", "awac", "bcq"),
    "asm_steps": (2000,),
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (10,),
    "episodes": (10,),
}

TINY_SPACE = {
    **TINY,
    "task": ("cheetah-run",),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),
    "objective": ("iql", "bcq"),
    "asm_steps": (20,),
}


def analysis(results: SweepResults) -> Sequence[Section]:
    """The paper's main table: return and minutes to target of every method, one table for each objective.

    Methods whose objective is their own share one: a table of each would compare nothing.
    """
    table = outcomes(results, ["task", "bins", "level", "objective"])
    of_policies = table["objective"].isin(POLICY_OBJECTIVES)
    kinds = table["objective"].astype(str).str.upper().where(of_policies, "Objectives of their own")
    tables = {str(kind): _matrix(rows) for kind, rows in table.groupby(kinds, sort=False)}
    text = (
        "Return of the last evaluation / minutes of pretraining and training until 95 % of the factored policy's final "
        "return (a dash: not reached). The last row has the mean return over the rows that all methods have, and the "
        "sum of the minutes over the rows in which all methods reached the target."
    )
    return [Section("Every method on every dataset", text, tables, {"baselines": table.drop(columns="trials")})]


def _matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Datasets down, methods across."""
    place = [f"{row['level']} {row['task']} {row['bins']:g}" for row in rows.to_dict("records")]
    returns = rows.assign(place=place).pivot_table("return_mean", "place", "label", sort=False)
    minutes = rows.assign(place=place, minutes=rows["target_seconds"] / 60)
    minutes = minutes.pivot_table("minutes", "place", "label", sort=False, dropna=False).reindex_like(returns)
    text = pd.DataFrame({"dataset": [*returns.index, "overall"]})
    common, reached = returns.dropna(), minutes.dropna()
    for label in returns:
        cells = [f"{number(a)} / {number(b)}" for a, b in zip(returns[label], minutes[label], strict=True)]
        mean = common[label].mean() if len(common) else float("nan")
        total = reached[label].sum() if len(reached) else float("nan")
        text[str(label)] = [*cells, f"{number(mean)} / {number(total)}"]
    return text


SWEEP = Sweep(
    name="baselines",
    description="Which method is best, and at what cost?",
    space=SPACE,
    tiny=TINY_SPACE,
    analysis=analysis,
)
