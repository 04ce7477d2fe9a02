"""A generation as the answer to a request of another system's client: as a stream of its format, or as one object.

A stream's head waits a moment for the upstream's first word, so that what is refused at once has a status that the
client's library knows what to do with. After that a failure is told in the words of the format, and the stream ends
without the format's own end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.auth.identity import Identity
from app.generations.event_json import is_terminal
from app.generations.formats.served.wire import Failure, Wire, failure_of, loaded, unforgotten
from app.generations.merging import EventMergeRule
from app.generations.waiting import Waiter
from app.http.event_stream import SseListener
from app.observe.tasks import TaskSet
from app.streams.hub import Hub
from app.streams.listener import Subscription
from app.streams.merge import MergeRule
from app.streams.publication import Batch, Publication

__all__ = ["LIMIT", "RULE", "ServedAnswer", "ServedListener", "ServedStream", "ServedStreams"]

Headers = list[tuple[bytes, bytes]]
RULE = EventMergeRule()
LIMIT = 1024 * 1024
"""Bytes that may wait for one reader."""
_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class _Written:
    """:class:`~app.streams.listener.Encoder` of one reader, whose format has a state."""

    def __init__(self, wire: Wire, begun: bool) -> None:
        self._wire = wire
        self.refused: Failure | None = None
        """Set when the generation ended, and not well, before anything was said."""
        self.over = False
        """Whether its terminal was written."""
        self._said = begun

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        return self._write(item for batch in batches for item in batch.items)

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        return self._write(each.data for each in publications)

    def _write(self, items: Iterable[bytes]) -> bytes:
        written = []
        for item in unforgotten(items, said=self._said):
            if self.over:
                break
            block = self._wire.take(item)
            if is_terminal(item):
                self.over = True
                if not self._said and (event := loaded(item)).get("type") != "completed":
                    self.refused = failure_of(event)
            self._said = self._said or bool(block)
            written.append(block)
        return b"".join(written)


class ServedListener(SseListener):
    """Listens for one reader of a served format."""

    def __init__(self, wire: Wire, *, rule: MergeRule = RULE, limit: int = LIMIT, begun: bool = False) -> None:
        """``begun``: the reader has some of it already."""
        self.written = _Written(wire, begun)
        super().__init__(rule, self.written, limit)


class ServedStreams:
    """The answers of served formats that are under way on this replica."""

    def __init__(self, hub: Hub, tasks: TaskSet) -> None:
        self.hub = hub
        self.tasks = tasks
        self.open: set[_Answer] = set()

    def end_revoked(self, revoked: Callable[[Identity], bool]) -> None:
        """End those whose reader's token is not taken any more."""
        for answer in [answer for answer in self.open if revoked(answer.identity)]:
            answer.send_away()


class _Answer(Response):
    """What streams and whole answers have in common: the client's going is noticed at once."""

    def __init__(
        self, streams: ServedStreams, listener: ServedListener | Waiter, subscription: Subscription, identity: Identity
    ) -> None:
        super().__init__()
        self.identity = identity
        self._streams = streams
        self._listener = listener
        self._subscription = subscription
        self._gone = False
        """Whether the client went away, or was sent away, before the end."""
        streams.open.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = self._streams.tasks.start(self._watch(receive), "watch the client of a served answer")
        try:
            await self._answer(send)
        finally:
            watcher.cancel()
            self.leave()

    def leave(self) -> None:
        """Listen no longer. Idempotent."""
        self._streams.hub.drop(self._subscription)
        self._listener.ended(self._subscription.channel)
        self._streams.open.discard(self)

    def send_away(self) -> None:
        """End it before its end."""
        self._gone = True
        self.leave()

    async def _answer(self, send: Send) -> None:
        raise NotImplementedError

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.send_away()


class ServedStream(_Answer):
    """A stream. ``refusal`` writes a failure before anything was said as an answer of its own."""

    def __init__(
        self,
        streams: ServedStreams,
        listener: ServedListener,
        subscription: Subscription,
        identity: Identity,
        *,
        headers: Headers,
        head_wait: float,
        refusal: Callable[[Failure], Response],
        delivered: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``delivered`` is called when all was sent to a client who was there to the end."""
        super().__init__(streams, listener, subscription, identity)
        self._stream = listener
        self._more = headers
        self._head_wait = head_wait
        self._refusal = refusal
        self._delivered = delivered

    async def _answer(self, send: Send) -> None:
        stream = self._stream
        try:
            async with asyncio.timeout(self._head_wait):
                block = await self._first()
        except TimeoutError:
            block = b""
        if stream.written.refused is not None:
            answer = self._refusal(stream.written.refused)
            answer.raw_headers += self._more
            await answer({"type": "http"}, _nobody, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *self._more]})
        while block is not None:
            if block:
                await send({"type": "http.response.body", "body": block, "more_body": True})
            block = await stream.next()
        await send({"type": "http.response.body", "body": b""})
        if self._delivered is not None and stream.written.over and not self._gone:
            await self._delivered()

    async def _first(self) -> bytes | None:
        """Return the first bytes there are, and not those that only keep the connection open."""
        while not (block := await self._stream.next()) and block is not None:
            pass
        return block


class ServedAnswer(_Answer):
    """One object, when the generation has ended. ``build`` makes it; it may be an error."""

    def __init__(
        self,
        streams: ServedStreams,
        waiter: Waiter,
        subscription: Subscription,
        identity: Identity,
        build: Callable[[], Awaitable[Response]],
    ) -> None:
        super().__init__(streams, waiter, subscription, identity)
        self._waiter = waiter
        self._build = build

    async def _answer(self, send: Send) -> None:
        await self._waiter.over.wait()
        if not self._gone:
            answer = await self._build()
            await answer({"type": "http"}, _nobody, send)


async def _nobody() -> Any:
    raise AssertionError("the answer to a refusal reads nothing")
