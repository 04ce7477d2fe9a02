"""Notices that a client went away, and stops the work that is done for it.

ASGI says so only to who awaits ``receive()``, which takes a task. Most requests are answered within milliseconds and
never need one: so a watch begins when the request has lasted :data:`GRACE` to twice that, or at once when its answer is
seen to be a stream. One timer serves all requests.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

from starlette.types import Receive

from app.observe.tasks import TaskSet

__all__ = ["GRACE", "ClientGone", "ClientWatch", "Lasting", "Watches"]

GRACE = 0.025
"""Seconds."""


class ClientGone(Exception):
    """The client closed its connection before its request was complete or answered. There is nobody to tell."""


class Lasting(Protocol):
    """Something that may take a while."""

    def begin(self) -> None:
        """It has taken :data:`GRACE`, to twice that."""


class Watches:
    """All requests that are waiting to be watched, or for a task."""

    def __init__(self) -> None:
        self._tasks = TaskSet()
        self._young: set[Lasting] = set()
        self._older: set[Lasting] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: Lasting) -> None:
        self._young.add(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GRACE, self._tick)

    def discard(self, watch: Lasting) -> None:
        self._young.discard(watch)
        self._older.discard(watch)

    def start(self, watch: ClientWatch) -> asyncio.Task[None]:
        return self._tasks.start(watch.run(), "client watch")

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.close()

    def _tick(self) -> None:
        older, self._older, self._young = self._older, self._young, set()
        for watch in older:
            watch.begin()
        self._timer = asyncio.get_running_loop().call_later(GRACE, self._tick) if self._older else None


class ClientWatch:
    """Cancels the task that entered it when the client goes away; the context then raises :exc:`ClientGone`.

    Nobody but the watch calls ``receive()`` once the request's body has been received, which is what
    :meth:`body_received` says; the watch does not begin before that.
    """

    __slots__ = ("_cancelling", "_ended", "_gone", "_ready", "_receive", "_streaming", "_task", "_watcher", "_watches")

    def __init__(self, watches: Watches, receive: Receive) -> None:
        self._watches = watches
        self._receive = receive
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._cancelling = 0
        self._ready = False
        self._streaming = False
        self._gone = False
        self._ended = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None, "requests are served by tasks"
        self._cancelling = self._task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        if self._gone and kind is asyncio.CancelledError:
            assert self._task is not None
            if self._task.uncancel() <= self._cancelling:  # nobody else cancelled it, see asyncio.timeout
                raise ClientGone from None

    def body_received(self) -> None:
        """Watch after the grace, or at once if the answer is being streamed already."""
        self._ready = True
        if self._streaming:
            self.begin()
        elif not self._ended:
            self._watches.add(self)

    def streaming(self) -> None:
        """The answer will take its time: watch at once, or as soon as the request's body has been received."""
        self._streaming = True
        if self._ready:
            self.begin()

    def begin(self) -> None:
        """Watch from now on."""
        self._watches.discard(self)
        if self._watcher is None and not self._ended:
            self._watcher = self._watches.start(self)

    def end(self) -> None:
        """Stop watching: all that is left is to send what the gateway already has."""
        if not self._ended:
            self._ended = True
            self._watches.discard(self)
            if self._watcher is not None:
                self._watcher.cancel()

    async def run(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._ended:
            self._gone = True
            assert self._task is not None
            self._task.cancel()
