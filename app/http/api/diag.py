"""``/api/v1/diag/stream``: ticks at a steady pace, by which a client sees what is between it and the gateway.

They leave the gateway exactly as events of generations do: the same type, the same headers, a write for each. So where
ticks come in heaps, or all at the end, answers will, too. No token is needed, so how much there may be of it is bounded
in every direction.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import TooManyRequests
from app.http.answers import send_problem
from app.http.api.documented import EVENTS, problems

__all__ = ["diag_router"]

_AT_ONCE = 8
"""Streams of one process."""
_LONGEST_MS = 30_000
"""Milliseconds from the first tick to the last."""
_NDJSON = "application/x-ndjson"
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"description": "The ticks.", "content": {**EVENTS, _NDJSON: {}}}}


class _Places:
    """How many streams there are."""

    def __init__(self) -> None:
        self.taken = 0


def diag_router() -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["diagnosis"], responses=problems(400, 429))
    places = _Places()

    @router.get("/api/v1/diag/stream", response_class=Response, responses=_ANSWERS, summary="Watch the clock")
    async def stream(
        interval_ms: Annotated[int, Query(ge=10, le=5000, description="Milliseconds between two ticks.")] = 100,
        count: Annotated[int, Query(ge=1, le=500, description="How many ticks; those of 30 seconds at most.")] = 30,
        accept: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Server-sent events, or JSON lines with `Accept: application/x-ndjson`: `{"tick", "of", "at", "interval_ms"}`.

        `at` is the gateway's time in milliseconds since 1970. If ticks arrive in heaps, something on the way buffers.
        """
        most = _LONGEST_MS // interval_ms + 1
        return _Ticks(places, interval_ms, min(count, most), lines=_NDJSON in (accept or ""))

    return router


class _Ticks(Response):
    """Sends ``count`` ticks, or as many as the client stays for."""

    def __init__(self, places: _Places, interval_ms: int, count: int, *, lines: bool) -> None:
        super().__init__()
        self._places = places
        self._interval_ms = interval_ms
        self._count = count
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._places.taken >= _AT_ONCE:
            await send_problem(send, TooManyRequests("Others are watching the clock. Try again in a moment."))
            return
        self._places.taken += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._fields()})
            due = asyncio.get_running_loop().time()
            for number in range(1, self._count + 1):
                await send({"type": "http.response.body", "body": self._tick(number), "more_body": True})
                due += self._interval_ms / 1000
                if number < self._count and await _left(receive, due):
                    return
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._places.taken -= 1

    def _fields(self) -> list[tuple[bytes, bytes]]:
        kind = _NDJSON if self._lines else "text/event-stream; charset=utf-8"
        return [
            (b"content-type", kind.encode("ascii")),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
        ]

    def _tick(self, number: int) -> bytes:
        at = round(time.time() * 1000, 1)
        data = orjson.dumps({"tick": number, "of": self._count, "at": at, "interval_ms": self._interval_ms})
        return data + b"\n" if self._lines else b"id: %d\ndata: %b\n\n" % (number, data)


async def _left(receive: Receive, until: float) -> bool:
    """Wait until a moment of the loop's clock; return whether the client has left before."""
    try:
        async with asyncio.timeout_at(until):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    except TimeoutError:
        return False
