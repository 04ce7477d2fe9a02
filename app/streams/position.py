"""Where a reader stands in a stream.

Offsets count 1, 2, 3 … in the order of the log. They alone can't tell a reader that the log was lost and begun anew:
the new log reaches the old numbers again, with other contents, and a reader who stood at 7 would go on at 8 with a hole
in his text that nobody announced. So every log also has an epoch, a short random name chosen when it is created, and a
position is only worth something together with it: same epoch, the next offset is the next message; another epoch, begin
again.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

__all__ = ["Position", "new_epoch"]

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Position(NamedTuple):
    """The last message that a reader has: ``offset`` 0 means none of ``epoch`` yet."""

    epoch: str
    offset: int


def new_epoch() -> str:
    """Return a name for a new log: eight characters, 41 bits, so that two logs of one channel never share it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))
