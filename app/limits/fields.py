"""What callers are told of limits. Pure.

Every answer of a limited route says how much is left, by the fields of the IETF's draft
(draft-ietf-httpapi-ratelimit-headers: ``RateLimit-Policy`` with the quota unit ``qu`` where it is not requests, and
``RateLimit``) and, for the tightest limit of each measure, by those that older clients know: ``X-RateLimit-*`` (the
reset is in seconds from now) and, for tokens, OpenAI's ``x-ratelimit-limit-tokens``, ``-remaining-tokens`` and
``-reset-tokens`` (a duration with its unit: ``12s``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.streams.budgets import Level
from app.streams.windows import Ask, Count

__all__ = ["Header", "Told"]

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class _Tightest:
    """The limit of one measure of which the smallest part is left."""

    limit: int
    remaining: int
    reset: int

    def __lt__(self, other: _Tightest) -> bool:
        return (self.remaining / self.limit, -self.reset) < (other.remaining / other.limit, -other.reset)


class Told:
    """Gathers what is known of one request's limits, in the order in which they are named."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """Of the limits that were told of."""
        self._policies: list[str] = []
        self._states: list[str] = []
        self._requests: _Tightest | None = None
        self._tokens: _Tightest | None = None

    def requests(self, name: str, ask: Ask, count: Count) -> None:
        """Tell of a limit of requests in a window."""
        reset = math.ceil(count.wait or count.reset)
        self.names.add(name)
        self._policies.append(f'"{name}";q={ask.limit};w={math.ceil(ask.window)}')
        self._states.append(f'"{name}";r={count.remaining};t={reset}')
        self._requests = _tighter(self._requests, _Tightest(ask.limit, count.remaining, reset))

    def concurrent(self, name: str, limit: int, *, full: bool) -> None:
        """Tell of a limit of what runs at once. How many do is known only when it is ``full``."""
        self.names.add(name)
        self._policies.append(f'"{name}";q={limit};qu="concurrent-requests"')
        if full:
            self._states.append(f'"{name}";r=0')

    def budget(self, name: str, unit: str, limit: int, window: float, level: Level) -> None:
        """Tell of a budget. What is reserved for calls that run is not there for others, and may come back."""
        remaining, reset = max(0, limit - level.used - level.held), math.ceil(level.reset)
        self.names.add(name)
        self._policies.append(f'"{name}";q={limit};qu="{unit}";w={math.ceil(window)}')
        self._states.append(f'"{name}";r={remaining};t={reset}')
        if unit == "tokens":
            self._tokens = _tighter(self._tokens, _Tightest(limit, remaining, reset))

    def headers(self) -> tuple[Header, ...]:
        """Return the header fields."""
        headers: list[Header] = []
        if self._policies:
            headers.append((b"ratelimit-policy", ",".join(self._policies).encode("ascii")))
        if self._states:
            headers.append((b"ratelimit", ",".join(self._states).encode("ascii")))
        if (it := self._requests) is not None:
            headers += _older(it, b"", b"")
        if (it := self._tokens) is not None:
            headers += _older(it, b"-tokens", b"s")
        return tuple(headers)


def _tighter(one: _Tightest | None, other: _Tightest) -> _Tightest:
    return other if one is None or other < one else one


def _older(it: _Tightest, suffix: bytes, unit: bytes) -> Iterable[Header]:
    names: Sequence[bytes] = (b"limit", b"remaining", b"reset")
    values = (b"%d" % it.limit, b"%d" % it.remaining, b"%d%b" % (it.reset, unit))
    return [(b"x-ratelimit-%b%b" % (name, suffix), value) for name, value in zip(names, values, strict=True)]
