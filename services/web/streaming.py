"""Work that ends with its client: the one place that watches connections.

A client that goes away shows only as a message that somebody has to wait for. ``until_disconnect`` waits for it beside
the work and cancels the work at once; ``EventStream`` sends server-sent events under that watch, each flushed alone,
and closes their source whatever happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["EventStream", "paced", "until_disconnect"]

_T = TypeVar("_T")


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T | None:
    """What ``work`` returns, or None when the client went away first; ``work`` has then been cancelled, and is over.

    ``receive`` is the request's ASGI channel after its body was read. Raises what ``work`` raises.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            watcher = group.create_task(_cancel_on_disconnect(receive, task))
            task.add_done_callback(lambda _: watcher.cancel())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return None if task.cancelled() else task.result()


async def _cancel_on_disconnect(receive: Receive, task: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


async def paced(pieces: Iterable[str], per_second: float) -> AsyncGenerator[str]:
    """The pieces at that pace: the first at once, the others by a schedule, so that small delays do not add up.

    With a pace of 0 nothing waits, but each piece gives other work its turn.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    for number, piece in enumerate(pieces):
        if number:
            await asyncio.sleep(max(0.0, start + number / per_second - clock()) if per_second else 0)
        yield piece


class EventStream(Response):
    """A streamed answer of server-sent events that stops its source when the client goes away.

    ``release`` is awaited in the end in any case: a generator that was never begun cannot free what it was given.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        headers: dict[str, str] | None = None,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        # x-accel-buffering: proxies of the nginx family would otherwise collect the events.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"} | (headers or {}))
        # A stream's length is not known; an empty Response has set 0.
        del self.headers["content-length"]
        self._events = events
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events):
                await until_disconnect(receive, self._send_all(send))
        finally:
            if self._release is not None:
                await self._release()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
