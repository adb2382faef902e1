"""What a search found: the points that no other beats in score and seconds, the knee among them, what mattered.

Made from a sweep's files alone, without study, database or Tune.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from spin_rl.platform.reports.groups import evaluations, groups
from spin_rl.platform.reports.presentation import Presentation
from spin_rl.platform.reports.sections import Section
from spin_rl.platform.results.files import SweepResults
from spin_rl.sweeps.analysis.front_figures import draw_fronts, draw_importances
from spin_rl.sweeps.analysis.importances import importances
from spin_rl.sweeps.analysis.outcomes import with_clones
from spin_rl.sweeps.analysis.pareto import front, front_shares, knee
from spin_rl.sweeps.planning.plan import read_plan
from spin_rl.sweeps.search.point_files import point_of


def analysis(results: SweepResults) -> Sequence[Section]:
    """The front, its knee and the importance of every parameter, for each problem of a search."""
    plan = read_plan(results.folder)
    parameters = list(plan.search["parameters"]) if plan and plan.search else []
    tables, data, answers = {}, {}, []
    fronts: dict[str, pd.DataFrame] = {}
    weights: dict[str, pd.DataFrame] = {}
    for title, points in points_of(results, parameters).items():
        fronts[title] = points
        tables[f"{title}: points, best score first"] = _readable(points, parameters)
        answers.append(_answer(title, points))
        found = importances(points, parameters)
        if len(found):
            weights[title] = found
            tables[f"{title}: importance of the parameters"] = _readable_importances(found)
    if not fronts:
        return []
    data["points"] = pd.concat([points.assign(problem=title) for title, points in fronts.items()])
    figures = {
        "Mean score over seeds against mean seconds of pretraining and training; the line joins the points that no "
        "other beats in both, the ring is the knee, numbers are the steps at which pretraining stopped.": (
            "front",
            draw_fronts(fronts),
        )
    }
    if weights:
        data["importances"] = pd.concat([found.assign(problem=title) for title, found in weights.items()])
        figures["Share of each parameter in the variance of score and seconds (fANOVA)."] = (
            "importances",
            draw_importances(weights),
        )
    text = " ".join(answers) + (
        " A point is the mean over its seeds; 'sure' is the share of resamples of the seeds in which it is on the "
        "front."
    )
    return [Section("When to stop pretraining", text, tables, data, figures)]


def points_of(results: SweepResults, parameters: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The finished points of each problem, by the problem's title; best score first.

    Returns:
        One row for each point: ``point``, the parameters, ``seeds``, ``score`` and ``score_std`` (of the last
        evaluation), ``best`` (of the best), ``pretrain_seconds``, ``seconds``, ``front`` and ``knee``, ``front_share``
        and ``knee_share`` (of resamples of the seeds; NaN for one seed).
    """
    trials = with_clones(results.trials[results.trials["state"] == "finished"])
    last = results.metrics.groupby("trial_id").last()
    scores = evaluations(results).groupby("trial_id")["score"]
    final, best = scores.last(), scores.max()
    found = {}
    for title, of_problem in _problems(results, trials.loc[[trial for trial in trials.index if trial in final.index]]):
        rows, runs = [], []
        for point, members in of_problem.groupby(lambda trial: point_of(str(trial))):
            ids = list(members.sort_values("seed").index)
            total = last.loc[ids, "time/total_seconds"].to_numpy(float)
            runs.append(np.stack([final.loc[ids].to_numpy(float), total]))  # (2, seeds)
            rows.append(
                {"point": int(str(point).rpartition("_")[2])}
                | {name: members[name].iloc[0] for name in parameters if name in members}
                | {
                    "seeds": len(ids),
                    "score": runs[-1][0].mean(),
                    "score_std": runs[-1][0].std(ddof=1) if len(ids) > 1 else np.nan,
                    "best": best.loc[ids].mean(),
                    "pretrain_seconds": last.loc[ids, "time/pretrain_seconds"].astype(float).fillna(0.0).mean(),
                    "seconds": total.mean(),
                }
            )
        seeds = max(row["seeds"] for row in rows)
        whole = [place for place, row in enumerate(rows) if row["seeds"] == seeds]  # the others still run
        table = pd.DataFrame([rows[place] for place in whole])
        shares = front_shares(np.stack([runs[place] for place in whole]))
        table["front"] = front(table["score"].to_numpy(), table["seconds"].to_numpy())
        table["knee"] = np.arange(len(table)) == knee(table["score"].to_numpy(), table["seconds"].to_numpy())
        table["front_share"], table["knee_share"] = shares
        found[title] = table.sort_values(["score", "seconds"], ascending=[False, True]).reset_index(drop=True)
    return found


def _problems(results: SweepResults, trials: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The trials of each study, with a title: the group's, and what distinguishes it from others in its group."""
    seen: set[str] = set()
    presentation = Presentation(results)
    for group in groups(results):
        for objective, members in group.members(trials).groupby("objective", dropna=False):
            for study, own in members.groupby(lambda trial: str(trial).partition("_")[0], sort=False):
                title = group.title_for(str(objective))
                if members["algorithm"].nunique() > 1:
                    title += f", {presentation.name(str(own['algorithm'].iloc[0]))}"
                title = f"{title} ({study})" if title in seen else title
                seen.add(title)
                yield title, own


def _answer(title: str, points: pd.DataFrame) -> str:
    on = points[points["front"]].sort_values("seconds")
    chosen = points[points["knee"]].iloc[0]
    said = f"{title}: of {len(points)} points {len(on)} are on the front."
    if "asm_steps" in points:
        said += (
            f" The knee is {chosen['asm_steps']:,.0f} steps of pretraining: score {chosen['score']:.1f} in "
            f"{chosen['seconds']:,.0f} s"
            + ("." if np.isnan(chosen["knee_share"]) else f" (the knee in {chosen['knee_share']:.0%} of resamples).")
        )
        top = points.iloc[0]
        if top["point"] != chosen["point"]:
            said += (
                f" The best score, {top['score']:.1f}, came with {top['asm_steps']:,.0f} steps in "
                f"{top['seconds']:,.0f} s."
            )
    return said


def _readable(points: pd.DataFrame, parameters: Sequence[str]) -> pd.DataFrame:
    records = points.to_dict("records")
    columns: dict[str, list[str]] = {"point": [str(row["point"]) for row in records]}
    for name in parameters:
        if name in points:
            columns[name] = [
                f"{row[name]:g}" if isinstance(row[name], int | float) else str(row[name]) for row in records
            ]
    columns |= {
        "score": [
            f"{row['score']:.1f}" + ("" if np.isnan(row["score_std"]) else f" ± {row['score_std']:.1f}")
            for row in records
        ],
        "best": [f"{row['best']:.1f}" for row in records],
        "ASM s": [f"{row['pretrain_seconds']:,.0f}" for row in records],
        "total s": [f"{row['seconds']:,.0f}" for row in records],
        "front": ["knee" if row["knee"] else "yes" if row["front"] else "" for row in records],
        "sure": ["–" if np.isnan(row["front_share"]) else f"{row['front_share']:.0%}" for row in records],
    }
    return pd.DataFrame(columns)


def _readable_importances(found: pd.DataFrame) -> pd.DataFrame:
    shares = {metric: [f"{share:.0%}" for share in found[metric]] for metric in ("score", "seconds")}
    return pd.DataFrame({"parameter": list(found["parameter"]), **shares})
