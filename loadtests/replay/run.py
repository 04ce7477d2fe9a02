"""What all virtual users of a process share."""

from __future__ import annotations

import time
from dataclasses import dataclass

from loadtests.replay.ends import Ends
from loadtests.replay.messages import Memo
from loadtests.replay.opening import Address
from loadtests.replay.options import Options
from loadtests.replay.plan import Plan
from loadtests.replay.poller import Poller
from loadtests.replay.tally import Tally
from loadtests.replay.tokens import Tokens
from loadtests.session_format import Header

__all__ = ["Run", "microseconds"]


@dataclass(slots=True)
class Run:
    """One process's part of a replay."""

    options: Options
    header: Header
    plan: Plan
    addresses: list[Address]
    tokens: Tokens
    poller: Poller
    memo: Memo
    tally: Tally
    ends: Ends
    origin: int
    """When the run began, in microseconds of the monotonic clock."""
    wall: int
    """What makes of those microseconds since 1970."""


def microseconds() -> int:
    """Return the monotonic clock."""
    return time.monotonic_ns() // 1000
