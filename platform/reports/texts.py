"""A sweep's results as text for people: rounded tables, Markdown and LaTeX."""

import numpy as np
import pandas as pd


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The main columns of the summary (`tables.summary`), rounded."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "return": _with_spread(table["return_mean"], table["return_seed_std"]),
            "score": _with_spread(table["score_mean"], table["score_seed_std"]),
            "to 95 %": _numbers(table["target_seconds"]),
            "seconds": _numbers(table["seconds"]),
            "updates/s": _numbers(table["updates_per_second"]),
            "seeds": [_seeds(*row) for row in zip(table["seeds"], table["state"], table["failed"], strict=True)],
        }
    )


def readable_costs(table: pd.DataFrame) -> pd.DataFrame:
    """The seconds of each stage, and the best and mean returns."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "pretraining": _numbers(table["pretrain_seconds"]),
            "training": _numbers(table["train_seconds"]),
            "evaluation": _numbers(table["evaluation_seconds"]),
            "best return": [_number(value, 4) for value in table["best_mean"]],
            "mean return": [_number(value, 4) for value in table["area"]],
            "at 10k updates": [_number(value, 4) for value in table["return_10k"]],
        }
    )


def readable_aggregate(table: pd.DataFrame) -> pd.DataFrame:
    """The aggregate over groups (`tables.aggregate`)."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "IQM score": _with_interval(table, "iqm", 1),
            "mean score": [f"{value:.1f}" for value in table["mean"]],
            "P(> factored)": _with_interval(table, "improvement", 2),
            "runs": [f"{runs} on {tasks}" for runs, tasks in zip(table["runs"], table["tasks"], strict=True)],
        }
    )


def markdown(table: pd.DataFrame) -> str:
    """The summary as Markdown, one table for each group."""
    parts = [f"**{title}**\n\n{markdown_table(readable(rows))}" for title, rows in table.groupby("group", sort=False)]
    return "\n".join(parts)


def markdown_table(text: pd.DataFrame) -> str:
    """A table of text as Markdown, the first column left-aligned."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in text.to_numpy().tolist()]
    lines = [list(text.columns), ["---", *["---:"] * (len(text.columns) - 1)], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex(table: pd.DataFrame) -> str:
    """The summary as one LaTeX table (package booktabs), the highest return of each group in bold."""
    text = readable(table).reset_index(drop=True)
    width = len(text.columns)
    text.insert(0, "group", table["group"].to_list())
    returns = table.groupby("group")["return_mean"]
    best = (table["return_mean"] == returns.transform("max")) & (returns.transform("size") > 1)
    styler = (
        text.style.hide(axis="index").format(_in_latex, escape="latex").format_index(escape="latex", axis="columns")
    )
    styler = styler.apply(lambda _: ["textbf:--rwrap;" if bold else "" for bold in best], subset=["return"])
    begin, top, header, _, *rows, bottom, end = styler.to_latex(
        hrules=True, column_format="l" + "r" * (width - 1)
    ).splitlines()
    lines = [begin, top, header.partition(" & ")[2]]
    heading = None
    for row in rows:  # the column of groups becomes a heading above each group's rows
        group, _, cells = row.partition(" & ")
        if group != heading:
            lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{group}}}}} \\"]
            heading = group
        lines.append(cells)
    return "\n".join([*lines, bottom, end]) + "\n"


def _in_latex(cell: str) -> str:
    return cell.replace("±", r"$\pm$").replace("–", "--")


def _with_spread(means: pd.Series, spreads: pd.Series) -> list[str]:
    return [
        "–" if np.isnan(mean) else f"{mean:.1f}" if np.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"
        for mean, spread in zip(means, spreads, strict=True)
    ]


def _with_interval(table: pd.DataFrame, name: str, digits: int) -> list[str]:
    bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return [
        "–" if np.isnan(value) else f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
        for value, low, high in bounds
    ]


def _seeds(seeds: int, state: str, failed: int) -> str:
    notes = [state] if state not in ("finished", "failed") else []
    notes += [f"{failed} failed"] if failed else []
    return f"{seeds} ({', '.join(notes)})" if notes else str(seeds)


def _numbers(values: pd.Series) -> list[str]:
    return [_number(value, 3) for value in values]


def _number(value: float, digits: int) -> str:
    if np.isnan(value):
        return "–"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{min(decimals, digits - 1)}f}"
