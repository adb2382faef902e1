"""When a trial is evaluated, and after how many updates it reports and leaves a checkpoint."""

from spin_rl.errors import UserError

_LONGEST = 1000
"""Updates of the longest iteration, about."""


def evaluation_interval(updates: int, evaluations: int) -> int:
    """Updates between about ``evaluations`` evaluations at equal distances, the last of them at the end.

    Raises:
        UserError: there are fewer updates than evaluations, or they cannot be divided so.
    """
    if updates < evaluations:
        raise UserError(
            f"A budget of {updates:,} updates is smaller than one evaluation's distance: make more updates, or fewer "
            f"than {evaluations} evaluations."
        )
    near = range(-(-evaluations // 2), min(2 * evaluations, updates) + 1)
    for count in sorted(near, key=lambda count: abs(count - evaluations)):
        if updates % count == 0:
            return updates // count
    rounded = evaluations * round(updates / evaluations)
    raise UserError(
        f"{updates:,} updates cannot be divided by about {evaluations} evaluations so that one comes at the end: make "
        f"{rounded:,} updates."
    )


def updates_per_iteration(interval: int) -> int:
    """Updates between checkpoints: a part of the evaluation interval, of at most about a thousand."""
    fewest = -(-interval // _LONGEST)
    return next((interval // parts for parts in range(fewest, 4 * fewest) if interval % parts == 0), interval)
