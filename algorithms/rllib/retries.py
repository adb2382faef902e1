"""Which failed trials Tune repeats."""

from collections.abc import Callable
from functools import wraps

from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from spin_rl.algorithms.training.agent import DivergedError
from spin_rl.errors import UserError


def repeat_accidents_only() -> None:
    """Keep Tune from repeating trials that failed of themselves, as they would in the same way again.

    Its ``max_failures`` is for workers and nodes that are lost. It does not tell these from a loss that is not finite
    or from settings that are wrong, and has no place where one could: what counts failures is told here.
    """
    if not hasattr(Trial.handle_error, "_counts_accidents"):
        Trial.handle_error = _counting(Trial.handle_error)


def _counting(handle_error: Callable[[Trial, BaseException | None], None]) -> Callable[..., None]:
    @wraps(handle_error)
    def counted(trial: Trial, exc: BaseException | None = None) -> None:
        handle_error(trial, exc)
        cause = exc.cause if isinstance(exc, RayTaskError) else exc
        if isinstance(cause, DivergedError | UserError):
            trial.run_metadata.num_failures += max(0, trial.max_failures)  # there is no attempt left

    counted._counts_accidents = True  # type: ignore[attr-defined]
    return counted
