"""Checks on the episodes of a source, before they become a dataset."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.datasets.rows import Rows, episode_digests
from spin_rl.platform.exchange.rules import Duplicates, ImportRules
from spin_rl.platform.exchange.transitions import Transitions, jumps

_EARLY = 1000
"""Rows after which a source with rows out of order is refused, long before its end."""


def validate_ends(
    batches: Iterable[Transitions], rules: ImportRules, *, name: str, endless: bool
) -> Iterator[Transitions]:
    """The same batches, with terminations removed if the rules say that they are time limits.

    Args:
        batches: in the order of the source.
        rules: how to interpret the source.
        name: of the source, for messages.
        endless: the task's episodes never terminate.

    Raises:
        UserError: a termination in a task that never terminates, or rows that are out of order.
    """
    rows = jumped = 0
    previous: Transitions | None = None
    for batch in batches:
        if rules.timeouts:
            batch = batch._replace(terminated=np.zeros_like(batch.terminated))
        if endless and batch.terminated.any():
            raise UserError(
                f"{name}: row {rows + int(np.argmax(batch.terminated))} is marked as terminated, but this task never "
                "terminates; if the mark stands for the time limit, add --timeouts."
            )
        jumped += int(jumps(batch).sum())
        if previous is not None and not previous.ended[-1]:
            jumped += bool((previous.next_observation[-1] != batch.observation[0]).any())
        previous, rows = batch, rows + batch.size
        if rows >= _EARLY:
            _refuse_disorder(name, jumped, rows, rules)
        yield batch
    _refuse_disorder(name, jumped, rows, rules)


def _refuse_disorder(name: str, jumped: int, rows: int, rules: ImportRules) -> None:
    if jumped > rows / 2 and not rules.shuffled:
        raise UserError(
            f"{name}: {jumped:,} of the first {rows:,} rows are not followed by their next observation, so the rows "
            "are out of order and the returns of the episodes are lost; sort the rows, or import most of them as "
            "episodes of one step with --shuffled."
        )


def filter_duplicates(
    blocks: Iterable[Rows], duplicates: Duplicates, *, name: str, on_left_out: Callable[[int], None]
) -> Iterator[Rows]:
    """The same blocks of whole episodes, without episodes that equal an earlier one, bit for bit.

    Args:
        blocks: of the source, in order.
        duplicates: what to do with duplicates.
        name: of the source, for messages.
        on_left_out: called with the number of episodes that are left out of a block.

    Raises:
        UserError: a duplicate, if they are to be refused.
    """
    if duplicates is Duplicates.keep:
        yield from blocks
        return
    first: dict[bytes, int] = {}  # digest of an episode -> its number
    count = 0
    for rows in blocks:
        fresh = []
        for digest in episode_digests(rows.starts(), rows.observations, rows.actions, rows.rewards, rows.terminated):
            earlier = first.setdefault(digest, count)
            if earlier != count and duplicates is Duplicates.refuse:
                raise UserError(
                    f"{name}: episode {count} equals episode {earlier}, bit for bit; leave duplicates out with "
                    "--duplicates drop, or, if the problem is deterministic, keep them with --duplicates keep."
                )
            fresh.append(earlier == count)
            count += 1
        if all(fresh):
            yield rows
            continue
        on_left_out(fresh.count(False))
        if any(fresh):
            yield _episodes(rows, np.array(fresh))


def _episodes(rows: Rows, which: NDArray[np.bool_]) -> Rows:
    """The selected episodes of a block, numbered from 0."""
    lengths = rows.lengths() + 1
    kept = np.repeat(which, lengths)
    columns: list[Any] = [column[kept] for column in rows]
    return Rows(*columns)._replace(episode=np.repeat(np.arange(which.sum()), lengths[which]))
