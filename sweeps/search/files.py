"""What a sweep's files say of a search's points: how their trials stand, and what they gave."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.results.files import MetricsFile

ENDS = ("finished", "pruned", "failed")
"""States of a trial that came to its end."""


def point_of(trial_id: str) -> str:
    """What the trials of one point have in common in their ids."""
    return trial_id.rpartition("_")[0]


class PointFiles:
    """The files of one study's trials: ``trials/<key>_<number of the point>_<place of the seed>/``.

    Args:
        folder: the sweep's folder.
        key: what the study's trials begin with.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def trial_id(self, number: int, place: int) -> str:
        """The id of a point's trial."""
        return f"{self._key}_{number:04d}_{place}"

    def state(self, trial_id: str) -> str | None:
        """How a trial stands; None before it has begun."""
        path = self._path(trial_id)
        return str(read_json(path)["state"]) if path.is_file() else None

    def values(self, trials: Sequence[str], metrics: Collection[str]) -> list[float] | None:
        """The mean over a point's trials of what each reported last; None where one has no finite value."""
        rows = [self._last(trial_id) for trial_id in trials]
        values = [[row.get(name) for name in metrics] for row in rows]
        if any(value is None for row in values for value in row):
            return None
        return [float(sum(column) / len(rows)) for column in zip(*values, strict=True)]

    def end(self, number: int) -> None:
        """Mark what a dead driver left running of a point that is told."""
        for path in self._folder.glob(f"trials/{self._key}_{number:04d}_*/trial.json"):
            record = read_json(path)
            if record["state"] not in ENDS:
                write_json(path, {**record, "state": "pruned"})

    def check(self, numbers: Collection[int], place: str) -> None:
        """UserError where there are points that the study in ``place`` does not know: it would draw others for them."""
        found = sorted(path.name for path in self._folder.glob(f"trials/{self._key}_*"))
        stray = [name for name in found if int(name.split("_")[1]) not in numbers]
        if stray:
            raise UserError(
                f"{self._folder} holds trials ({stray[0]}, ...) that the study in {place} does not know: name the "
                "storage that the search began with, or give this one another name."
            )

    def _last(self, trial_id: str) -> dict[str, Any]:
        lines = MetricsFile(self._path(trial_id).with_name("metrics.jsonl")).read()
        return lines[-1] if lines else {}

    def _path(self, trial_id: str) -> Path:
        return self._folder / "trials" / trial_id / "trial.json"
