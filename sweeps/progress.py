"""What a sweep shows while it runs: a bar per model that is pretrained, one per trial at work, one for all of them."""

import time
from collections.abc import Sequence
from typing import Any, Self

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_EVERY = 20.0  # seconds between lines where the output is a file and bars would only litter it


class SweepProgress:
    """Bars on a terminal, a line now and then anywhere else."""

    def __init__(self) -> None:
        self.console = Console()
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            speed_estimate_period=600,  # trials report in bursts: a shorter look back would guess the time left wildly
            disable=not self.console.is_terminal,
        )
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def add(self, label: str, total: int, unit: str, *, visible: bool = True) -> int:
        """A new bar; returns its number."""
        return int(self._bars.add_task(label, total=total, note="", unit=unit, visible=visible))

    def update(self, bar: int, done: int, note: str = "", *, visible: bool = True) -> None:
        """Move a bar to ``done``."""
        self._bars.update(bar, completed=done, note=note, visible=visible)  # type: ignore[arg-type]
        if not self.console.is_terminal and time.monotonic() - self._last_line > _EVERY:
            self._last_line = time.monotonic()
            for task in self._bars.tasks:
                if task.visible and not task.finished and task.completed:
                    self.console.print(
                        f"{task.description}: {task.completed:.0f}/{task.total:.0f} {task.fields['note']}"
                    )

    def finish(self, bar: int) -> None:
        """Fill a bar."""
        task = self._bars.tasks[bar]
        self._bars.update(task.id, completed=task.total)
        if not self.console.is_terminal:
            self.console.print(f"{task.description}: done {task.fields['note']}")


class TrialProgress(Callback):
    """Shows Tune's trials: those at work, and all of them together with the time that is left."""

    def __init__(self, progress: SweepProgress, trials: Sequence[tuple[str, int]]) -> None:
        self._progress = progress
        self._total = sum(updates for _, updates in trials)
        self._count = len(trials)
        self._done: dict[str, int] = {}
        self._finished = 0
        self._bars: dict[str, int] = {}
        self._overall: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; a screen does not travel

    def setup(self, **_info: Any) -> None:
        self._overall = self._progress.add(f"{self._count} trials", self._total, "update")

    def on_trial_start(self, trial: Trial, **_info: Any) -> None:
        params = trial.config["trial"]
        if trial.trial_id not in self._bars:
            label = f"{params['algorithm']} {params['level']} seed {params['seed']}"
            self._bars[trial.trial_id] = self._progress.add(label, int(params["updates"]), "update")

    def on_trial_result(self, trial: Trial, result: dict[str, Any], **_info: Any) -> None:
        updates = int(result["updates"])
        self._done[trial.trial_id] = updates
        note = f"return {result['eval']['return_mean']:.0f}"
        if rate := result["perf"].get("updates_per_second"):
            note += f" · {rate:.0f}/s"
        self._progress.update(self._bars[trial.trial_id], updates, note)
        self._show_overall()

    def on_trial_complete(self, trial: Trial, **_info: Any) -> None:
        self._finished += 1
        self._done[trial.trial_id] = int(trial.config["trial"]["updates"])
        if trial.trial_id in self._bars:
            self._progress.finish(self._bars[trial.trial_id])
        self._show_overall()

    def on_trial_error(self, trial: Trial, **_info: Any) -> None:
        self._progress.console.print(f"[red]failed[/]: {trial} ({trial.error_file})")

    def _show_overall(self) -> None:
        if self._overall is not None:
            self._progress.update(self._overall, sum(self._done.values()), f"{self._finished} finished")
