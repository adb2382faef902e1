"""How much each parameter of a search matters for score and for seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

FEWEST = 8
"""Points below which importances mean nothing."""


def importances(points: pd.DataFrame, parameters: Sequence[str]) -> pd.DataFrame:
    """Share of each parameter in the variance of score and of seconds, by Optuna's fANOVA; empty for too few points.

    Returns:
        One row a parameter: ``parameter``, ``score`` and ``seconds``; each column adds up to 1.
    """
    varied = [name for name in parameters if name in points and points[name].nunique() > 1]
    if len(points) < FEWEST or not varied:
        return pd.DataFrame()
    import optuna  # here: sweeps are read as data where Optuna is not needed

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    values = {name: sorted(points[name].unique()) for name in varied}
    spaces: Mapping[str, Any] = {
        name: optuna.distributions.IntDistribution(0, len(values[name]) - 1) for name in varied
    }
    study = optuna.create_study(directions=["maximize", "minimize"])
    for row in points.to_dict("records"):
        study.add_trial(
            optuna.trial.create_trial(
                params={name: values[name].index(row[name]) for name in varied},
                distributions=dict(spaces),
                values=[row["score"], row["seconds"]],
            )
        )
    columns = {
        metric: optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
            target=lambda trial, place=place: trial.values[place],
        )
        for place, metric in enumerate(("score", "seconds"))
    }
    table = pd.DataFrame(
        {"parameter": varied, **{metric: [found[name] for name in varied] for metric, found in columns.items()}}
    )
    return table.sort_values("score", ascending=False).reset_index(drop=True)
