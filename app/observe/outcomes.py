"""What became of each request that was passed on, and of each generation, told once, at its end: for the access log,
metrics and events.

An object is made when the request's route is known, or a generation is claimed, and filled in by whoever knows; nobody
computes anything for it, so that it costs less than a microsecond where nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from time import perf_counter
from typing import Generic, TypeVar

import structlog

from app.config import RouteConfig
from app.observe.request_context import RequestContext
from app.observe.tracing import Span

__all__ = ["Ended", "GenerationOutcome", "GenerationOutcomes", "Listeners", "Outcome", "Outcomes"]

_O = TypeVar("_O")

_log = structlog.get_logger(__name__)


class Ended(Enum):
    """Who ended a request."""

    COMPLETE = "complete"
    """Nobody: the client got the whole answer, whatever its status."""
    REFUSED = "refused"
    """The gateway said no: credentials, limits, size. The client got a problem document."""
    UPSTREAM = "upstream"
    """The upstream failed: the client got a problem document or, if the answer had begun, a cut connection."""
    CLIENT = "client"
    """The client went away before it had the whole answer."""
    GATEWAY = "gateway"
    """The gateway failed or was stopped."""


class Outcome:
    """One request of a route. Listeners read it while they are called, and keep no reference."""

    __slots__ = (
        "attempts",
        "cache",
        "company_id",
        "completion_tokens",
        "context",
        "ended",
        "error",
        "head_seconds",
        "label",
        "method",
        "path",
        "prompt_tokens",
        "received",
        "route",
        "sent",
        "status",
        "target",
        "usage_source",
        "user_id",
    )

    def __init__(self, context: RequestContext, route: RouteConfig, label: str, method: str, path: str) -> None:
        self.context = context
        self.route = route
        self.label = label
        """The route's, for logs and metrics: of a bounded number, as :attr:`path` is not."""
        self.method = method
        self.path = path
        """As it is passed on, in normal form and without the query."""
        self.user_id: str | None = None
        self.company_id: str | None = None
        self.status = 0
        """Of the answer that the client got, or the beginning of which it got; 0 for none."""
        self.ended = Ended.GATEWAY
        self.error = ""
        """The code of the error, see ``docs/errors.md``; empty for none."""
        self.target = ""
        """Address and port that gave the answer, or failed last; empty when no upstream was asked."""
        self.attempts = 0
        """How many targets were asked or could not be connected to, one of them several times included."""
        self.head_seconds = 0.0
        """From asking :attr:`target` to the head of its answer, or to its failure."""
        self.received = 0
        """Bytes of the request's body."""
        self.sent = 0
        """Bytes of the answer's body, before they are compressed for the client."""
        self.prompt_tokens: int | None = None
        """Of a language model's call, where the route counts tokens; None elsewhere."""
        self.completion_tokens: int | None = None
        self.usage_source = ""
        """Who counted them: ``provider`` or ``estimated``; empty for none."""
        self.cache = ""
        """As :class:`app.http.cache.counters.CacheMeter` has it; empty where the cache has nothing to do with it."""

    def seconds(self) -> float:
        """Return the time since the request's head had come."""
        return perf_counter() - self.context.began


class GenerationOutcome:
    """One generation. Listeners read it while they are called, and keep no reference."""

    __slots__ = (
        "code",
        "company_id",
        "completion_tokens",
        "first_seconds",
        "id",
        "kind",
        "model",
        "prompt_tokens",
        "seconds",
        "span",
        "terminal",
        "tokens_source",
        "upstream",
        "user_id",
    )

    def __init__(self, id: str, kind: str, upstream: str, user_id: str | None, company_id: str | None) -> None:
        self.id = id
        self.kind = kind
        self.upstream = upstream
        self.user_id = user_id
        self.company_id = company_id
        self.span: Span | None = None
        """Of its trace, where that is recorded; ended by whoever is told."""
        self.model: str | None = None
        self.terminal = ""
        """``completed``, ``failed`` or ``cancelled``."""
        self.code = ""
        """Of a failure, see ``docs/errors.md``."""
        self.seconds = 0.0
        """From its start to its end."""
        self.first_seconds: float | None = None
        """From its start to the upstream's first event; None when there was none, or another replica knew."""
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.tokens_source: str | None = None
        """``provider`` or ``estimated``; None without tokens."""


class Listeners(Generic[_O]):
    """Who is told. A listener returns at once, and neither waits nor raises. Join them before the first request."""

    __slots__ = ("_listeners",)

    def __init__(self, *listeners: Callable[[_O], None]) -> None:
        self._listeners = listeners

    def listen(self, listener: Callable[[_O], None]) -> None:
        """Tell one more, from the next end on."""
        self._listeners = (*self._listeners, listener)

    def tell(self, outcome: _O) -> None:
        """It has come to its end."""
        for listener in self._listeners:
            try:
                listener(outcome)
            except Exception:
                # The border between a request and those who only watch it: they must not harm it, nor each other.
                _log.exception("a listener of outcomes failed")


Outcomes = Listeners[Outcome]
GenerationOutcomes = Listeners[GenerationOutcome]
