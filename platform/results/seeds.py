"""Trials that trained several seeds at once (``seeds_per_trial``), read as one trial per seed."""

import re

import pandas as pd

from spin_rl.platform.results.files import SweepResults

_OF_A_SEED = re.compile(r"^(?P<group>eval|train)/seed(?P<seed>\d+)/(?P<name>.+)$")


def one_seed_each(results: SweepResults) -> SweepResults:
    """The same results with a trial ``<id>-seed<n>`` for each seed n of a trial that trained several.

    Each has its own seed's returns and losses, and the seconds of the whole trial: no seed is done before the others.
    """
    counts = pd.to_numeric(results.trials.get("seeds_per_trial", pd.Series(dtype=float)), errors="coerce")
    several = counts[counts > 1].astype(int)
    if several.empty:
        return results
    columns = {name: found for name in results.metrics if (found := _OF_A_SEED.match(name))}
    trials, metrics = [], []
    for trial_id, trial in results.trials.iterrows():
        rows = results.metrics[results.metrics["trial_id"] == trial_id].drop(columns=list(columns))
        if trial_id not in several:
            trials.append(trial)
            metrics.append(rows)
            continue
        for seed in range(int(trial["seed"]), int(trial["seed"]) + several[trial_id]):
            own = {
                f"{found['group']}/{found['name']}": results.metrics.loc[rows.index, name]
                for name, found in columns.items()
                if int(found["seed"]) == seed
            }
            name = f"{trial_id}-seed{seed}"
            trials.append(pd.Series({**trial, "seed": seed}, name=name))
            metrics.append(rows.assign(**own, trial_id=name))
    frame = pd.DataFrame(trials).infer_objects()
    frame.index.name = results.trials.index.name
    return SweepResults(results.folder, results.record, frame, pd.concat(metrics, ignore_index=True))


def whole_trial(trial_id: str) -> str:
    """The id of the trial that trained a seed among others and has the files and the run; any other id as it is."""
    return re.sub(r"-seed\d+$", "", trial_id)
