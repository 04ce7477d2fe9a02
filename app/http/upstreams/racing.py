"""Two tries of one request at once: the first good answer wins, the other try is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.errors import UpstreamTruncated
from app.http.upstream_response import UpstreamResponse

__all__ = ["Outcome", "race"]

Outcome = UpstreamResponse | Exception
"""What a try came to."""
_Leg = asyncio.Task[Outcome]


async def race(
    start: Callable[[], _Leg], delay: float | None, may_hedge: Callable[[], bool]
) -> tuple[Outcome, bool | None]:
    """Start a try, and a second one if the first is not over within ``delay`` seconds and ``may_hedge`` agrees.

    Return the best outcome (an answer below 500, which ends the race; else any answer; else an error) and whether it is
    the hedge's, None when there was none. A try must not raise. Whatever is not returned is cancelled or aborted.
    """
    legs = [start()]
    best: _Leg | None = None
    try:
        done, _ = await asyncio.wait(legs, timeout=delay)
        if not done and may_hedge():
            legs.append(start())
        leader = _best(legs)
        while leader is None or not (_good(leader) or all(leg.done() for leg in legs)):
            await asyncio.wait([leg for leg in legs if not leg.done()], return_when=asyncio.FIRST_COMPLETED)
            leader = _best(legs)
        best = leader
    finally:
        for leg in legs:
            if leg is not best:
                leg.cancel()
                leg.add_done_callback(_drop)
    return _outcome(best), best is legs[1] if len(legs) > 1 else None


def _outcome(leg: _Leg) -> Outcome:
    return UpstreamTruncated() if leg.cancelled() else leg.result()  # cancelled: the gateway ends


def _rank(leg: _Leg) -> int:
    outcome = _outcome(leg)
    if isinstance(outcome, UpstreamResponse):
        return 2 if outcome.status < 500 else 1
    return 0


def _good(leg: _Leg) -> bool:
    return _rank(leg) == 2


def _best(legs: list[_Leg]) -> _Leg | None:
    return max((leg for leg in legs if leg.done()), key=_rank, default=None)


def _drop(leg: _Leg) -> None:
    """Nobody reads this answer."""
    if not leg.cancelled():
        outcome = leg.result()
        if isinstance(outcome, UpstreamResponse):
            outcome.abort()
