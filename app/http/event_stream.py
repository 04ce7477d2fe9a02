"""A generation as server-sent events: ``id: <epoch>:<offset>`` and the event's JSON as ``data``.

The id is a position, so that a browser that reconnects by itself names in ``Last-Event-ID`` where it stood. Comments
keep silent streams open through proxies, whose idle limits are a minute or so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.auth.identity import Identity
from app.observe.tasks import TaskSet
from app.streams.hub import Hub
from app.streams.listener import Encoder, Subscription
from app.streams.merge import MergeRule
from app.streams.position import Position
from app.streams.publication import Batch, Publication
from app.streams.quiet import NOTHING
from app.streams.recovery import Recovery
from app.streams.sendqueue import SendQueue

__all__ = ["EventStream", "EventStreams", "SseEncoder", "SseListener", "parse_event_id"]

_HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent."""
_QUEUE_LIMIT = 1024 * 1024
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class SseEncoder:
    """:class:`~app.streams.listener.Encoder` of event streams."""

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        return b"".join(
            [
                b"id: %b:%d\ndata: %b\n\n" % (batch.epoch.encode(), offset, data)
                for batch in batches
                for offset, data in enumerate(batch.items, batch.first)
            ]
        )

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        name = epoch.encode()
        return b"".join([b"id: %b:%d\ndata: %b\n\n" % (name, each.offset, each.data) for each in publications])


_ENCODER = SseEncoder()


def parse_event_id(text: str | None) -> Position | None:
    """Read ``Last-Event-ID``; None for what this gateway never wrote, which means from the beginning."""
    epoch, colon, offset = (text or "").rpartition(":")
    if not colon or not epoch or not offset.isascii() or not offset.isdigit() or len(offset) > 15:
        return None
    return Position(epoch, int(offset))


class SseListener:
    """:class:`~app.streams.listener.Listener` whose bytes are taken by one reader, in the format of ``written``."""

    encoder = NOTHING
    direct = None

    def __init__(self, rule: MergeRule, written: Encoder = _ENCODER, limit: int = _QUEUE_LIMIT) -> None:
        """``limit`` is in bytes: what may wait for a reader that does not read."""
        self._written = written
        self._queue = SendQueue(limit, rule)
        self._changed = asyncio.Event()
        self._over = False

    def recovered(self, recovery: Recovery) -> None:
        """Take the catch-up (``send`` of :func:`~app.streams.catchup.join`)."""
        if not recovery.recovered:
            self._queue.push_frame(b": the position is unknown; the stream begins again\n\n")
        self._queue.push_frame(self._written.publications("", recovery.position.epoch, recovery.publications))
        self._changed.set()

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        if not self._over and not self._queue.push(channel, batches):
            self.close()  # The reader reconnects and resumes by Last-Event-ID.
        self._changed.set()

    def reset(self, channel: str) -> None:
        self.close()

    def moved(self, channel: str, position: Position) -> None:
        """Nothing to do: each event's id names its epoch."""

    def ended(self, channel: str) -> None:
        self.close()

    def close(self) -> None:
        """What waits is still read; nothing comes after it."""
        self._over = True
        self._changed.set()

    async def next(self) -> bytes | None:
        """Return what has come, a comment after a long silence, None at the end."""
        while not self._queue:
            if self._over:
                return None
            self._changed.clear()
            try:
                async with asyncio.timeout(_HEARTBEAT):
                    await self._changed.wait()
            except TimeoutError:
                return b": keep-alive\n\n"
        return self._queue.drain(self._written)


class EventStreams:
    """The event streams that are open on this replica."""

    def __init__(self, hub: Hub, tasks: TaskSet) -> None:
        self.hub = hub
        self.tasks = tasks
        self._open: set[EventStream] = set()

    def open(self, listener: SseListener, subscription: Subscription, identity: Identity) -> EventStream:
        """Return the answer; ``identity`` is who reads it."""
        stream = EventStream(self, listener, subscription, identity)
        self._open.add(stream)
        return stream

    def closed(self, stream: EventStream) -> None:
        self._open.discard(stream)

    def end_revoked(self, revoked: Callable[[Identity], bool]) -> None:
        """End those whose reader's token is not taken any more."""
        for stream in [stream for stream in self._open if revoked(stream.identity)]:
            stream.leave()

    def close(self) -> None:
        """End all of them; their clients come back by ``Last-Event-ID``, to another replica."""
        for stream in list(self._open):
            stream.leave()


class EventStream(Response):
    """Sends a listener's events until their end, or until the client goes, which is noticed at once."""

    def __init__(
        self, streams: EventStreams, listener: SseListener, subscription: Subscription, identity: Identity
    ) -> None:
        super().__init__()
        self.identity = identity
        self._streams = streams
        self._listener = listener
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = self._streams.tasks.start(self._watch(receive), "watch an event stream's client")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            while (block := await self._listener.next()) is not None:
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            watcher.cancel()
            self.leave()

    def leave(self) -> None:
        """Listen no longer; what waits is still sent. Idempotent."""
        self._streams.hub.drop(self._subscription)
        self._listener.close()
        self._streams.closed(self)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.leave()
