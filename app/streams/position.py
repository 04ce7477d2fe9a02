"""Where a reader stands in a stream.

Offsets count 1, 2, 3 … in the order of the log. They alone can't tell a reader that the log was lost and begun anew:
the new log reaches the old numbers again, with other contents, and a reader who stood at 7 would go on at 8 with a hole
in his text that nobody announced. So every log also has an epoch, a short random name chosen when it is created, and a
position is only worth something together with it: same epoch, the next offset is the next message; another epoch, begin
again.

A log that goes on under a new epoch, because it can't be sure that it has the end of the old one, says what it had of
the epochs before (its *past*): who stands no further than that has read nothing that is not in it, and goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Position", "continues", "new_epoch"]

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Position(NamedTuple):
    """The last message that a reader has: ``offset`` 0 means none of ``epoch`` yet."""

    epoch: str
    offset: int


def continues(since: Position, epoch: str, past: Mapping[str, int]) -> bool:
    """Whether a log of ``epoch`` has all that a reader at ``since`` has read, as far as epochs tell.

    ``past`` is the last offset that it took over from each epoch before.
    """
    return since.epoch == epoch or since.offset <= past.get(since.epoch, -1)


def new_epoch() -> str:
    """Return a name for a new log: eight characters, 41 bits, so that two logs of one channel never share it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))
