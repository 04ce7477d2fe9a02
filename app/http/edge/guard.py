"""uvicorn's HTTP protocol, on its guard.

uvicorn takes requests that a gateway must refuse, never gives up on one that does not come to its end, answers a broken
request in the middle of another one's answer, takes trailers for headers and the body behind an unknown ``Upgrade`` for
a request, and forgets what came together with a WebSocket handshake. Here all of that is mended. Whoever is refused
gets one problem document, after the answers that are due before it, and his connection is closed: nothing behind the
place where it went wrong is looked at.

Nothing here costs a usual request a timer: deadlines run only while part of a request is missing.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.config import RequestsConfig
from app.errors import BadRequest, HeadTooLarge, RequestTimeout, TidegateError
from app.http.edge.heads import check_head, origin_form, wants_websocket, without_upgrade
from app.http.edge.parts import Enough, Part
from app.http.edge.refusing import end_by_closing, meaning, refusal, too_large
from app.observe.sampling import Sampled

__all__ = ["STATE_KEY", "Guard"]

STATE_KEY = "tidegate.requests"
"""Key of the lifespan's state under which connections find their :class:`~app.config.RequestsConfig`."""

_DEFAULTS = RequestsConfig()
_LINGER = 2.0
"""Seconds for which a refused client may go on sending: closing at once would reset it, and he would never read why."""
_FAREWELL = 0.5
"""Seconds that an idle connection stays open while the server goes: a request may be on its way."""
_UNWANTED = 256 * 1024
"""Bytes of a body that are read, for the connection's sake, after the answer is complete."""
_FIELD_COST = 4
"""Bytes of a header line beside its name and value."""
_log = Sampled(__name__)


class Guard(HttpToolsProtocol):
    """One HTTP connection."""

    _limits = _DEFAULTS
    _part = Part.NOTHING
    _begun = 0
    """Requests that began in the bytes that are being read."""
    _fields = 0
    """Bytes of the head's lines."""
    _unfinished = 0
    """Bytes that came of a head whose end has not."""
    _body = 0
    """Bytes of a body that came since its deadline was set, or of one that nobody wants any more."""
    _other_upgrade = False
    _running: RequestResponseCycle | None = None
    _why: TidegateError | None = None
    """What a refused client is told; None to close without a word."""
    _deadline: asyncio.TimerHandle | None = None
    _deadline_of: Part | None = None
    _held_up = False
    """Whether the client had to wait for the gateway when the deadline was set."""
    _going = False

    # What the loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits = cast(RequestsConfig, self.app_state.get(STATE_KEY, _DEFAULTS))
        self.timeout_keep_alive = cast(Any, self._limits.idle_timeout)
        self._set_deadline(Part.HEAD)

    def data_received(self, data: bytes) -> None:
        if self._part is Part.REFUSED:
            return
        self._unset_keepalive_if_required()
        before, self._begun = self._part, 0
        self._parse(data)
        if self._part is Part.HEAD:
            self._measure(before, len(data))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._clear_deadline()
        self.pipeline.clear()
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def shutdown(self) -> None:
        """Answer what has come and what comes in the next moment, the last of it as the last one."""
        self._going = True
        if self._due:
            super().shutdown()
        elif self._part is not Part.REFUSED:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(_FAREWELL, self.timeout_keep_alive_handler)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self._limits.max_pipelined:
            raise Enough
        super().on_message_begin()
        self._part = Part.HEAD
        self._begun += 1
        self._fields = self._unfinished = self._body = 0

    def on_url(self, url: bytes) -> None:
        self._fields += len(url)
        if self._fields > self._limits.max_head:
            raise too_large(self._limits)
        super().on_url(url)

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
        version, upgrade = self.parser.get_http_version(), self.parser.should_upgrade()
        check_head(self.parser.get_method(), version, self.url, self.headers)
        self.url = origin_form(self.url)
        if upgrade and not (version == "1.1" and wants_websocket(self.headers)):
            self._other_upgrade = True
            return
        self._part = Part.BODY
        super().on_headers_complete()
        if upgrade:
            return
        if version == "1.0":
            end_by_closing(self.cycle)
        if self._going:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self.cycle.response_complete and self._body > _UNWANTED:
            raise Enough
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._other_upgrade:
            self._part = Part.NOTHING
            super().on_message_complete()

    # What uvicorn calls.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._part is Part.BODY:
            self._body = 0
        if self._part is Part.REFUSED and not self._due and not self.transport.is_closing():
            self._say_farewell()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        return not self._other_upgrade

    # Reading.

    @property
    def _due(self) -> bool:
        """Whether an answer is due."""
        return bool(self.pipeline) or (self._running is not None and not self._running.response_complete)

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
        elif self._due:
            self._refuse(BadRequest("A WebSocket cannot begin before the requests ahead of it have their answers."))
        else:
            self._part = Part.REFUSED
            self._clear_deadline()
            self.handle_websocket_upgrade()
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

    # Time.

    def _watch(self) -> None:
        """See to it that there is a deadline while part of a request is missing, and none otherwise."""
        part: Part | None = self._part
        if part is Part.NOTHING:
            part = Part.HEAD if self._running is None else None
        elif part is Part.REFUSED:
            return
        if part is None:
            self._clear_deadline()
            if not self._due and self.timeout_keep_alive_task is None:  # Empty lines are no request.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self._limits.head_timeout, self.timeout_keep_alive_handler
                )
        elif self._begun or part is not self._deadline_of:
            self._set_deadline(part)

    def _set_deadline(self, part: Part) -> None:
        self._clear_deadline()
        seconds = self._limits.body_timeout if part is Part.BODY else self._limits.head_timeout
        self._deadline = self.loop.call_later(seconds, self._late)
        self._deadline_of = part
        self._held_up = self._holds_up()

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = self._deadline_of = None

    def _late(self) -> None:
        self._deadline = self._deadline_of = None
        if self._part is Part.NOTHING:
            self.transport.close()
        elif self._held_up or self._holds_up() or (self._part is Part.BODY and self._keeps_up()):
            self._body = 0
            self._set_deadline(self._part)
        else:
            self._refuse(RequestTimeout())

    def _keeps_up(self) -> bool:
        """Whether a body is as quick as it must be."""
        return self._body >= self._limits.body_rate * self._limits.body_timeout

    def _holds_up(self) -> bool:
        """Whether the client waits for the gateway: to read on, or to tell it to send its body."""
        cycle = self.cycle if self._part is Part.BODY else None
        asked = cycle is not None and cycle.waiting_for_100_continue and not cycle.response_complete
        return self.flow.read_paused or asked

    # Refusing.

    def _refuse(self, error: TidegateError | None) -> None:
        """Give the connection up: after the answers that are due, with ``error``; None is without a word."""
        broken, self._part = self._part is Part.BODY and not self.cycle.response_complete, Part.REFUSED
        self._clear_deadline()
        self._why = error
        if error is not None:
            _log.warning("a request was refused", code=error.code, client=self.client and self.client[0])
        if broken and self._running is not self.cycle:
            self.pipeline.popleft()  # It came last, and nothing was done for it yet.
        elif broken:  # Whoever works at it learns that the client is gone.
            self._running, self.cycle.disconnected = None, True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
        if not self._due and not self.transport.is_closing():
            self._say_farewell()

    def _say_farewell(self) -> None:
        """Tell why, if there is anything to tell; let the client read it; close."""
        self._unset_keepalive_if_required()
        if self._why is not None:
            self.transport.write(refusal(self._why, self.server_state.default_headers))
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._deadline = self.loop.call_later(_LINGER, self.transport.abort)
        else:
            self.transport.close()
