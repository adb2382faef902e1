"""What a source's rows say of its episodes, judged before they become a dataset."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.datasets.rows import Rows, episode_digests
from spin_rl.platform.exchange.rules import Duplicates, ImportRules
from spin_rl.platform.exchange.transitions import Transitions, jumps

_EARLY = 1000
"""Rows after which a source that jumps about is refused, long before its end."""


def judged(batches: Iterable[Transitions], rules: ImportRules, *, name: str, endless: bool) -> Iterator[Transitions]:
    """The same batches, with time told from termination.

    Args:
        batches: in the order of the source.
        rules: what is known of it.
        name: the source's, for messages.
        endless: the task's episodes never terminate.

    Raises:
        UserError: a task that never terminates does, or most rows are not followed by what they lead to.
    """
    rows = jumped = 0
    before: Transitions | None = None
    for batch in batches:
        if rules.timeouts:
            batch = batch._replace(terminated=np.zeros_like(batch.terminated))
        if endless and batch.terminated.any():
            raise UserError(
                f"{name}: row {rows + int(np.argmax(batch.terminated))} says that the problem ended, which this task "
                "never does; if it means that the time was over, say --timeouts."
            )
        jumped += int(jumps(batch).sum())
        if before is not None and not before.ended[-1]:
            jumped += bool((before.next_observation[-1] != batch.observation[0]).any())
        before, rows = batch, rows + batch.size
        if rows >= _EARLY:
            _refuse_disorder(name, jumped, rows, rules)
        yield batch
    _refuse_disorder(name, jumped, rows, rules)


def _refuse_disorder(name: str, jumped: int, rows: int, rules: ImportRules) -> None:
    if jumped > rows / 2 and not rules.shuffled:
        raise UserError(
            f"{name}: {jumped:,} of the first {rows:,} rows are not followed by what they lead to, so its rows are out "
            "of order and the returns of its episodes are lost; sort them, or take most of them for episodes of one "
            "step with --shuffled."
        )


def distinct(
    blocks: Iterable[Rows], duplicates: Duplicates, *, name: str, on_left_out: Callable[[int], None]
) -> Iterator[Rows]:
    """Blocks of whole episodes without those that came before, bit for bit.

    Args:
        blocks: of the source, in order.
        duplicates: what becomes of them.
        name: the source's, for messages.
        on_left_out: called with the number of episodes that are left out of a block.

    Raises:
        UserError: there is such an episode, and it is to be refused.
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
                    f"{name}: episode {count} is the same as episode {earlier}, bit for bit; leave such copies out "
                    "with --duplicates drop, or, if the problem is deterministic, take them with --duplicates keep."
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
    """Those episodes of a block, numbered from 0."""
    lengths = rows.lengths() + 1
    kept = np.repeat(which, lengths)
    columns: list[Any] = [column[kept] for column in rows]
    return Rows(*columns)._replace(episode=np.repeat(np.arange(which.sum()), lengths[which]))
