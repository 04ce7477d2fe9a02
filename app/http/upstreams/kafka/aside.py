"""What is written beside requests: word of clients that left, and answers that nobody can understand."""

from __future__ import annotations

import asyncio
from time import monotonic

import structlog

from app.config import KafkaUpstreamConfig
from app.errors import UpstreamError
from app.http.upstreams.kafka.answer import Counts
from app.http.upstreams.kafka.link import Link, Message
from app.http.upstreams.kafka.messages import CORRELATION
from app.observe.tasks import TaskSet

__all__ = ["Aside"]

_log = structlog.get_logger(__name__)
_TELL_EVERY = 60.0
"""Seconds between two lines about poison."""
_MOST_PARKING = 100
"""Messages on their way to the dead letter topic at once; past it they are counted only."""
_MOST_CANCELS = 10_000
"""The same of the topic for those who left."""


class Aside:
    """Of one upstream. Nothing waits for it, and what cannot be written is let go."""

    def __init__(
        self, name: str, config: KafkaUpstreamConfig, link: Link, counts: Counts, tasks: TaskSet, timeout: float
    ) -> None:
        """``timeout`` (seconds) is for the broker's word that it has a message."""
        self._name, self._config, self._link, self._counts = name, config, link, counts
        self._tasks, self._timeout = tasks, timeout
        self._told_poison = float("-inf")
        self._parking = self._cancelling = 0

    def left(self, correlation: bytes) -> None:
        """Tell services that nobody wants this answer. Those who miss it write what is dropped as late."""
        if self._config.cancel_topic and self._link.connected and self._cancelling < _MOST_CANCELS:
            self._cancelling += 1
            self._tasks.start(self._tell_left(correlation), "word of a client that left")

    def poisoned(self, message: Message, why: str) -> None:
        """Count an answer that cannot be understood, tell of it, and park it where that is wanted."""
        self._counts.poison += 1
        if monotonic() - self._told_poison >= _TELL_EVERY:
            self._told_poison = monotonic()
            _log.warning("an answer over kafka cannot be understood", upstream=self._name, why=why,
                         partition=message.partition, offset=message.offset, all=self._counts.poison)  # fmt: skip
        if self._config.dead_letter_topic and self._parking < _MOST_PARKING:
            self._parking += 1
            self._tasks.start(self._park(message, why), "dead letter")

    async def _tell_left(self, correlation: bytes) -> None:
        try:
            await self._write(self._config.cancel_topic, correlation, correlation, [(CORRELATION, correlation)])
        finally:
            self._cancelling -= 1

    async def _park(self, message: Message, why: str) -> None:
        """Write it with the place that it was found at as its key: every replica that reads it writes the same."""
        place = f"{message.topic}-{message.partition}-{message.offset}".encode()
        headers = [*message.headers, ("tidegate_reason", why.encode())]
        try:
            if await self._write(self._config.dead_letter_topic, message.value or b"", place, headers):
                self._counts.parked += 1
        finally:
            self._parking -= 1

    async def _write(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> bool:
        """Return whether the broker has it."""
        try:
            written = await self._link.send(topic, value, key, headers)
        except UpstreamError:
            return False
        await asyncio.wait({written}, timeout=self._timeout)
        return written.done() and written.exception() is None
