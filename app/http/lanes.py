"""How the requests of each route are sent: worked out once for a route, not for each request."""

from __future__ import annotations

from typing import NamedTuple

from app.http.routes import Route
from app.http.transport import HttpTransport
from app.http.upstreams.exchange import Exchange
from app.http.upstreams.plan import Plan

__all__ = ["Lane", "Lanes"]

_PATIENCE = 0.1
"""Seconds: where answers may have to be given up earlier, each request has a task from its beginning."""


class Lane(NamedTuple):
    """How the requests of a route are sent. ``exchange`` is there where they may be sent without a task."""

    route: Route
    plan: Plan
    exchange: Exchange | None


class Lanes:
    """Those of all routes that were asked for."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._known: dict[int, Lane] = {}
        """By the route's index; of routes of an earlier table there may be some."""

    def of(self, route: Route) -> Lane:
        """Return how requests of ``route`` are sent."""
        known = self._known.get(route.index)
        if known is None or known.route is not route:
            plan = self._transport.plan(route.config)
            exchange = self._transport.direct(route.config) if _is_plain(route, plan) else None
            if exchange is not None and exchange.quickest < _PATIENCE:
                exchange = None
            known = self._known[route.index] = Lane(route, plan, exchange)
        return known


def _is_plain(route: Route, plan: Plan) -> bool:
    """Whether a request whose body has come needs nothing but to be passed on: nobody to ask, nothing to remember."""
    config = route.config
    busy = config.count_tokens or config.answer or config.cache or config.generation
    slow = plan.timeout is None or plan.timeout >= _PATIENCE
    return not (busy or config.upload or plan.hedge) and slow
