"""What a returning reader is owed: pure bookkeeping over offsets.

A reader says where he stands. The log says what it holds past that point, and while it was being read, live batches
were held back for him. Together they must form one sequence without a hole and without a repetition; when they don't,
the answer says so, and nobody is ever moved over a gap in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.streams.broker import History
from app.streams.position import Position
from app.streams.publication import Batch, Publication

__all__ = ["Recovery", "contiguous", "recover"]


@dataclass(slots=True)
class Recovery:
    """The answer. ``position`` is where the reader now stands before ``publications``, which follow it without a hole.

    ``recovered`` is False when he could not go on from where he stood: another log, a position that it never reached,
    or messages trimmed away. ``position.offset`` then differs from his, and he must start again from it.
    """

    recovered: bool
    position: Position
    publications: list[Publication]

    @property
    def top(self) -> int:
        return self.publications[-1].offset if self.publications else self.position.offset


def contiguous(batches: Iterable[Batch], epoch: str, offset: int) -> tuple[list[Batch], bool]:
    """Return the part of ``batches`` past ``offset`` of ``epoch``, and whether it follows without a hole.

    What lies behind a hole is left out. Batches of other epochs count as a hole; those without an epoch have no place
    in the order and are left out: they are for those who are live.
    """
    kept: list[Batch] = []
    for batch in batches:
        if not batch.epoch:
            continue
        if batch.epoch != epoch:
            return kept, False
        rest = batch.after(offset)
        if not rest.items:
            continue
        if rest.first != offset + 1:
            return kept, False
        kept.append(rest)
        offset = rest.last
    return kept, True


def recover(history: History, since: Position | None, held: Sequence[Batch], *, replay: bool) -> Recovery | None:
    """Join log and held-back batches for a reader who stands at ``since`` (None: nowhere yet).

    ``replay`` says what a reader without a usable position gets: all that is kept (a generation), or only what comes
    from now on (a room). None means a hole between log and held batches: read the log again.
    """
    reached = max([history.top, *[batch.last for batch in held if batch.epoch == history.epoch]])
    recovered = since is None or (history.follows(since) and since.offset <= reached)
    first = history.batches[0].first if history.batches else history.top + 1
    if recovered and since is not None:
        start = since.offset
        if first > start + 1:
            recovered, start = False, first - 1 if replay else history.top
    else:
        start = first - 1 if replay else history.top
    batches, whole = contiguous([*history.batches, *held], history.epoch, start)
    if not whole:
        return None
    publications = [publication for batch in batches for publication in batch.publications()]
    return Recovery(recovered, Position(history.epoch, start), publications)
