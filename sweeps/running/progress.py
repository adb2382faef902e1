"""What a sweep shows while it runs: a bar per model that is pretrained, one per trial at work, one for all of them."""

import time
from collections.abc import Mapping
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

_EVERY = 20.0  # seconds between lines where the output is a file and bars would only litter it


class _Left(TimeRemainingColumn):
    """The time left by the bar's own pace, where nobody knows better."""

    def render(self, task: Task) -> Text:
        return Text("") if task.fields.get("own_estimate") else super().render(task)


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
            _Left(elapsed_when_finished=False),
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

    def add(self, label: str, total: int, unit: str, *, visible: bool = True, own_estimate: bool = False) -> int:
        """A new bar; returns its number. With an estimate of its own, the time left stands in its note."""
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
        """Put a line in the place of a bar: a screen has no room for those of a hundred trials."""
        task = self._bars.tasks[bar]
        self._bars.update(task.id, completed=task.total, visible=False)
        self.console.print(f"{task.description}: done {task.fields['note']}")


Expected = list[tuple[str, int]]
"""Kind and policy updates of trials; trials of one kind take about the same time for an update."""


def kind_of(trial: Mapping[str, Any]) -> str:
    """What decides how long an update of a trial takes."""
    sizes = trial.get("network", "")
    return f"{trial['algorithm']} {trial['task']} {trial['bins']} {trial['objective']} {trial['preset']} {sizes}"


class TimeLeft:
    """Estimates the seconds that are left from what trials of each kind took so far, evaluations and starts included.

    Args:
        coming: the trials that are to come.
    """

    def __init__(self, coming: Expected) -> None:
        self._coming: dict[str, int] = {}
        for kind, updates in coming:
            self._coming[kind] = self._coming.get(kind, 0) + updates
        self._taken: dict[str, tuple[float, int]] = {}  # seconds and updates of each kind

    def add(self, kind: str, seconds: float, updates: int) -> None:
        """Tell that a trial made so many updates in so many seconds."""
        known = self._taken.get(kind, (0.0, 0))
        self._taken[kind] = (known[0] + seconds, known[1] + updates)
        self.drop(kind, updates)

    def drop(self, kind: str, updates: int) -> None:
        """Tell that so many updates are not to come any more."""
        name = kind if kind in self._coming else ""  # a search's trials are of kinds that are not known before
        if name in self._coming:
            self._coming[name] = max(0, self._coming[name] - updates)

    def seconds(self, at_once: int) -> float | None:
        """What is left where ``at_once`` trials run side by side; None while nothing is known."""
        rates = {kind: seconds / updates for kind, (seconds, updates) in self._taken.items() if updates}
        if not rates:
            return None
        usual = sum(rates.values()) / len(rates)  # of a kind of which none has begun
        return sum(updates * rates.get(kind, usual) for kind, updates in self._coming.items()) / max(1, at_once)


class TrialProgress(Callback):
    """Shows Tune's trials: those at work, and all of them together with the time that is left."""

    def __init__(self, progress: SweepProgress, coming: Expected, done: Expected) -> None:
        self._progress = progress
        self._count = len(coming) + len(done)
        self._total = sum(updates for _, updates in (*coming, *done))
        self._made = sum(updates for _, updates in done)
        self._finished, self._failed = len(done), 0
        self._left = TimeLeft(coming)
        self._at_work: set[str] = set()
        self._last: dict[str, tuple[float, int]] = {}  # when a trial reported last, and its updates then
        self._bars: dict[str, int] = {}
        self._overall: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; a screen does not travel

    def setup(self, **_info: Any) -> None:
        self._overall = self._progress.add(f"{self._count} trials", self._total, "update", own_estimate=True)
        self._show_overall()

    def on_trial_start(self, trial: Trial, **_info: Any) -> None:
        params = trial.config["trial"]
        self._at_work.add(trial.trial_id)
        self._last.pop(trial.trial_id, None)
        if trial.trial_id not in self._bars:
            steps = f" {params['asm_steps']} steps" if "asm_steps" in params else ""
            label = f"{params['algorithm']}{steps} {params['task']} {params['level']} seed {params['seed']}"
            self._bars[trial.trial_id] = self._progress.add(label, int(params["updates"]), "update")

    def on_trial_result(self, trial: Trial, result: dict[str, Any], **_info: Any) -> None:
        now, updates = time.monotonic(), int(result["updates"])
        kind = kind_of(trial.config["trial"])
        if trial.trial_id in self._last:
            before, had = self._last[trial.trial_id]
            self._left.add(kind, now - before, updates - had)
            self._made += updates - had
        else:  # none, or those that it made before it was cut off
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
        self._at_work.discard(trial.trial_id)
        if trial.trial_id in self._bars:
            self._progress.finish(self._bars[trial.trial_id])
        self._show_overall()

    def _show_overall(self) -> None:
        if self._overall is None:
            return
        note = f"{self._finished} finished"
        note += f" · {self._failed} failed" if self._failed else ""
        if seconds := self._left.seconds(len(self._at_work)):
            note += f" · about {in_words(seconds)} left"
        self._progress.update(self._overall, self._made, note)


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
