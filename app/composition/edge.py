"""In front of everything: what each request is known by, and what all answers have in common.

Whether the proxy answers, the gateway's own endpoints or a problem, an answer gets the request's id, the time it took,
what a browser must know of CORS and security, and its compression here, and only here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from random import getrandbits
from time import perf_counter

from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.peer import Peers
from app.composition.answer import Answer, Common, DirectAnswer, Fields
from app.config import ServerConfig
from app.errors import Misdirected, TidegateError
from app.http.dispatch import Dispatch
from app.http.edge.cycle import Cycle
from app.http.edge.heads import host_name, valid_host
from app.http.edge.hosts import Hosts
from app.http.own_requests import own_outcome
from app.http.problems import problem
from app.observe.counts import HttpCounts
from app.observe.outcomes import Ended, Outcome
from app.observe.request_context import KEY, RequestContext
from app.observe.trace_context import new_trace, received_trace, valid_request_id
from app.observe.tracing import Tracing

__all__ = ["Edge"]

_HEALTH = "/health"
_PREFLIGHT = (b"access-control-request-method", b"access-control-request-headers")
_SHORT = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Methods whose requests may take the shortcut."""
_BODY = frozenset({b"content-length", b"transfer-encoding"})
_SECURE = ("https", "wss")
_encoded = lru_cache(maxsize=1024)(partial(str.encode, encoding="latin-1"))


class Edge:
    """An ASGI application for scopes of type ``http`` and ``websocket``. Close it where the server ends.

    ``draining`` says whether this replica is about to go: then each answer asks its client to connect anew.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServerConfig,
        draining: Callable[[], bool],
        counts: HttpCounts | None = None,
        told: Callable[[Outcome], None] = lambda outcome: None,
        tracing: Tracing | None = None,
    ) -> None:
        """``told`` is told of the requests that are answered here; ``tracing`` makes spans of sampled ones."""
        self._tracing = tracing
        self._app = app
        self._counts = counts or HttpCounts()
        self._told = told
        self._peers = Peers(config.trusted_proxies, config.forwarded_header)
        self._trusting = bool(self._peers)
        self._front = app if isinstance(app, Dispatch) else None
        self._common = Common(config, draining)
        self.reload(config)

    def reload(self, config: ServerConfig) -> None:
        """Take other hosts, origins and headers, from the next request on."""
        self._hosts = Hosts(config.trusted_hosts)
        self._trace_share = config.trace_share
        self._common.reload(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields: Fields = dict(scope["headers"])
        context = scope.get(KEY) or self._context(scope, fields)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send, context)
            return
        answer = Answer(self._common, scope["method"], fields, context, send)
        self._counts.in_flight += 1
        try:
            if self._common.cors.asks_before(scope["method"], fields):
                answer.says_cors = False
                self._tell(scope, context, await self._preflight(fields, answer))
            elif self._serves(context, scope["path"]):
                await self._app(scope, receive, answer)
            else:
                await _send_problem(answer, Misdirected())
                self._tell(scope, context, Misdirected.status, Misdirected.code)
        finally:
            self._ended()
            answer.close()

    def begin(self, cycle: Cycle, tasks: set[asyncio.Task[None]]) -> bool:
        """Serve a request whose body, if it has one, has come as :meth:`Dispatch.begin` does: a
        :class:`~app.http.edge.answering.Shortcut`."""
        scope = cycle.scope
        method: str = scope["method"]
        if self._front is None or method not in _SHORT:
            return False
        fields: Fields = dict(scope["headers"]) if cycle.repeated is None else cycle.repeated.fields
        if (cycle.more_body and not _BODY.isdisjoint(fields)) or self._common.cors.asks_before(method, fields):
            return False
        context = self._context(scope, fields)
        if context.span is not None or not self._serves(context, scope["path"]):
            return False
        answer = DirectAnswer(self._common, method, fields, context, cycle, tasks, self._ended)
        begun = self._front.begin(scope, answer)
        self._counts.in_flight += begun
        return begun

    def close(self) -> None:
        self._common.close()

    # Private.

    def _ended(self) -> None:
        self._counts.in_flight -= 1

    def _context(self, scope: Scope, fields: Fields) -> RequestContext:
        """Make what a request is known by, and put it into its scope."""
        began = perf_counter()
        client = scope["client"]
        address = client[0] if client else ""
        chain, host = _encoded(address), fields.get(b"host", b"")
        scheme = "https" if scope["scheme"] in _SECURE else "http"
        if self._trusting:
            way = self._peers.way(address, scope["headers"])
            address, chain = way.addresses[0], ", ".join(way.addresses).encode("latin-1")
            if way.host is not None and valid_host(way.host):
                host = way.host
            if way.scheme is not None and way.scheme != scheme:
                scheme = way.scheme
                scope["scheme"] = scheme if scope["type"] == "http" else scheme.replace("http", "ws")
        named = fields.get(b"x-request-id")
        if named is None or not valid_request_id(named):
            named = b"%032x" % getrandbits(128)
        trace = received_trace(scope["headers"]) if b"traceparent" in fields else None
        begins = trace is None
        if trace is None:
            trace = new_trace(getrandbits(192), share=self._trace_share)
        context = scope[KEY] = RequestContext(named, trace, began, address, chain, scheme, host)
        if self._tracing is not None and trace.sampled:
            self._begin_span(self._tracing, context, scope, begins=begins)
        return context

    def _begin_span(self, tracing: Tracing, context: RequestContext, scope: Scope, *, begins: bool) -> None:
        """Put a span of the gateway's own where the client's stood: what goes upstream names it."""
        method = scope.get("method", "GET")
        span = context.span = tracing.begin(method, context.trace, "server", root=begins)
        assert span is not None, "the trace is sampled"
        context.trace = span.trace
        span.note(
            {
                "http.request.method": method,
                "url.scheme": context.scheme,
                "client.address": context.client,
                "tidegate.request_id": context.id.decode("ascii"),
            }
        )

    def _serves(self, context: RequestContext, path: str) -> bool:
        """Whether the gateway answers under the name by which it is asked. Probes ask by addresses."""
        if not self._hosts or path == _HEALTH or path.startswith(_HEALTH + "/"):
            return True
        return valid_host(context.host) and host_name(context.host) in self._hosts

    async def _socket(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> None:
        try:
            await self._shake_hands(scope, receive, send, context)
        finally:
            if context.span is not None:
                context.span.end()

    async def _shake_hands(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> None:
        if self._serves(context, scope["path"]):
            await self._app(scope, receive, send)
            return
        await receive()
        status, headers, body = problem(Misdirected())
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})

    def _tell(self, scope: Scope, context: RequestContext, status: int, code: str = "") -> None:
        outcome = own_outcome(context, scope["method"], scope["raw_path"].decode("latin-1"))
        outcome.status, outcome.error = status, code
        outcome.ended = Ended.REFUSED if code else Ended.COMPLETE
        self._told(outcome)

    async def _preflight(self, fields: Fields, send: Send) -> int:
        try:
            headers = self._common.cors.preflight(fields)
        except TidegateError as error:
            await _send_problem(send, error)
            return error.status
        headers.append((b"vary", b", ".join([*self._common.cors.vary, *_PREFLIGHT])))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return 204


async def _send_problem(send: Send, error: TidegateError) -> None:
    status, headers, body = problem(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
