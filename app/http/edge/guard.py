"""uvicorn's HTTP protocol, on its guard.

uvicorn takes requests that a gateway must refuse, never gives up on one that does not come to its end, answers a broken
request in the middle of another one's answer, takes trailers for headers and the body behind an unknown ``Upgrade`` for
a request, and forgets what came together with a WebSocket handshake. Here all of that is mended. Whoever is refused
gets one problem document, after the answers that are due before it, and his connection is closed: nothing behind the
place where it went wrong is looked at.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from app.config import RequestsConfig
from app.errors import BadRequest, HeadTooLarge, TidegateError
from app.http.edge.deadlines import DEFAULTS, Deadlines, unsent
from app.http.edge.heads import check_head, origin_form, wants_websocket, without_upgrade
from app.http.edge.parts import Enough, Part
from app.http.edge.refusing import id_of, meaning, refusal, tell_refusal, too_large
from app.http.edge.repeated import Repeated
from app.observe.sampling import Sampled

__all__ = ["STATE_KEY", "Guard"]

STATE_KEY = "tidegate.requests"
"""Key of the lifespan's state under which connections find their :class:`~app.config.RequestsConfig`."""

_LINGER = 2.0
"""Seconds for which a refused client may go on sending: closing at once would reset it, and he would never read why."""
_FAREWELL = 0.5
"""Seconds that an idle connection stays open while the server goes: a request may be on its way."""
_TOGETHER = 32 * 1024
"""Bytes of a body that may well come together with its head: it is looked for before the request is answered."""
_UNWANTED = 256 * 1024
"""Bytes of a body that are read, for the connection's sake, after the answer is complete."""
_FIELD_COST = 4
"""Bytes of a header line beside its name and value."""
_log = Sampled(__name__)


