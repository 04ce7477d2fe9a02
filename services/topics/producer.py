"""One producer of messages, made anew when its broker was away. It makes the topics that it writes to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.topics.making import make_topics

__all__ = ["FAILURES", "Producer", "quiet"]

FAILURES = (KafkaError, OSError, TimeoutError)
_AGAIN = 1.0
"""Seconds between two tries to reach a broker that is away."""


def quiet() -> None:
    """Have aiokafka say less: it writes several lines for each try to reach a broker that is down."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class Producer:
    """A :class:`~services.topics.outbox.Publisher`. ``timeout`` (seconds) is for the broker's word on one message.

    Topics that are not there are made with so many ``partitions``; with 0 that is left to others.
    """

    def __init__(self, servers: Sequence[str], name: str, timeout: float = 10.0, partitions: int = 0) -> None:
        quiet()
        self._partitions = partitions
        self._made: set[str] = set()
        self._servers, self._name, self._timeout = list(servers), name, timeout
        self._producer: Any = None
        self._lock = asyncio.Lock()
        self._not_before = 0.0

    async def publish(self, topic: str, key: bytes, value: bytes) -> bool:
        return await self.send(topic, key, value)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> bool:
        """Return whether the broker has it."""
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._ready()
                if producer is None:
                    return False
                if self._partitions and topic not in self._made:
                    await make_topics(self._servers, [topic], self._partitions)
                    self._made.add(topic)
                await producer.send_and_wait(topic, value, key, headers=list(headers), partition=partition)
        except FAILURES:
            self._not_before = time.monotonic() + _AGAIN
            return False
        return True

    async def close(self) -> None:
        """Leave the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(self._timeout):
                    await producer.stop()

    async def _ready(self) -> Any:
        async with self._lock:
            if self._producer is None and time.monotonic() >= self._not_before:
                milliseconds = max(1, int(self._timeout * 1000))
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._servers, client_id=self._name, acks="all", request_timeout_ms=milliseconds
                )
                try:
                    await producer.start()
                except BaseException:
                    with contextlib.suppress(*FAILURES):
                        await producer.stop()
                    raise
                self._producer = producer
            return self._producer
