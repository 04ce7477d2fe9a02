"""One request and its answer: the server's half of ASGI (section "HTTP"), with as little as possible for each.

The head of an answer waits for the first piece of its body, but no longer than the turn of the loop in which it came:
so an answer that is there whole is one write, and with it one system call and one packet. Whoever sends has nothing to
wait for unless the client is slow, and learns that the client has gone only if he asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Generator, Sequence
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.http.edge.repeated import Repeated

__all__ = ["Cycle", "Owner"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CONTROLS = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"
"""Bytes that no line of a head may hold (RFC 9110 section 5.5)."""
_BODILESS = frozenset({204, 304})
_JOIN = 64 * 1024
"""Bytes: a smaller piece is copied to what goes before it, so that both are one write."""
_ERROR: list[Message] = [
    {
        "type": "http.response.start",
        "status": 500,
        "headers": [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"21"),
            (b"connection", b"close"),
        ],
    },
    {"type": "http.response.body", "body": b"Internal Server Error"},
]
_log = logging.getLogger("uvicorn.error")


class _Done:
    """What to await where there is nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        return _NOTHING.__iter__()  # type: ignore[return-value]


_NOTHING: tuple[()] = ()
_DONE = _Done()


class Owner(Protocol):
    """The connection of a cycle."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop

    def default_head(self) -> bytes:
        """Return the lines that the server adds to each head."""

    def part(self) -> None:
        """Close the connection, for its last answer is complete."""

    def on_response_complete(self) -> None: ...


class Cycle:
    """Runs the application for one request, and stands between it and the connection."""

    __slots__ = (
        "_chunked", "_event", "_flow", "_held", "_left", "_news", "_owner", "_task", "_transport", "_unframed", "body",
        "disconnected", "keep_alive", "more_body", "repeated", "response_complete", "response_started", "scope",
        "waiting_for_100_continue",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        scope: Scope,
        *,
        keep_alive: bool,
        expects_continue: bool,
        repeated: Repeated | None = None,
    ) -> None:
        """A request of ``repeated`` fields has come whole."""
        self.scope = scope
        self.repeated = repeated
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects_continue
        self.body = bytearray()
        """What came of the request's body and was not received yet."""
        self.more_body = repeated is None
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._owner: Owner | None = owner
        """None once the application has returned: else the two would keep each other."""
        self._transport = owner.transport
        self._flow = owner.flow
        self._task: asyncio.Task[None] | None = None
        self._news = repeated is not None
        self._event: asyncio.Event | None = None
        self._held: bytes | None = None
        """The answer's head, as long as it was not written."""
        self._unframed = scope["http_version"] == "1.0"
        self._chunked = False
        self._left = 0
        """Bytes of the body that the answer's length still promises."""

    def start(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """Run ``app`` for the request, as one of the server's ``tasks``."""
        assert self._owner is not None, "it is started once"
        self._task = task = self._owner.loop.create_task(self._run(app, tasks))
        tasks.add(task)

    def tell(self) -> None:
        """Something came, or the client has gone: wake whoever receives."""
        self._news = True
        if self._event is not None:
            self._event.set()

    def hang_up(self) -> None:
        """The client has gone, or is given up."""
        self.disconnected = True
        self._held = None
        self.tell()

    # What the application calls.

    async def receive(self) -> Message:
        if self.waiting_for_100_continue and not self._transport.is_closing():
            self.waiting_for_100_continue = False
            self._transport.write(_CONTINUE)
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            while not self._news and not self.disconnected and not self.response_complete:
                if self._event is None:
                    self._event = asyncio.Event()
                await self._event.wait()
            self._news = False
            if self._event is not None:
                self._event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, bytearray()
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    def send(self, message: Message) -> Awaitable[None]:
        if self._flow.write_paused and not self.disconnected:
            return self._send_later(message)
        self._send(message)
        return _DONE

    # Where there is no application: the answer comes whole, or one begins after all.

    @property
    def ready(self) -> bool:
        """Whether an answer can be written now: the client is there, and not slow."""
        return not (self._flow.write_paused or self.disconnected)

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Write a whole answer at once. Raises :exc:`RuntimeError` for one that is none."""
        assert not self.response_started, "an answer begins once"
        self._held = self._head(status, headers)
        self._continue(body, more=False)
        self._owner = None

    @property
    def goes_on(self) -> bool:
        """Whether an answer with a length needs no line beside its own."""
        return self.keep_alive and not self._unframed and self.scope["method"] != "HEAD"

    def answer_known(self, status: int, lines: bytes, body: bytes) -> None:
        """Write a whole answer at once where :attr:`goes_on`. ``lines`` are those of its head that are not the
        server's, with its end: they hold the length of ``body``, and were sent before."""
        owner = self._owner
        assert owner is not None, "an answer begins once"
        self.response_started = True
        self._transport.write(b"%b%b%b%b" % (STATUS_LINE[status], owner.default_head(), lines, body))
        self._complete()
        self._owner = None

    # Private.

    async def _send_later(self, message: Message) -> None:
        self.flush()
        await self._flow.drain()
        self._send(message)

    def _send(self, message: Message) -> None:
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"an answer begins with its head, not with {kind!r}")
            self._begin(message)
        elif self.response_complete or kind != "http.response.body":
            raise RuntimeError(f"unexpected message {kind!r}")
        else:
            self._continue(message.get("body", b""), more=message.get("more_body", False))

    def _begin(self, message: Message) -> None:
        assert self._owner is not None, "the application still runs"
        self._held = self._head(message["status"], message.get("headers", []))
        self._owner.loop.call_soon(self.flush)

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Begin the answer: return its head, and know from now on how its body ends."""
        owner = self._owner
        assert owner is not None, "it is not over"
        lines = [b": ".join(field) for field in headers]
        fields = dict(headers)
        length = fields.get(b"content-length")
        if b"connection" in fields and b"close" in fields[b"connection"].lower():
            self.keep_alive = False
        elif not self.keep_alive or (self._unframed and length is None):
            self.keep_alive = False
            lines.append(b"connection: close")
        elif self._unframed:  # HTTP/1.0 ends with the answer unless both say otherwise (RFC 9112 section 9.3).
            lines.append(b"connection: keep-alive")
        unframed = self._unframed and length is None
        chunked = length is None and b"transfer-encoding" in fields
        if not (length is not None or chunked or unframed or self.scope["method"] == "HEAD" or status in _BODILESS):
            chunked = True
            lines.append(b"transfer-encoding: chunked")
        block = b"\r\n".join([*lines, b"\r\n"])
        if len(block) - len(block.translate(None, _CONTROLS)) != 2 * len(lines) + 2:
            raise RuntimeError("an answer's header holds a control character")
        self.response_started = True
        self.waiting_for_100_continue = False
        self._unframed, self._chunked, self._left = unframed, chunked, int(length or 0)
        return STATUS_LINE[status] + owner.default_head() + block

    def flush(self) -> None:
        """Write the head, if it still waits."""
        held, self._held = self._held, None
        if held is not None and not self.disconnected:
            self._transport.write(held)

    def _continue(self, data: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            data, self._left = b"", 0
        elif self._chunked:
            data = _chunk(data, last=not more)
        elif not self._unframed:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("an answer is longer than its Content-Length")
        if self._held is not None:
            if len(data) <= _JOIN:
                data, self._held = self._held + data, None
            else:
                self.flush()
        if data:
            self._transport.write(data)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self._left:
            raise RuntimeError("an answer is shorter than its Content-Length")
        self.response_complete = True
        self.tell()
        if self._owner is not None:
            if not self.keep_alive:
                self._owner.part()
            self._owner.on_response_complete()

    async def _run(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:
            _log.error("Exception in ASGI application\n", exc_info=error)
            self._give_up()
        else:
            if not self.response_complete and not self.disconnected:
                _log.error("the application returned before its answer was complete")
                self._give_up()
        finally:
            self._owner = None
            if self._task is not None:
                tasks.discard(self._task)
                self._task = None

    def _give_up(self) -> None:
        """End an answer that nobody goes on with: so that the client sees that it is not complete."""
        if self.response_started or self.disconnected:
            self.flush()
            self._transport.close()
            return
        for message in _ERROR:
            self._send(message)


def _chunk(data: bytes, *, last: bool) -> bytes:
    """Return ``data`` as a chunk (RFC 9112 section 7.1), and after it the end, if it is the ``last``."""
    end = b"0\r\n\r\n" if last else b""
    return b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end
