"""Answers that begin a job: they pass through, and whoever follows jobs gets a copy of them."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from app.auth.identity import Identity
from app.config import RouteConfig
from app.http.cache.flight import Answer

__all__ = ["TrackedAnswer", "Tracker"]

_log = structlog.get_logger(__name__)
_MOST = 1024 * 1024
"""Bytes of an answer that are looked at."""
_PATIENCE = 2.0
"""Seconds that the end of an answer waits for its job to be followed, so that its client can ask for it at once."""


class Tracker(Protocol):
    """Follows jobs."""

    async def track(self, route: RouteConfig, identity: Identity, body: bytes) -> None:
        """Follow the job that the answer ``body`` names. Never raises."""


class TrackedAnswer:
    """An :class:`~app.http.cache.flight.Answer` whose whole body is also handed to ``tracker``, before its last bytes
    are given on: the client that then has them may watch the job at once.
    """

    def __init__(self, answer: Answer, tracker: Tracker, route: RouteConfig, identity: Identity) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.complete = answer.complete
        self._answer = answer
        self._tracker = tracker
        self._route = route
        self._identity = identity
        self._body: bytearray | None = bytearray() if 200 <= answer.status < 300 else None

    async def read(self) -> bytes:
        data = await self._answer.read()
        if self._body is not None:
            self._body += data
            if len(self._body) > _MOST:
                self._body = None
        self.complete = self._answer.complete
        if self.complete and self._body is not None:
            body, self._body = bytes(self._body), None
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._tracker.track(self._route, self._identity, body)
            except TimeoutError:
                _log.warning("a job is not followed", route=self._route.path, cause="timeout")
        return data

    def abort(self) -> None:
        self._answer.abort()
