"""A trial that trained several seeds at once counts as one for each seed."""

from pathlib import Path

import pandas as pd
import pytest

from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.reports.groups import evaluations, groups
from spin_rl.platform.results.files import MetricsFile, SweepResults, read_sweep, start_sweep
from spin_rl.platform.results.seeds import one_seed_each, whole_trial

TRIAL = {"algorithm": "spin", "task": "cheetah-run", "bins": 3, "level": "expert", "objective": "iql", "updates": 2}


@pytest.fixture
def results(tmp_path: Path) -> SweepResults:
    """Trial ``both`` trained seeds 3 and 4, trial ``one`` seed 0 by itself."""
    start_sweep(tmp_path, name="s")
    of_seeds = {f"eval/seed{seed}/{name}": value for seed in (3, 4) for name, value in (("return_mean", 10.0 * seed),)}
    for trial_id, params, more in (
        ("both", {"seed": 3, "seeds_per_trial": 2}, of_seeds | {"train/seed3/loss": 1.0, "train/seed4/loss": 2.0}),
        ("one", {"seed": 0}, {}),
    ):
        record = {"trial_id": trial_id, "state": "finished", "error": None, "started": 1.0, "ended": 2.0}
        write_json(tmp_path / "trials" / trial_id / "trial.json", {**record, "params": TRIAL | params})
        known = {"eval/return_mean": 35.0, "eval/normalized_score": 5.0, "time/train_seconds": 8.0, "train/loss": 1.5}
        MetricsFile(tmp_path / "trials" / trial_id / "metrics.jsonl").append(
            {"updates": 2, "timestamp": 1.0, **known, **more}
        )
    return read_sweep(tmp_path)


def test_each_seed_has_its_own_numbers(results: SweepResults) -> None:
    split = one_seed_each(results)
    assert dict(split.trials["seed"]) == {"both-seed3": 3, "both-seed4": 4, "one": 0}
    returns = evaluations(split).set_index("trial_id")["return"]
    assert dict(returns) == {"both-seed3": 30.0, "both-seed4": 40.0, "one": 35.0}
    losses = split.metrics.set_index("trial_id")["train/loss"]
    assert dict(losses) == {"both-seed3": 1.0, "both-seed4": 2.0, "one": 1.5}
    assert set(evaluations(split)["seconds"]) == {8.0}  # one waits as long for each
    assert not [name for name in split.metrics if "seed3" in name]
    assert sum(len(method.trials) for group in groups(split) for method in group.methods) == 3


def test_without_such_trials_nothing_changes(results: SweepResults) -> None:
    alone = results.trials.loc[["one"]]
    plain = SweepResults(results.folder, results.record, alone, results.metrics)
    assert one_seed_each(plain) is plain
    assert [whole_trial(name) for name in ("both-seed4", "one")] == ["both", "one"]


def test_states_and_types_stay(results: SweepResults) -> None:
    split = one_seed_each(results)
    assert (split.trials["state"] == "finished").all()
    assert pd.api.types.is_integer_dtype(split.trials["seed"])
