"""How long a connection waits for the rest of a request.

Nothing here costs a usual request a timer: deadlines run only while part of a request is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios
from array import array

from app.config import RequestsConfig
from app.errors import RequestTimeout, TidegateError
from app.http.edge.answering import Answering
from app.http.edge.parts import Part

__all__ = ["DEFAULTS", "Deadlines", "unsent"]

DEFAULTS = RequestsConfig()


class Deadlines(Answering):
    """One HTTP connection. Who inherits reads requests, and calls :meth:`_watch` when it has read."""

    _limits = DEFAULTS
    _part = Part.NOTHING
    _begun = 0
    """Requests that began in the bytes that are being read."""
    _body = 0
    """Bytes of a body that came since its deadline was set, or of one that nobody wants any more."""
    _deadline: asyncio.TimerHandle | None = None
    _deadline_of: Part | None = None
    _held_up = False
    """Whether the client had to wait for the gateway when the deadline was set."""
    _unread: asyncio.TimerHandle | None = None
    """As long as a part of an answer waits for the client."""

    # What the loop calls.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._clear_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._clear_deadline()
        self._clear_unread()

    # What a request's cycle calls.

    def part(self) -> None:
        super().part()
        if self._unread is None and self.transport.get_write_buffer_size():
            self._watch_reader()  # It is closed when the client has taken all.

    @property
    def patience(self) -> float:
        return self._limits.idle_timeout

    def _refuse(self, error: TidegateError | None) -> None:
        """Give the connection up."""
        raise NotImplementedError

    def _watch(self) -> None:
        """See to it that there is a deadline while part of a request is missing, and none otherwise."""
        part: Part | None = self._part
        if part is Part.NOTHING:
            part = Part.HEAD if self.running is None else None
        elif part is Part.REFUSED:
            return
        if part is None:
            self._clear_deadline()
            if not self.due and not self.idle:  # Empty lines are no request.
                self.idle.begin(self._limits.head_timeout)
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

    def _watch_reader(self) -> None:
        """See to it that a client which takes nothing of what waits for it is given up."""
        self._clear_unread()
        waits = max(1, unsent(self.transport))
        self._unread = self.loop.call_later(self._limits.send_timeout, self._look_at_reader, waits)

    def _look_at_reader(self, before: int) -> None:
        self._unread = None
        left = unsent(self.transport)
        if left >= before:
            self.transport.abort()
        elif left:
            self._watch_reader()

    def _clear_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes the client has yet to take, of those that the system holds as well, where it can tell.

    That may be megabytes: a slow client takes of them for minutes before the transport can write again.
    """
    held = array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
    return transport.get_write_buffer_size() + held[0]
