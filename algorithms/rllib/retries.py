"""Which failed trials Tune retries."""

from collections.abc import Callable
from functools import wraps

from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from spin_rl.algorithms.training.agent import DivergedError
from spin_rl.errors import UserError


def repeat_accidents_only() -> None:
    """Keep Tune from retrying trials whose failure would repeat itself.

    Its ``max_failures`` is for workers and nodes that are lost. It does not distinguish these from a loss that is not
    finite or from wrong settings, and has no hook to do so: the method that counts failures is wrapped here.
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
