"""What is known of one request from its head on, for all who have to do with it: proxy, endpoints, limits, logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.observe.trace_context import TraceContext
from app.observe.tracing import Span

__all__ = ["KEY", "RequestContext", "context_of"]

KEY = "tidegate.request"
"""Key of the ASGI scope, of types ``http`` and ``websocket``, under which the :class:`RequestContext` stands."""


class RequestContext:
    """Made once, in front of everything else (:mod:`app.composition.edge`)."""

    __slots__ = ("began", "chain", "client", "host", "id", "scheme", "span", "trace")

    def __init__(
        self, id: bytes, trace: TraceContext, began: float, client: str, chain: bytes, scheme: str, host: bytes
    ) -> None:
        self.id = id
        """``X-Request-ID``: the client's own where it is safe in a log, or made here."""
        self.trace = trace
        """The client's where it is valid, or begun here. Replace it where the gateway has a span of its own
        (:meth:`~app.observe.trace_context.TraceContext.below`): what goes upstream is what stands here."""
        self.span: Span | None = None
        """The gateway's own span of this request, where traces are recorded and this one is sampled."""
        self.began = began
        """When the request's head had come (``time.perf_counter``, seconds)."""
        self.client = client
        """The client's address, as trusted proxies name it; empty on a Unix socket."""
        self.chain = chain
        """``X-Forwarded-For`` for the upstream: the client, and the trusted proxies behind it."""
        self.scheme = scheme
        """``http`` or ``https``: how the client asked, as trusted proxies say."""
        self.host = host
        """The Host by which the client asked, as trusted proxies say; empty for HTTP/1.0 without one."""


def context_of(scope: Mapping[str, Any]) -> RequestContext:
    """Return the context of a request that came in through the front."""
    context: RequestContext = scope[KEY]
    return context
