"""What all answers have in common, put to each of them on its way to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

from starlette.types import Message, Receive, Scope, Send

from app.config import ServerConfig
from app.http.edge.cors import Cors
from app.http.edge.cycle import Cycle
from app.http.edge.dressed import Dressed, remember
from app.http.edge.encodings import Packing, accepted
from app.http.edge.fields import Headers, with_vary
from app.http.edge.packer import Packer, Packers
from app.http.edge.security_headers import security_headers
from app.http.known_answers import KnownAnswer
from app.http.passage import Work
from app.observe.request_context import RequestContext

__all__ = ["Answer", "Common", "DirectAnswer", "Fields"]

_OURS = frozenset({b"x-request-id", b"x-process-time"})
_CORS = b"access-control-"
_ENCODING = (b"accept-encoding",)
_CLOSE = (b"connection", b"close")
Fields = dict[bytes, bytes]


class Common:
    """CORS, security headers and compression of one configuration. ``draining`` is as :class:`Edge` has it."""

    def __init__(self, config: ServerConfig, draining: Callable[[], bool]) -> None:
        self.draining = draining
        self.packing = Packing(config.compression) if config.compression.enabled else None
        self.packers = Packers(config.compression)
        self.edition = object()
        """Stands for what the configuration says: another one after it was loaded again."""
        self.reload(config)

    def reload(self, config: ServerConfig) -> None:
        self.edition = object()
        self.cors = Cors(config.cors, config.allowed_origins)
        self.secure = {scheme: security_headers(config.security_headers, https=scheme == "https")
                       for scheme in ("http", "https")}  # fmt: skip
        self.special = frozenset(name for name, _ in self.secure["https"]) | _OURS
        """Fields of which an answer has no more than one, ours or its own."""

    def close(self) -> None:
        self.packers.close()


class Answer:
    """Stands in for the server's ``send`` during one request."""

    __slots__ = ("_common", "_fields", "_method", "_send", "context", "packer", "says_cors")

    def __init__(self, common: Common, method: str, fields: Fields, context: RequestContext, send: Send) -> None:
        self.context = context
        self._common = common
        self._method = method
        self._fields = fields
        self._send = send
        self.packer: Packer | None = None
        """Compresses the body, once the head has gone."""
        self.says_cors = common.cors.active
        """Whether what is said of CORS is said here."""

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            return self._begin(message)
        if self.packer is not None:
            return self.packer.body(message)
        return self._send(message)

    def close(self) -> None:
        """The request is over."""
        if self.context.span is not None:
            self.context.span.end()
        if self.packer is not None:
            self.packer.close()

    def _begin(self, message: Message) -> Awaitable[None]:
        common, headers = self._common, list(message.get("headers", ()))
        encoding = self._dress(headers, message["status"])
        if encoding is not None and common.packers.free:
            self.packer = common.packers.pack(encoding, self._send)
            return self.packer.start(message, headers)
        message["headers"] = headers
        return self._send(message)

    def _dress(self, headers: Headers, status: int) -> bytes | None:
        """Add to an answer's ``headers`` what all have; return by what it is to be compressed, None for not at all."""
        common, context = self._common, self.context
        names = dict(headers)
        if self.says_cors:
            headers[:] = self._with_cors(headers, names)
        secure = common.secure[context.scheme]
        if not common.special.isdisjoint(names):
            headers[:] = [field for field in headers if field[0] not in _OURS]
            secure = [field for field in secure if field[0] not in names]
        headers += secure
        headers += (
            (b"x-request-id", context.id),
            (b"x-process-time", b"%.6f" % (perf_counter() - context.began)),
        )
        if common.draining() and b"connection" not in names:
            headers.append(_CLOSE)
        kind, packing = names.get(b"content-type"), common.packing
        if kind is None or packing is None or self._method == "HEAD" or not packing.worth(kind):
            return None
        if not packing.may(self._fields, status, names):
            return None
        headers[:] = with_vary(headers, _ENCODING)
        return accepted(self._fields.get(b"accept-encoding", b""))

    def _with_cors(self, headers: Headers, names: Fields) -> Headers:
        """What an upstream says of it is replaced, so that nothing is said twice."""
        cors = self._common.cors
        if any(name.startswith(_CORS) for name in names):
            headers = [field for field in headers if not field[0].startswith(_CORS)]
        if cors.vary:
            headers = with_vary(headers, cors.vary)
        return headers + cors.answer(self._fields.get(b"origin"))


class DirectAnswer(Answer):
    """An answer that may be given without a task. A :class:`~app.http.passage.Client`."""

    __slots__ = ("_cycle", "_ended", "_tasks", "_work", "body", "repeated")

    def __init__(
        self,
        common: Common,
        method: str,
        fields: Fields,
        context: RequestContext,
        cycle: Cycle,
        tasks: set[asyncio.Task[None]],
        ended: Callable[[], None],
    ) -> None:
        """``tasks`` are the server's; ``ended`` is called when the request is over."""
        super().__init__(common, method, fields, context, cycle.send)
        self.repeated = cycle.repeated
        self.body = bytes(cycle.body)
        self._cycle = cycle
        self._tasks = tasks
        self._ended = ended
        self._work: Work | None = None

    def answer(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        known: KnownAnswer | None = None,
        route: object = None,
    ) -> bool:
        cycle, dressed = self._cycle, list(headers)
        if not cycle.ready or self._dress(dressed, status) is not None:
            return False
        try:
            cycle.answer(status, dressed, body)
        except RuntimeError:
            return False  # The task will come upon it as well, and end the answer as it must be ended.
        self.close()
        if known is not None and self.repeated is not None:
            common = self._common
            memory = Dressed.of(known, dressed, route, common.edition, self.context.scheme)
            if memory is not None:
                remember(self.repeated.dressed, known, memory)
        return True

    def answer_again(self, known: KnownAnswer, body: bytes, route: object) -> bool:
        repeated, cycle, common, context = self.repeated, self._cycle, self._common, self.context
        dressed = None if repeated is None else repeated.dressed.get(known)
        if dressed is None or not dressed.fits(route, common.edition, context.scheme):
            return False
        if not cycle.ready or not cycle.goes_on or common.draining():
            return False
        cycle.answer_known(known.status, dressed.lines(context.id, perf_counter() - context.began), body)
        self.close()
        return True

    def start(self, work: Work) -> None:
        self._work = work
        self._cycle.start(self._run, self._tasks)

    def close(self) -> None:
        super().close()
        self._ended()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._work is not None, "it was started with some"
        try:
            await self._work(scope, receive, self)
        finally:
            self._work = None  # Else the two would keep each other.
            self.close()
