"""A sweep beside the published results of SPIN (Landers et al. 2026, arXiv 2601.04441)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from spin_rl.platform.reports.groups import Group
from spin_rl.platform.results.files import SweepResults

_OBJECTIVE = "iql"
CONDITIONS = "IQL, 1,000,000 policy updates, 5 seeds, one NVIDIA A40, the paper's network sizes"


class Published(NamedTuple):
    """A published return, and the minutes until 95 % of the factored policy's final return (NaN where not given)."""

    episode_return: float
    minutes: float = float("nan")


_ALGORITHMS = ("factored", "autoregressive", "saint", "spin")

# (task, level) -> return / minutes of each algorithm, 3 bins
_TABLE: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("cheetah-run", "medium"): ((293.0, 7.0), (284.7, 13.0), (293.5, 12.3), (293.6, 2.4)),
    ("finger-spin", "medium"): ((385.4, 4.7), (383.5, 8.0), (391.5, 11.7), (392.7, 7.8)),
    ("humanoid-stand", "medium"): ((335.4, 25.1), (327.3, 59.3), (332.3, 43.1), (334.8, 23.5)),
    ("quadruped-walk", "medium"): ((353.4, 11.4), (343.4, 34.0), (354.7, 107.5), (359.7, 11.8)),
    ("cheetah-run", "medium-expert"): ((612.9, 80.0), (609.9, 84.1), (627.4, 103.3), (651.1, 14.9)),
    ("finger-spin", "medium-expert"): ((844.5, 28.8), (857.8, 20.5), (847.6, 56.3), (855.2, 14.0)),
    ("humanoid-stand", "medium-expert"): ((603.0, 128.2), (567.6, 143.2), (621.5, 112.2), (652.5, 11.2)),
    ("quadruped-walk", "medium-expert"): ((838.2, 20.3), (833.4, 38.0), (836.5, 36.6), (854.1, 21.9)),
    ("cheetah-run", "random-medium-expert"): ((289.6, 11.4), (276.5, 13.6), (302.4, 17.9), (332.4, 3.0)),
    ("finger-spin", "random-medium-expert"): ((693.4, 33.5), (762.7, 10.6), (747.2, 33.6), (773.2, 25.7)),
    ("humanoid-stand", "random-medium-expert"): ((230.1, 23.7), (192.8, 55.6), (237.3, 33.1), (330.2, 5.6)),
    ("quadruped-walk", "random-medium-expert"): ((340.0, 16.5), (350.2, 16.0), (468.8, 15.6), (561.0, 4.1)),
    ("cheetah-run", "expert"): ((665.9, 27.6), (665.7, 46.3), (664.5, 53.3), (672.7, 19.6)),
    ("finger-spin", "expert"): ((874.0, 16.5), (873.3, 16.9), (870.2, 38.5), (868.5, 4.3)),
    ("humanoid-stand", "expert"): ((729.0, 110.0), (717.2, 199.6), (726.1, 147.3), (734.7, 45.6)),
    ("quadruped-walk", "expert"): ((843.5, 13.4), (824.9, 25.9), (831.6, 22.7), (839.0, 7.9)),
}

# dog-trot medium-expert: bins -> return of each algorithm
_DOG = {3: (472.0, 527.0, 635.0, 647.0), 10: (484.0, 457.0, 529.0, 630.0), 30: (485.0, 557.0, 563.0, 704.0)}

# share of the factored policy's final return after 10,000 updates, cheetah-run medium-expert
EARLY_SHARE = {"factored": 0.30, "autoregressive": 0.41, "saint": 0.46, "spin": 0.91}


def published() -> dict[tuple[str, int, str, str], Published]:
    """Everything published by (task, bins, level, algorithm)."""
    cells = {
        (task, 3, level, algorithm): Published(*cell)
        for (task, level), row in _TABLE.items()
        for algorithm, cell in zip(_ALGORITHMS, row, strict=True)
    }
    for bins, row in _DOG.items():
        for algorithm, value in zip(_ALGORITHMS, row, strict=True):
            cells["dog-trot", bins, "medium-expert", algorithm] = Published(value)
    return cells


def against_paper(table: pd.DataFrame, sweep_groups: Sequence[Group]) -> pd.DataFrame:
    """Measured and published results, one row for each method with IQL that the paper has; empty where it has none.

    Columns: group, label, return_mean, paper_return, minutes (to 95 % of the factored policy's return), paper_minutes,
    early_share (of the factored policy's final return after 10,000 updates), paper_early_share.
    """
    datasets = {group.title: group.data for group in sweep_groups}
    known = published()
    iql_rows = table[table["objective"].fillna(_OBJECTIVE) == _OBJECTIVE]
    rows = []
    for row in iql_rows.to_dict("records"):
        data: Mapping[str, Any] = datasets[row["group"]]
        if pd.isna(data["bins"]):
            continue
        cell = known.get((str(data["task"]), int(data["bins"]), str(data["level"]), row["algorithm"]))
        if cell is None or np.isnan(row["return_mean"]):
            continue
        of_group = iql_rows[iql_rows["group"] == row["group"]]
        factored = of_group[of_group["algorithm"] == "factored"]["return_mean"].max()
        early = (data["task"], data["bins"], data["level"]) == ("cheetah-run", 3, "medium-expert")
        rows.append(
            {
                "group": row["group"],
                "label": row["label"],
                "return_mean": row["return_mean"],
                "paper_return": cell.episode_return,
                "minutes": row["target_seconds"] / 60,
                "paper_minutes": cell.minutes,
                "early_share": row["return_10k"] / factored,
                "paper_early_share": EARLY_SHARE[row["algorithm"]] if early else np.nan,
            }
        )
    return pd.DataFrame(rows)


def readable_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The comparison, rounded."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "return": [f"{value:.1f}" for value in table["return_mean"]],
            "paper's": [f"{value:.1f}" for value in table["paper_return"]],
            "min to 95 %": _optional(table["minutes"], ".2g"),
            "paper's min": _optional(table["paper_minutes"], ".1f"),
            "share at 10k": _optional(table["early_share"], ".0%"),
            "paper's share": _optional(table["paper_early_share"], ".0%"),
        }
    )


def _optional(values: pd.Series, style: str) -> list[str]:
    return ["–" if np.isnan(value) else f"{value:{style}}" for value in values]


def conditions(results: SweepResults) -> str:
    """What a reader of the comparison has to know: the hardware and sizes of this sweep and of the paper."""
    trials = results.trials
    machine: Mapping[str, Any] = results.record.get("provenance", {}).get("machine", {})
    ours = [str(machine.get("gpu") or machine.get("cpu") or "hardware not recorded")]
    for name, what in (
        ("preset", "preset {}"),
        ("updates", "{} policy updates"),
        ("asm_steps", "{} pretraining steps"),
        ("clone_steps", "{} cloning steps"),
    ):
        if name in trials and trials[name].notna().any():
            values = sorted({_plain(value) for value in trials[name].dropna()})
            ours.append(what.format(", ".join(values)))
    ours.append(f"{trials['seed'].nunique()} seeds")
    return f"Here: {', '.join(ours)}. The paper: {CONDITIONS}."


def _plain(value: object) -> str:
    return (
        f"{int(value):,}" if isinstance(value, int | float) else value if isinstance(value, str) else json.dumps(value)
    )
