"""What the trials of a sweep reported, to be compared with another sweep's."""

from spin_rl.platform.results.files import SweepResults


def trial_numbers(
    results: SweepResults, *settings: str, also: tuple[str, ...] = ()
) -> dict[tuple[object, ...], list[dict[str, float]]]:
    """Each trial's rows by its values of ``settings``, without what depends on the clock and the machine.

    ``also`` names columns that are compared too. The ids of trials depend on where models lie.
    """
    kept = [name for name in results.metrics if name == "updates" or name.startswith(("eval/", "train/"))]
    keys = results.trials[list(settings)].fillna(-1.0)
    found = {
        tuple(keys.loc[trial_id]): rows[sorted([*kept, *also])].astype(float).fillna(-1.0).to_dict("records")
        for trial_id, rows in results.metrics.groupby("trial_id")
    }
    assert len(found) == len(results.trials), f"{settings} do not tell the trials apart"
    return found
