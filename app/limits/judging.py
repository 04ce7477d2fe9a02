"""What limits are asked, what their answers mean for one request, and who is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.config import RateLimitConfig
from app.errors import BrokerUnavailable, BudgetExhausted, RateLimited, TidegateError
from app.limits.fields import Told
from app.limits.shares import Caller, share_of
from app.limits.tokens import Reservation
from app.streams.windows import Ask, Count

__all__ = ["Asks", "Chosen", "Counted", "asks_of", "exhausted", "judged", "tell"]

Chosen = Sequence[tuple[str, RateLimitConfig]]
"""The limits that a request is held to, each with its name."""
Asks = Sequence[tuple[str, Ask]]


class Counted(Protocol):
    """Who is told what each limit said."""

    def said(self, limit: str, outcome: str) -> None:
        """``outcome`` is ``admitted``, ``refused`` or ``uncounted``."""


def asks_of(chosen: Chosen, place: str, caller: Caller) -> Asks:
    """Return what the limits of requests in a window are asked, each with its name."""
    return [
        (name, Ask(f"{name}:{share_of(limit, place, caller)}", limit.requests, limit.window))
        for name, limit in chosen
        if limit.requests is not None
    ]


def judged(chosen: Chosen, asks: Asks, counts: Sequence[Count] | BrokerUnavailable, told: Told) -> TidegateError | None:
    """Tell of what was counted; return why the request is not admitted, if it is not."""
    if isinstance(counts, BrokerUnavailable):
        closed = any(limit.without_redis == "closed" for _, limit in chosen if limit.requests is not None)
        return counts if closed else None
    for (name, ask), count in zip(asks, counts, strict=True):
        told.requests(name, ask, count)
    violated = [name for (name, _), count in zip(asks, counts, strict=True) if count.wait > 0]
    if not violated:
        return None
    return RateLimited(retry_after=max(count.wait for count in counts), violated=violated)


def exhausted(reservation: Reservation, least: int) -> BudgetExhausted:
    """Return the refusal of a call that needs ``least`` tokens, which nobody could reserve."""
    short = [
        named
        for named, level in zip(reservation.budgets, reservation.levels, strict=True)
        if named.budget.limit - level.used - level.held < least
    ]
    too_large = [named for named in short if named.budget.limit < least]
    names = [named.name for named in short]
    if too_large:
        what = f"This needs {least} tokens at once, more than the whole budget of {too_large[0].budget.limit}."
        return BudgetExhausted(what, retry_after=too_large[0].budget.window, violated=names)
    return BudgetExhausted(retry_after=reservation.wait, violated=names)


def tell(counted: Counted, chosen: Chosen, told: Told, refusal: TidegateError | None, *, tokens: bool) -> None:
    """Say what each limit did: those that let a request in which another one refused said nothing."""
    violated = getattr(refusal, "violated", ())
    for name, limit in chosen:
        if name in violated:
            counted.said(name, "refused")
        elif limit.budget is not None and not tokens:
            continue
        elif name not in told.names and not violated:
            counted.said(name, "uncounted")
        elif refusal is None:
            counted.said(name, "admitted")
