"""In front of everything: what each request is known by, and what all answers have in common.

Whether the proxy answers, the gateway's own endpoints or a problem, an answer gets the request's id, the time it took,
what a browser must know of CORS and security, and its compression here, and only here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from random import getrandbits
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.peer import Peers
from app.config import ServerConfig
from app.errors import Misdirected, TidegateError
from app.http.edge.cors import Cors
from app.http.edge.encodings import Packing, accepted
from app.http.edge.fields import Headers, with_vary
from app.http.edge.heads import host_name, valid_host
from app.http.edge.hosts import Hosts
from app.http.edge.packer import Packer, Packers
from app.http.edge.security_headers import security_headers
from app.http.own_requests import own_outcome
from app.http.problems import problem
from app.observe.counts import HttpCounts
from app.observe.outcomes import Ended, Outcome
from app.observe.request_context import KEY, RequestContext
from app.observe.trace_context import new_trace, received_trace, valid_request_id
from app.observe.tracing import Tracing

__all__ = ["Edge"]

_HEALTH = "/health"
_OURS = frozenset({b"x-request-id", b"x-process-time"})
_CORS = b"access-control-"
_PREFLIGHT = (b"access-control-request-method", b"access-control-request-headers")
_ENCODING = (b"accept-encoding",)
_CLOSE = (b"connection", b"close")
_SECURE = ("https", "wss")
Fields = dict[bytes, bytes]
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
        self.draining = draining
        self.packing = Packing(config.compression) if config.compression.enabled else None
        self.packers = Packers(config.compression)
        self.reload(config)

    def reload(self, config: ServerConfig) -> None:
        """Take other hosts, origins and headers, from the next request on."""
        self._hosts = Hosts(config.trusted_hosts)
        self._trace_share = config.trace_share
        self.cors = Cors(config.cors, config.allowed_origins)
        self.secure = {scheme: security_headers(config.security_headers, https=scheme == "https")
                       for scheme in ("http", "https")}  # fmt: skip
        self.secure_names = frozenset(name for name, _ in self.secure["https"])
        self.special = self.secure_names | _OURS
        """Fields of which an answer has no more than one, ours or its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields: Fields = dict(scope["headers"])
        context = scope[KEY] = self._context(scope, fields)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send, context)
            return
        answer = _Answer(self, scope["method"], fields, context, send)
        self._counts.in_flight += 1
        try:
            if self.cors.asks_before(scope["method"], fields):
                answer.says_cors = False
                self._tell(scope, context, await self._preflight(fields, answer))
            elif self._serves(context, scope["path"]):
                await self._app(scope, receive, answer)
            else:
                await _send_problem(answer, Misdirected())
                self._tell(scope, context, Misdirected.status, Misdirected.code)
        finally:
            self._counts.in_flight -= 1
            if context.span is not None:
                context.span.end()
            if answer.packer is not None:
                answer.packer.close()

    def close(self) -> None:
        self.packers.close()

    # Private.

    def _context(self, scope: Scope, fields: Fields) -> RequestContext:
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
        context = RequestContext(named, trace, began, address, chain, scheme, host)
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
            headers = self.cors.preflight(fields)
        except TidegateError as error:
            await _send_problem(send, error)
            return error.status
        headers.append((b"vary", b", ".join([*self.cors.vary, *_PREFLIGHT])))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return 204


class _Answer:
    """Stands in for the server's ``send`` during one request."""

    __slots__ = ("_context", "_edge", "_fields", "_method", "_send", "packer", "says_cors")

    def __init__(self, edge: Edge, method: str, fields: Fields, context: RequestContext, send: Send) -> None:
        self._edge = edge
        self._method = method
        self._fields = fields
        self._context = context
        self._send = send
        self.packer: Packer | None = None
        """Compresses the body, once the head has gone."""
        self.says_cors = edge.cors.active
        """Whether what is said of CORS is said here."""

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            return self._begin(message)
        if self.packer is not None:
            return self.packer.body(message)
        return self._send(message)

    def _begin(self, message: Message) -> Awaitable[None]:
        edge, context = self._edge, self._context
        headers: Headers = list(message.get("headers", ()))
        names = dict(headers)
        if self.says_cors:
            headers = self._with_cors(headers, names)
        secure = edge.secure[context.scheme]
        if not edge.special.isdisjoint(names):
            headers = [field for field in headers if field[0] not in _OURS]
            secure = [field for field in secure if field[0] not in names]
        headers += secure
        headers += (
            (b"x-request-id", context.id),
            (b"x-process-time", b"%.6f" % (perf_counter() - context.began)),
        )
        if edge.draining() and b"connection" not in names:
            headers.append(_CLOSE)
        kind = names.get(b"content-type")
        if edge.packing is not None and kind is not None and edge.packing.worth(kind):
            return self._maybe_packed(edge.packing, message, headers, names)
        message["headers"] = headers
        return self._send(message)

    def _with_cors(self, headers: Headers, names: Fields) -> Headers:
        """What an upstream says of it is replaced, so that nothing is said twice."""
        cors = self._edge.cors
        if any(name.startswith(_CORS) for name in names):
            headers = [field for field in headers if not field[0].startswith(_CORS)]
        if cors.vary:
            headers = with_vary(headers, cors.vary)
        return headers + cors.answer(self._fields.get(b"origin"))

    def _maybe_packed(self, packing: Packing, message: Message, headers: Headers, names: Fields) -> Awaitable[None]:
        if self._method != "HEAD" and packing.may(self._fields, message["status"], names):
            headers = with_vary(headers, _ENCODING)
            encoding = accepted(self._fields.get(b"accept-encoding", b""))
            if encoding is not None and self._edge.packers.free:
                self.packer = self._edge.packers.pack(encoding, self._send)
                return self.packer.start(message, headers)
        message["headers"] = headers
        return self._send(message)


async def _send_problem(send: Send, error: TidegateError) -> None:
    status, headers, body = problem(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
