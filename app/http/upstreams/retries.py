"""What may be sent again, after which pause, and how often in all (RFC 9110 section 9.2.2). Pure.

==============================  =====================================  ==========================================
what happened                   idempotent, body at hand               any other request
==============================  =====================================  ==========================================
no connection could be made     again                                  again: nothing was sent
cut off before an answer        again                                  never: it may have been carried out
no answer within a try's time   again                                  such a request has no try's time
an answer of ``statuses``       again, unless Retry-After is too long  never
no answer at all in time        never: the client has waited enough    never
==============================  =====================================  ==========================================

Nothing is sent again once any of an answer went to the client, past ``count``, or past the budget. The budget is a
bucket: each request puts in its share of a token, time puts in some more, and each retry takes out one. So when
everything fails, an upstream gets the requests that there are plus that share of them, and not a multiple.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

__all__ = ["IDEMPOTENT", "Budget", "Failure", "RetryRules", "pause_before_retry", "retry_after_seconds"]

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""
_LARGEST_BURST = 10.0
"""Tokens that quiet times may save up beyond the minimum."""
_LARGEST_EXPONENT = 16


class Failure(Enum):
    """How a try went wrong."""

    CONNECT = "connect"
    CUT = "cut"
    TRY_TIMEOUT = "try_timeout"
    STATUS = "status"
    TIMEOUT = "timeout"
    INVALID = "invalid"


_WORTH_ANOTHER_TRY = frozenset({Failure.CONNECT, Failure.CUT, Failure.TRY_TIMEOUT, Failure.STATUS})


class RetryRules(Protocol):
    """The numbers; :class:`app.config.RetriesConfig` holds them. Times are seconds."""

    @property
    def backoff(self) -> float: ...
    @property
    def max_backoff(self) -> float: ...
    @property
    def max_retry_after(self) -> float: ...


class Budget:
    """Tokens for retries (or hedges) of one upstream."""

    __slots__ = ("_largest", "_rate", "_share", "_then", "_tokens")

    def __init__(self, percent: float, per_second: float) -> None:
        self._share = percent / 100
        self._rate = per_second
        self._largest = per_second + (_LARGEST_BURST if percent else 0.0)
        self._tokens = per_second
        self._then: float | None = None

    def deposit(self) -> None:
        """A request was made."""
        tokens = self._tokens + self._share
        self._tokens = tokens if tokens < self._largest else self._largest

    def withdraw(self, now: float) -> bool:
        """Return whether one more retry may be made, and count it."""
        if self._then is not None:
            self._tokens = min(self._largest, self._tokens + (now - self._then) * self._rate)
        self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def pause_before_retry(
    rules: RetryRules, failure: Failure, *, resendable: bool, retries: int, retry_after: float | None, random: float
) -> float | None:
    """Return the seconds to wait before the next try, None when there must be none.

    ``resendable`` says that the request is idempotent and its whole body at hand; ``retries`` is how many there were.
    The pause is random between nothing and a bound that doubles (full jitter), and no shorter than ``retry_after``.
    """
    if failure not in _WORTH_ANOTHER_TRY or not (resendable or failure is Failure.CONNECT):
        return None
    if retry_after is not None and retry_after > rules.max_retry_after:
        return None
    bound: float = rules.backoff * (2 ** min(retries + 1, _LARGEST_EXPONENT) - 1)
    return max(random * min(bound, rules.max_backoff), retry_after or 0.0)


def retry_after_seconds(value: bytes) -> float | None:
    """Return what a ``Retry-After`` says, if it is in seconds. A date is as good as a long time: it is for people."""
    text = value.strip()
    if text.isdigit():
        return float(text[:10])
    return float("inf") if text else None
