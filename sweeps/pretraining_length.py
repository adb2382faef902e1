"""How long to pretrain: return and time against the pretraining steps, from none at all (the paper's figure 2)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from spin_rl.platform.reports.presentation import Presentation
from spin_rl.platform.reports.sections import Section
from spin_rl.platform.results.files import SweepResults
from spin_rl.sweeps.analysis.outcomes import Measure, Panel, against, baseline_of, finals, number, outcomes, with_spread
from spin_rl.sweeps.planning.sweep import TINY, Sweep

SPACE = {
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),  # the first sets the target for the time to target
    "objective": ("iql",),
    "asm_steps": (0, 250, 500, 1000, 2000, 4000),  # 0: the untrained trunk
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (20,),
    "episodes": (10,),
}

TINY_SPACE = {
    **TINY,
    "asm_steps": (0, 20),
}


def analysis(results: SweepResults) -> Sequence[Section]:
    """Return, and time to the factored policy's return, against the pretraining steps; where gains end."""
    table = outcomes(results, ["asm_steps", "asm_epochs"])
    pretrained = table.dropna(subset=["asm_steps"])
    if pretrained.empty:
        return []
    tables, answers, panels = {}, [], []
    for title, rows in table.groupby("group", sort=False):
        panels.append(Panel(str(title), rows, "asm_steps", "pretraining steps"))
        tables[str(title)] = _readable(rows)
        for _, lengths in rows.dropna(subset=["asm_steps"]).groupby("algorithm", sort=False):
            answers.append(_answer(str(title), results, lengths, baseline_of(rows)))
    measures = (
        Measure("return_mean", "final return", "return_seed_std"),
        Measure("target_seconds", "minutes to target", scale=1 / 60),
        Measure("seconds", "total minutes", scale=1 / 60),
    )
    caption = (
        "Against the pretraining steps: return of the last evaluation (band: one deviation over seeds), minutes "
        "of pretraining and training until 95 % of the factored policy's final return, and total minutes."
    )
    figures = {
        f"{caption}{f' ({first + 1} of {-(-len(panels) // 4)})' if len(panels) > 4 else ''}": (
            f"pretraining-length{f'-{first + 1}' if len(panels) > 4 else ''}",
            against(panels[4 * first : 4 * first + 4], measures, Presentation(results)),
        )
        for first in range(-(-len(panels) // 4))
    }
    data = {"pretraining-length": table.drop(columns="trials")}
    return [Section("How long to pretrain", "\n".join(answers), tables, data, figures)]


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values(["algorithm", "asm_steps"], na_position="first")
    records = ordered.to_dict("records")
    return pd.DataFrame(
        {
            "algorithm": [row["name"] for row in records],
            "steps": [number(row["asm_steps"], 0) for row in records],
            "epochs": [number(row["asm_epochs"]) for row in records],
            "return": [with_spread(row) for row in records],
            "best": [number(row["best_mean"]) for row in records],
            "mean": [number(row["area"]) for row in records],
            "asm s": [number(row["pretrain_seconds"], 0) for row in records],
            "to 95 %": [number(row["target_seconds"], 0) for row in records],
            "seconds": [number(row["seconds"], 0) for row in records],
        }
    )


def _answer(title: str, results: SweepResults, lengths: pd.DataFrame, baseline: dict[str, float] | None) -> str:
    """Where the gains of more pretraining end, for one method in one group, as sentences."""
    ordered = lengths.sort_values("asm_steps")
    best = ordered.loc[ordered["return_mean"].idxmax()]
    said = f"{title}: {best['name']} has the highest return after {best['asm_steps']:,.0f} steps ({with_spread(best)})"
    if best["seeds"] > 1:
        said += f"; from {enough_steps(results, ordered):,.0f} steps on it is within one standard error of that."
    else:
        said += ", with one seed, which says nothing about the noise."
    reached = ordered.dropna(subset=["target_seconds"])
    if len(reached):
        quick = reached.loc[reached["target_seconds"].idxmin()]
        soonest = number(quick["target_seconds"], 0)
        said += f" It reaches the target first after {quick['asm_steps']:,.0f} steps of pretraining, in {soonest} s"
        said += f", the factored policy in {number(baseline['target_seconds'], 0)} s." if baseline else "."
    elif baseline:
        said += " With none of these lengths it reaches 95 % of the factored policy's final return."
    return said


def enough_steps(results: SweepResults, lengths: pd.DataFrame) -> float:
    """The fewest steps with a final return within one standard error of the best one's, seeds compared in pairs.

    Args:
        results: the sweep's results.
        lengths: rows of `outcomes` of one method in one group, sorted by steps.
    """
    returns = {row["asm_steps"]: finals(results, row["trials"]) for row in lengths.to_dict("records")}
    best = returns[lengths.loc[lengths["return_mean"].idxmax(), "asm_steps"]]
    for steps, mine in returns.items():
        lost = (best - mine).dropna()
        error = lost.std() / np.sqrt(len(lost)) if len(lost) > 1 else 0.0
        if len(lost) and lost.mean() <= error:
            return float(steps)
    return float(lengths["asm_steps"].max())


SWEEP = Sweep(
    name="pretraining-length",
    description="How long should the action structure model be pretrained?",
    space=SPACE,
    tiny=TINY_SPACE,
    analysis=analysis,
)
