"""One job and its log of events.

States: ``queued`` → ``running`` → ``completed | failed | cancelled``; a queued job can be cancelled, too. The log keeps
every event but those that a newer one of their type replaces (``queued``, ``progress``, ``preview``): whoever follows
slowly, or comes late, sees the latest of those and all of the others, in order, and then the one terminal event. Pieces
of sound (``audio``) are forgotten a minute after the end, when the recording itself can be had.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

__all__ = ["Job", "JobEvent", "Status", "Stopped"]

Status = Literal["queued", "running", "completed", "failed", "cancelled"]
TERMINAL = ("completed", "failed", "cancelled")
_REPLACED = ("queued", "progress", "preview")
_AUDIO_KEPT = 60.0
"""Seconds from the end on."""
_KEEPALIVE = 15.0
"""Seconds without an event after which a server-sent stream shows that it lives."""


class Stopped(Exception):
    """Raised in a job's thread when the job was cancelled."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """``number`` counts from 1; numbers of replaced events are missing."""

    number: int
    type: str
    data: Mapping[str, Any]

    def sse(self) -> bytes:
        """As a server-sent event whose data holds the type, too, for readers that have no event names."""
        data = orjson.dumps({"type": self.type, **self.data})
        return f"id: {self.number}\nevent: {self.type}\ndata: ".encode() + data + b"\n\n"


class Job:
    """``details`` is what a status page shows beside the state. To be used on the event loop but where it says so."""

    def __init__(self, job_id: str, owner: str, details: Mapping[str, Any]) -> None:
        self.id = job_id
        self.owner = owner
        self.details = details
        self.status: Status = "queued"
        self.created = time.time()
        self.percent = 0.0
        self.result: Mapping[str, Any] | None = None
        self.error: str | None = None
        self.error_status = 500
        """The status of an answer that tells the error."""
        self.stop = threading.Event()
        """Set when the job was cancelled; its thread looks at it."""
        self._loop = asyncio.get_running_loop()
        self._log: dict[int, JobEvent] = {}
        self._latest: dict[str, int] = {}
        self._number = 0
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    def publish(self, kind: str, **data: Any) -> None:
        """Add an event to the log; after the end nothing is added."""
        if self.ended:
            return
        self._number += 1
        if kind in _REPLACED:
            self._log.pop(self._latest.get(kind, 0), None)
            self._latest[kind] = self._number
        if kind == "progress":
            self.percent = max(self.percent, float(data.get("percent", 0.0)))
        self._log[self._number] = JobEvent(self._number, kind, data)
        self._wake()

    def report(self, kind: str, **data: Any) -> None:
        """``publish`` from the job's own thread. Raises ``Stopped`` when the job was cancelled."""
        self.check()
        # Unlike a call after the loop's end, the loop's end itself cannot come first: it waits for the thread.
        self._loop.call_soon_threadsafe(lambda: self.publish(kind, **data))

    def check(self) -> None:
        """Raise ``Stopped`` when the job was cancelled. From any thread."""
        if self.stop.is_set():
            raise Stopped

    def end(self, status: Status, result: Mapping[str, Any] | None = None, error: str | None = None) -> None:
        """The terminal event; a second one is ignored."""
        if self.ended:
            return
        self.result, self.error = result, error
        self._log.pop(self._latest.pop("preview", 0), None)  # It may be large, and the result is better.
        data = dict(result or {}) if error is None else {"error": {"message": error, "code": f"job_{status}"}}
        if status == "completed":
            self.percent = 100.0
        if any(event.type == "audio" for event in self._log.values()):
            self._loop.call_later(_AUDIO_KEPT, self._forget_audio)
        self.publish(status, id=self.id, **{key: value for key, value in data.items() if key != "id"})
        self.status = status

    def latest(self, kind: str) -> Mapping[str, Any] | None:
        """The data of the newest event of a replaced kind."""
        event = self._log.get(self._latest.get(kind, 0))
        return None if event is None else event.data

    def document(self) -> dict[str, Any]:
        """What a status page shows of every job: its state, its details, and its error."""
        queued = self.latest("queued") if self.status == "queued" else None
        document = {
            "id": self.id,
            "generation_id": self.id,
            "status": self.status,
            "percent": self.percent,
            "queue_position": queued["position"] if queued else 0,
            "created": int(self.created),
            **self.details,
        }
        if self.error is not None:
            document["error"] = {"message": self.error, "code": "job_failed"}
        return document

    async def wait(self) -> Job:
        """Return when the job has ended."""
        while not self.ended:
            await self._changed.wait()
        return self

    async def follow(self, after: int = 0) -> AsyncGenerator[JobEvent]:
        """Events with numbers above ``after``, as they come, until the terminal one."""
        while True:
            event = self._next(after)
            if event is not None:
                after = event.number
                yield event
            elif self.ended:
                return
            else:
                await self._changed.wait()

    async def follow_sse(self, after: int = 0) -> AsyncGenerator[bytes]:
        """``follow`` as server-sent events, with a comment where nothing happens for long."""
        while True:
            event = self._next(after)
            if event is not None:
                after = event.number
                yield event.sse()
            elif self.ended:
                return
            else:
                try:
                    async with asyncio.timeout(_KEEPALIVE):
                        await self._changed.wait()
                except TimeoutError:
                    yield b": keep-alive\n\n"

    def _next(self, after: int) -> JobEvent | None:
        """The first event above ``after``. Replaced events leave holes."""
        for number in range(max(after, 0) + 1, self._number + 1):
            if (event := self._log.get(number)) is not None:
                return event
        return None

    def _forget_audio(self) -> None:
        self._log = {number: event for number, event in self._log.items() if event.type != "audio"}

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
