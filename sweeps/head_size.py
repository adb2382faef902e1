"""How large the networks have to be: return and time against the heads' width and the trunk's depth and width."""

from collections.abc import Sequence

import pandas as pd

from spin_rl.platform.reports.presentation import Presentation
from spin_rl.platform.reports.sections import Section
from spin_rl.platform.results.files import SweepResults
from spin_rl.sweeps.analysis.outcomes import Measure, Panel, against, number, outcomes, with_spread
from spin_rl.sweeps.planning.sweep import TINY, Sweep

SIZES = {"head_width": "width of the heads", "layers": "depth of the trunk", "width": "width of the model"}

SPACE = {
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),
    "objective": ("iql",),
    "head_width": (32, 128, 512),  # hidden width of a sub-action's head
    "layers": (1, 2, 3),  # depth of the trunk
    "width": (32, 64, 128),  # model width
    "asm_steps": (2000,),
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (20,),
    "episodes": (10,),
}

TINY_SPACE = {
    **TINY,
    "head_width": (8,),
    "layers": (1, 2),
    "width": (16,),
    "asm_steps": (20,),
}


def analysis(results: SweepResults) -> Sequence[Section]:
    """Return and time against each size, the others at the preset's."""
    table = outcomes(results, list(SIZES))
    if table[list(SIZES)].isna().all(axis=None):
        return []
    usual = {name: table[name].mode().iloc[0] for name in SIZES if table[name].notna().any()}
    measures = (
        Measure("return_mean", "final return", "return_seed_std"),
        Measure("seconds", "total minutes", scale=1 / 60),
    )
    tables, figures = {}, {}
    for number_of_group, (title, rows) in enumerate(table.groupby("group", sort=False)):
        parts = {name: _along(rows, name, usual) for name in usual}
        panels = [Panel(SIZES[name], part, name, name.replace("_", " ")) for name, part in parts.items()]
        tables[str(title)] = _readable(rows)
        caption = f"{title}: return of the last evaluation and minutes of pretraining and training against each size."
        figures[caption] = (f"head-size-{number_of_group}", against(panels, measures, Presentation(results)))
    said = ", ".join(f"{SIZES[name]} {value:g}" for name, value in usual.items())
    return [
        Section(
            "How large the networks must be",
            f"One size varies at a time; the others are fixed: {said}.",
            tables,
            {"head-size": table.drop(columns="trials")},
            figures,
        )
    ]


def _along(rows: pd.DataFrame, name: str, usual: dict[str, float]) -> pd.DataFrame:
    """The rows in which only ``name`` differs from the usual sizes, and those without sizes."""
    kept = pd.Series(True, index=rows.index)
    for other, value in usual.items():
        if other != name:
            kept &= rows[other].isna() | (rows[other] == value)
    return rows[kept]


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    records = rows.sort_values(["algorithm", *SIZES], na_position="first").to_dict("records")
    return pd.DataFrame(
        {
            "algorithm": [row["name"] for row in records],
            **{name.replace("_", " "): [number(row[name], 0) for row in records] for name in SIZES},
            "return": [with_spread(row) for row in records],
            "best": [number(row["best_mean"]) for row in records],
            "to 95 % s": [number(row["target_seconds"], 0) for row in records],
            "total s": [number(row["seconds"], 0) for row in records],
            "updates/s": [number(row["updates_per_second"], 0) for row in records],
        }
    )


SWEEP = Sweep(
    name="head-size",
    description="How wide must the heads be, how deep and how wide the model?",
    space=SPACE,
    tiny=TINY_SPACE,
    one_at_a_time=tuple(SIZES),
    analysis=analysis,
)
