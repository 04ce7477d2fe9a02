"""How the requests of one route are sent, and one such request."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config import RouteConfig, UpstreamConfig
from app.http.upstreams.hedging import HEDGEABLE
from app.http.upstreams.retries import IDEMPOTENT
from app.observe.outcomes import Outcome

if TYPE_CHECKING:
    from app.http.upstreams.target import Target

__all__ = ["DIRECT", "Plan", "Request", "plan_of"]

DIRECT = "generations"
"""The name of the plan of requests that come by no route."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a route concerns the sending. Requests of one ``name`` share breakers."""

    name: str
    timeout: float | None
    """Seconds from here to the answer's head, with all tries; None for no bound of their sum."""
    retries: int
    hedge: bool
    topic: str = ""
    """Where requests over Kafka go; empty for the upstream's own."""


def plan_of(upstream: UpstreamConfig, route: RouteConfig | None = None) -> Plan:
    """Return the plan of a route, or of requests that come by none."""
    retries, hedge = upstream.retries.count, upstream.hedge.enabled
    if route is None:
        return Plan(DIRECT, None, retries, hedge)
    return Plan(
        route.label or route.path,
        route.timeout,
        retries if route.retries is None else route.retries,
        hedge if route.hedge is None else route.hedge,
        route.topic,
    )


@dataclass(slots=True)
class Request:
    """One request of a client, however often it is tried."""

    plan: Plan
    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | AsyncIterable[bytes]
    idle_timeout: float
    deadline: float | None
    """When its time is over, in seconds of the loop's clock."""
    tried: tuple[Target, ...] = ()
    """The targets so far: another one is preferred."""
    upgrade: bool = False
    """It is the handshake of a WebSocket."""
    outcome: Outcome | None = None
    """What learns who was asked, and how long it took."""
    lines: bytes = b""
    """The headers and the upstream's own, as lines, where they are known; the request has no body then."""

    @property
    def resendable(self) -> bool:
        """Whether it may reach an upstream twice, and can: an iterator yields its pieces once only."""
        return self.method in IDEMPOTENT and isinstance(self.body, bytes)

    def asked(self, target: str, seconds: float) -> None:
        """``target`` gave the head of an answer, or failed, after so long."""
        if self.outcome is not None:
            self.outcome.target, self.outcome.head_seconds = target, seconds

    @property
    def hedgeable(self) -> bool:
        return self.plan.hedge and not self.upgrade and self.method in HEDGEABLE and self.body == b""
