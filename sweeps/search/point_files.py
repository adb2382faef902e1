"""What a sweep's files say about the points of a study: whether their trials have ended, and their results."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spin_rl.errors import UserError
from spin_rl.platform.results.files import MetricsFile
from spin_rl.sweeps.running.completion import ENDED, mark_pruned, trial_folder, trial_state


def point_of(trial_id: str) -> str:
    """The part of a trial's id that is the same for all trials of its point."""
    return trial_id.rpartition("_")[0]


class Outcome(NamedTuple):
    """How a point ended: ``finished``, ``pruned`` or ``failed``; its values if it is finished."""

    state: str
    values: Sequence[float] | None = None


class PointFiles:
    """The files of one study's trials: ``trials/<key>_<number of the point>_<index of the seed>/``.

    Args:
        folder: the sweep's folder.
        key: beginning of the ids of the study's trials.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def trial_id(self, number: int, index: int) -> str:
        """The id of a point's trial."""
        return f"{self._key}_{number:04d}_{index}"

    def has_ended(self, trial_id: str) -> bool:
        """Whether a trial ran to some end."""
        return trial_state(self._folder, trial_id) in ENDED

    def outcome(self, trials: Sequence[str], metrics: Collection[str]) -> Outcome | None:
        """How a point ended; None as long as it has not.

        The first trial that failed or was pruned ends its point. The values of a finished point are the means over its
        trials; a point without finite values has failed.
        """
        states = [trial_state(self._folder, trial_id) for trial_id in trials]
        for state in ("failed", "pruned"):
            if state in states:
                return Outcome(state)
        if any(state != "finished" for state in states):
            return None
        values = self._means(trials, metrics)
        return Outcome("finished", values) if values else Outcome("failed")

    def end(self, number: int) -> None:
        """Mark the trials of a point that has ended which a killed driver left running."""
        mark_pruned(self._folder, f"{self._key}_{number:04d}_")

    def check(self, numbers: Collection[int], place: str) -> None:
        """UserError if there are points that the study in ``place`` does not know: it would draw others for them."""
        found = sorted(path.name for path in self._folder.glob(f"trials/{self._key}_*"))
        stray = [name for name in found if int(name.split("_")[1]) not in numbers]
        if stray:
            raise UserError(
                f"{self._folder} holds trials ({stray[0]}, ...) that the study in {place} does not know: name the "
                "storage that the search was started with, or give this one another name."
            )

    def _means(self, trials: Sequence[str], metrics: Collection[str]) -> list[float] | None:
        """The mean over a point's trials of each metric's last value; None if one has no finite value."""
        rows = [self._last(trial_id) for trial_id in trials]
        values = [[row.get(name) for name in metrics] for row in rows]
        if any(value is None for row in values for value in row):
            return None
        return [float(sum(column) / len(rows)) for column in zip(*values, strict=True)]

    def _last(self, trial_id: str) -> dict[str, Any]:
        lines = MetricsFile(trial_folder(self._folder, trial_id) / "metrics.jsonl").read()
        return lines[-1] if lines else {}
