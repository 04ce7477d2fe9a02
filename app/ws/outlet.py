"""A session's way out: all that is written to its socket, in order.

A message is written at once, to the transport itself, where nothing is before it. There are two places where something
can be, never both: a *lane*, for a moment, in which answers wait for those that come with them, and large messages for
their turn, which small ones of other channels don't wait for; and an *outbox*, for as long as the socket takes no bytes
or its client wants fewer frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.streams.listener import LARGE, Writer
from app.streams.publication import Batch
from app.ws.lane import ANSWERS, FREIGHT, Lane
from app.ws.outbox import Outbox
from app.ws.ports import ConnectionPort
from app.ws.services import Services, SocketEncoder

__all__ = ["Outlet"]


class Outlet:
    """One half of a :class:`~app.ws.session.Session`, which is the only one to be made of it.

    It is a base and no part: the hub asks each listener for ``direct`` once per message, and a thousand idle sockets
    have no object more.
    """

    __slots__ = ("_connection", "_lane", "_outbox", "closed", "direct", "encoder", "services")

    def __init__(self, connection: ConnectionPort, services: Services) -> None:
        self.services = services
        self.encoder: SocketEncoder = services.encoder
        self.closed = False
        self.direct: Writer | None = connection.direct
        """While open, with neither lane nor outbox: whoever writes here then overtakes nothing."""
        self._connection = connection
        self._lane: Lane | None = None
        """Only while something is to be written in a moment."""
        self._outbox: Outbox | None = None
        """Only while there is something that writing directly would overtake."""

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        """Take live messages of ``channel``; ``block`` is ``batches`` encoded."""
        if self._outbox is not None:
            self._outbox.deliver(channel, batches, block)
        else:
            self._write_live(block, channel)

    def deliver_ready(self, block: bytes) -> None:
        """Take live messages that must go out as they are."""
        if self._outbox is not None:
            self._outbox.deliver_ready(block)
        else:
            self._write_live(block)

    def pause_writing(self) -> None:
        """The socket takes no bytes. It may come here while it is written to."""
        if not self.closed:
            self._need_outbox().pause()

    def release(self) -> int:
        """Write what is in the lane, and return how many bytes that was. Idempotent."""
        lane, self._lane = self._lane, None
        if lane is None or self.closed:
            return 0
        self.services.pacer.forget(self)
        self.direct = self._connection.direct  # Writing may make an outbox, which takes it away again.
        block = lane.whole()
        self._connection.write(block)
        return len(block)

    @property
    def congested(self) -> bool:
        """Whether the client has yet to read answers to what it asked for before."""
        return self._outbox is not None and self._outbox.congested

    def roll_up(self, seconds: float) -> None:
        """Gather messages for ``seconds`` into fewer frames from now on; 0 for not at all."""
        if seconds or self._outbox is not None:
            outbox = self._need_outbox()
            outbox.roll_up(seconds)
            self._drop_outbox(outbox)

    def _write_with_next(self, frame: bytes) -> None:
        """Write a frame of the protocol with those that are about to come: a write costs more than a frame."""
        if self._outbox is None and self._lane is None:
            self._hold(frame, ANSWERS)
            asyncio.get_running_loop().call_soon(self.release)
        else:
            self._write_frame(frame)

    def _write_frame(self, frame: bytes) -> None:
        """Write a frame of the protocol behind all others."""
        if self._outbox is not None:
            self._outbox.send(frame)
        else:
            self._write(frame)

    def _write_live(self, block: bytes, channel: str | None = None) -> None:
        large, lane = len(block) >= LARGE, self._lane
        if lane is not None:
            if large or not lane.passes(channel):
                self._write(block, channel)
            else:
                self._connection.write(block)
        elif not large or self.services.pacer.admits(len(block)):
            self._connection.write(block)
        else:
            self._hold(block, min(FREIGHT, self.services.config.send_queue), channel)
            self.services.pacer.wait(self)

    def _write(self, block: bytes, channel: str | None = None) -> None:
        if self._lane is None:
            self._connection.write(block)
        elif not self._lane.add(block, channel):
            self.release()

    def _hold(self, block: bytes, room: int, channel: str | None = None) -> None:
        """Write ``block`` at the next :meth:`release`, with what comes until then; after ``room`` bytes, at once."""
        self.direct, self._lane = None, Lane(block, room, channel)

    def _resume(self, outbox: Outbox) -> None:
        """It takes bytes again."""
        outbox.resume()
        self._drop_outbox(outbox)

    def _need_outbox(self) -> Outbox:
        self.release()  # It may come here by itself.
        if self._outbox is None:
            services = self.services
            limit = services.config.send_queue
            self.direct = None
            self._outbox = Outbox(self._connection, self.encoder, limit, services.rule, self._overflow)
        return self._outbox

    def _drop_outbox(self, outbox: Outbox) -> None:
        """Write directly from now on, unless there is still a need not to."""
        if not outbox.needed:
            self._outbox = None
            self.direct = None if self.closed else self._connection.direct

    def _overflow(self) -> None:
        """More waits for a socket that takes nothing than may: end it."""
        raise NotImplementedError

    def _write_all(self) -> None:
        """Write what waits and can be written: these are the last words."""
        self.release()
        if self._outbox is not None and not self._outbox.paused:
            self._outbox.flush()

    def _shut(self) -> None:
        """What still waits is nobody's."""
        self.closed = True
        if self._lane is not None:
            self.services.pacer.forget(self)
        self.direct = self._lane = None
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