class Guard(Deadlines):
    """One HTTP connection."""

    _fields = 0
    """Bytes of the head's lines."""
    _unfinished = 0
    """Bytes that came of a head whose end has not."""
    _upgrade_to_websocket = False
    _other_upgrade = False
    _why: TidegateError | None = None
    """What a refused client is told; None to close without a word."""
    _refused_id = b""
    """By which he can ask what it was about."""
    _repeated: Repeated | None = None
    _lines = b""
    """Of the last request's head, if it had a plain one."""

    # What the loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits = cast(RequestsConfig, self.app_state.get(STATE_KEY, DEFAULTS))
        self._set_deadline(Part.HEAD)

    def data_received(self, data: bytes) -> None:
        before = self._part
        if before is Part.REFUSED:
            return
        self.idle.end()
        if self._repeated is not None and before is Part.NOTHING and self._take_again(self._repeated, data):
            return
        self._begun = 0
        self._parse(data)
        if self.held is not None:
            self.go()
        if self._part is Part.HEAD:
            self._measure(before, len(data))
        elif self._begun == 1 and before is Part.NOTHING and self._part is Part.NOTHING:
            self._repeated, self._lines = Repeated.of(data, self._lines, self.headers)
        self._watch()

    def shutdown(self) -> None:
        """Answer what has come and what comes in the next moment, the last of it as the last one."""
        self.going = True
        if self.due and self.cycle is not None:
            self.cycle.keep_alive = False
        elif self._part is not Part.REFUSED:
            self.idle.begin(_FAREWELL)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self._limits.max_pipelined:
            raise Enough
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._part = Part.HEAD
        self._begun += 1
        self._fields = self._unfinished = self._body = 0

    def on_url(self, url: bytes) -> None:
        self._fields += len(url)
        if self._fields > self._limits.max_head:
            raise too_large(self._limits)
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += len(name) + len(value) + _FIELD_COST
        if self._fields > self._limits.max_head:
            raise too_large(self._limits)
        if self._part is not Part.HEAD:
            return  # Trailers are nobody's headers.
        if len(self.headers) >= self._limits.max_headers:
            raise HeadTooLarge(f"A request may have {self._limits.max_headers} header lines.")
        lower = name.lower()
        if lower == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((lower, value))

    def on_headers_complete(self) -> None:
        parser, headers = self.parser, self.headers
        method, version = parser.get_method(), parser.get_http_version()
        check_head(method, version, self.url, headers)
        self.url = target = origin_form(self.url)
        if parser.should_upgrade():
            if version != "1.1" or not wants_websocket(headers):
                self._other_upgrade = True
                return
            self._upgrade_to_websocket = True
        self._part = Part.BODY
        self.describe(method, version, target)
        if not self._upgrade_to_websocket:
            self.take(hold=not self.expect_100_continue and _is_small(headers))

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        cycle = self.cycle
        assert cycle is not None, "a body comes after its head"
        if cycle.response_complete:
            if self._body > _UNWANTED:
                raise Enough
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.tell()

    def on_message_complete(self) -> None:
        if self._other_upgrade or self._part is Part.REFUSED:  # It was answered, for the last time, while it was read.
            return
        self._part = Part.NOTHING
        cycle = self.cycle
        if not self._upgrade_to_websocket and cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.tell()
            if self.held is cycle:
                self.go()

    # What a request's cycle calls.

    def part(self) -> None:
        """Close the connection; but who is still sending a body may go on for a while, as one who is refused."""
        if self._part is Part.BODY and self.transport.can_write_eof():
            self._clear_deadline()
            self._part, self._why = Part.REFUSED, None
        else:
            super().part()

    def on_response_complete(self) -> None:
        if self._part is Part.BODY:
            self._body = 0
        super().on_response_complete()
        if self._part is Part.REFUSED and not self.due and not self.transport.is_closing():
            self._say_farewell()

    # Reading.

    def _take_again(self, repeated: Repeated, data: bytes) -> bool:
        """Take a request whose fields are those of the one before it; False where it must be parsed."""
        if self.due or len(data) > self._limits.max_head:
            return False
        known = repeated.read(data)
        if known is None:
            return False
        self.headers = cast(list[tuple[bytes, bytes]], repeated.headers)
        self.expect_100_continue = False
        method, self.url = known
        self.describe(method, "1.1", self.url)
        self.take(repeated)
        return True

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Enough):
                self._refuse(None)
            else:
                self._refuse(cause if isinstance(cause, TidegateError) else meaning(error))

    def _upgrade(self, rest: bytes) -> None:
        """Let the WebSocket protocol take over, or go on as if nobody had asked for another one."""
        if self._other_upgrade:
            self._other_upgrade = False
            head = without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(head + rest)
        elif self.due:
            self._refuse(BadRequest("A WebSocket cannot begin before the requests ahead of it have their answers."))
        else:
            self._part = Part.REFUSED
            self._clear_deadline()
            self._clear_unread()
            self.idle.cancel()
            try:
                self.handle_websocket_upgrade()
            except TidegateError as error:
                self._refuse(error)
            protocol = self.transport.get_protocol()
            if rest and protocol is not self and not self.transport.is_closing():
                cast(asyncio.Protocol, protocol).data_received(rest)

    def _measure(self, before: Part, size: int) -> None:
        """Count what came of an unfinished head; its last line may never end. What came with another request's end is
        not known."""
        if self._begun == (before is Part.NOTHING):
            self._unfinished += size
        if self._unfinished > self._limits.max_head + _FIELD_COST:
            self._refuse(too_large(self._limits))

    # Refusing.

    def _refuse(self, error: TidegateError | None) -> None:
        """Give the connection up: after the answers that are due, with ``error``; None is without a word."""
        cycle = self.cycle
        before, self._part = self._part, Part.REFUSED
        self._clear_deadline()
        self._why = error
        if error is not None:
            worked_at = before is Part.BODY and self.running is cycle
            tell_refusal(self.app_state, error, worked_at=worked_at)
            self._refused_id = id_of(cycle.scope if worked_at and cycle is not None else None)
            _log.warning("a request was refused", code=error.code, client=self.client and self.client[0],
                         request_id=self._refused_id.decode("ascii"))  # fmt: skip
        if before is Part.BODY and cycle is not None and not cycle.response_complete:
            if self.held is cycle:
                self.held = None
            elif self.running is not cycle:
                self.pipeline.pop()  # It came last, and nothing was done for it yet.
            else:  # Whoever works at it learns that the client is gone.
                self.running = None
                cycle.hang_up()
                if cycle.response_started:
                    self.transport.close()
        if not self.due and not self.transport.is_closing():
            self._say_farewell()

    def _say_farewell(self) -> None:
        """Tell why, if there is anything to tell; let the client read it; close."""
        self.idle.cancel()
        if self._why is not None:
            self.transport.write(refusal(self._why, self._refused_id, self.server_state.default_headers))
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._deadline = self.loop.call_later(_LINGER, self._linger, unsent(self.transport))
        else:
            self.transport.close()

    def _linger(self, before: int) -> None:
        """Close, unless the client is reading: ``before`` bytes waited for it the last time."""
        left = unsent(self.transport)
        if 0 < left < before:
            self._deadline = self.loop.call_later(_LINGER, self._linger, left)
        else:
            self.transport.abort()


def _is_small(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a head announces a body that may have come with it. Its Content-Length is a number by now."""
    return any(name == b"content-length" and int(value) <= _TOGETHER for name, value in headers)
