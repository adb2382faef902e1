"""What a sweep shows while it runs: a bar for each model in pretraining, each running trial, and all trials."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_EVERY = 20.0  # seconds between lines where the output is no terminal


class _Left(TimeRemainingColumn):
    """The time left at the bar's own pace, unless the bar has a better estimate in its note."""

    def render(self, task: Task) -> Text:
        return Text("") if task.fields.get("own_estimate") else super().render(task)


class SweepProgress:
    """Bars on a terminal, a line every 20 seconds anywhere else."""

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
            _Left(elapsed_when_finished=False),
            console=self.console,
            speed_estimate_period=600,  # trials report in bursts: over a shorter period the estimate would jump
            disable=not self.console.is_terminal,
        )
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def add(self, label: str, total: int, unit: str, *, visible: bool = True, own_estimate: bool = False) -> int:
        """Add a bar; returns its number. With ``own_estimate`` the time left is part of its note."""
        return int(
            self._bars.add_task(label, total=total, visible=visible, note="", unit=unit, own_estimate=own_estimate)
        )

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
        """Replace a bar by a line: a screen has no room for the bars of a hundred trials."""
        task = self._bars.tasks[bar]
        self._bars.update(task.id, completed=task.total, visible=False)
        self.console.print(f"{task.description}: done {task.fields['note']}")


Expected = Sequence[tuple[str, int]]
"""Kind and policy updates of trials; trials of one kind take about the same time for an update."""


def kind_of(trial: Mapping[str, Any]) -> str:
    """What determines how long an update of a trial takes."""
    sizes = trial.get("network", "")
    return f"{trial['algorithm']} {trial['task']} {trial['bins']} {trial['objective']} {trial['preset']} {sizes}"


class TimeLeft:
    """Estimates the time left from what trials of each kind took so far, including evaluations and start-up.

    Args:
        coming: the trials that are expected.
    """

    def __init__(self, coming: Expected) -> None:
        self._coming: dict[str, int] = {}
        for kind, updates in coming:
            self._coming[kind] = self._coming.get(kind, 0) + updates
        self._taken: dict[str, tuple[float, int]] = {}  # seconds and updates of each kind

    def add(self, kind: str, seconds: float, updates: int) -> None:
        """Count updates that a trial of this kind made in so many seconds."""
        known = self._taken.get(kind, (0.0, 0))
        self._taken[kind] = (known[0] + seconds, known[1] + updates)
        self.drop(kind, updates)

    def drop(self, kind: str, updates: int) -> None:
        """Expect so many updates less of this kind."""
        name = kind if kind in self._coming else ""  # the kinds of a search's trials are not known in advance
        if name in self._coming:
            self._coming[name] = max(0, self._coming[name] - updates)

    def seconds(self, at_once: int) -> float | None:
        """The time left if ``at_once`` trials run at the same time; None as long as nothing is known."""
        rates = {kind: seconds / updates for kind, (seconds, updates) in self._taken.items() if updates}
        if not rates:
            return None
        usual = sum(rates.values()) / len(rates)  # for kinds of which no trial has started
        return sum(updates * rates.get(kind, usual) for kind, updates in self._coming.items()) / max(1, at_once)


class TrialProgress(Callback):
    """Shows Tune's trials: those that run, and all of them together with the time left.

    Args:
        progress: where they are shown.
        coming: the trials that are expected.
        done: the trials that are done.
    """

    def __init__(self, progress: SweepProgress, coming: Expected, done: Expected) -> None:
        self._progress = progress
        self._count = len(coming) + len(done)
        self._total = sum(updates for _, updates in (*coming, *done))
        self._made = sum(updates for _, updates in done)
        self._finished, self._failed = len(done), 0
        self._left = TimeLeft(coming)
        self._active: set[str] = set()
        self._last: dict[str, tuple[float, int]] = {}  # time and updates of each trial's last report
        self._bars: dict[str, int] = {}
        self._overall: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks, and a screen cannot be pickled

    def setup(self, **_info: Any) -> None:
        self._overall = self._progress.add(f"{self._count} trials", self._total, "update", own_estimate=True)
        self._show_overall()

    def on_trial_start(self, trial: Trial, **_info: Any) -> None:
        params = trial.config["trial"]
        self._active.add(trial.trial_id)
        self._last.pop(trial.trial_id, None)
        if trial.trial_id not in self._bars:
            made = params.get("asm_steps", params.get("clone_steps"))
            steps = "" if made is None else f" {made} steps"
            label = f"{params['algorithm']}{steps} {params['task']} {params['level']} seed {params['seed']}"
            self._bars[trial.trial_id] = self._progress.add(label, int(params["updates"]), "update")

    def on_trial_result(self, trial: Trial, result: dict[str, Any], **_info: Any) -> None:
        now, updates = time.monotonic(), int(result["updates"])
        kind = kind_of(trial.config["trial"])
        if trial.trial_id in self._last:
            before, had = self._last[trial.trial_id]
            self._left.add(kind, now - before, updates - had)
            self._made += updates - had
        else:  # its first report: none, or those that it made before it was interrupted
            self._left.drop(kind, updates)
            self._made += updates
        self._last[trial.trial_id] = (now, updates)
        note = f"return {result['eval']['return_mean']:.0f}"
        if rate := result["perf"].get("updates_per_second"):
            note += f" · {rate:.0f}/s"
        self._progress.update(self._bars[trial.trial_id], updates, note)
        self._show_overall()

    def on_trial_complete(self, trial: Trial, **_info: Any) -> None:
        self._finished += 1
        self._end(trial)

    def on_trial_error(self, trial: Trial, **_info: Any) -> None:
        self._failed += 1
        self._progress.console.print(f"[red]failed[/]: {trial} ({trial.error_file})")
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        params = trial.config["trial"]
        rest = int(params["updates"]) - self._last.get(trial.trial_id, (0.0, 0))[1]
        self._left.drop(kind_of(params), rest)  # of one that ended early
        self._made += rest
        self._active.discard(trial.trial_id)
        if trial.trial_id in self._bars:
            self._progress.finish(self._bars[trial.trial_id])
        self._show_overall()

    def _show_overall(self) -> None:
        if self._overall is None:
            return
        note = f"{self._finished} finished"
        note += f" · {self._failed} failed" if self._failed else ""
        if seconds := self._left.seconds(len(self._active)):
            note += f" · about {in_words(seconds)} left"
        self._progress.update(self._overall, self._made, note)


def in_words(seconds: float) -> str:
    """A duration in the unit that fits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
