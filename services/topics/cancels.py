"""Word of clients that left: the gateway writes their requests' correlation ids to a topic.

Every process of a service reads the whole of it, without a group, for any of them may have the request. What was
written before the process began is of requests that it has not got, or will find too old by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from services.topics.making import make_topics
from services.topics.producer import FAILURES

__all__ = ["Cancels"]

_AGAIN = 1.0
_log = logging.getLogger(__name__)


class Cancels:
    """Run :meth:`run` as a task; ``on_left`` gets each correlation id."""

    def __init__(
        self, servers: Sequence[str], topic: str, partitions: int, fetch_wait: float, on_left: Callable[[bytes], None]
    ) -> None:
        self._servers, self._topic, self._partitions = list(servers), topic, partitions
        self._wait_ms = max(1, round(fetch_wait * 1000))
        self._on_left = on_left

    async def run(self) -> None:
        """Read until cancelled, whatever becomes of the broker."""
        while True:
            # A task of its own: some of aiokafka's calls end as if they were cancelled when a connection breaks.
            life = asyncio.get_running_loop().create_task(self._read())
            try:
                await asyncio.wait({life})
            finally:
                life.cancel()
            if not life.cancelled() and (error := life.exception()) is not None:
                _log.error("word of clients that left can't be read: %r", error)
            await asyncio.sleep(_AGAIN)

    async def _read(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            self._topic, bootstrap_servers=self._servers, group_id=None, enable_auto_commit=False,
            auto_offset_reset="latest", fetch_max_wait_ms=self._wait_ms,
        )  # fmt: skip
        try:
            if self._partitions:
                await make_topics(self._servers, [self._topic], self._partitions)
            await consumer.start()
            async for message in consumer:
                if message.value:
                    self._on_left(message.value)
        except FAILURES as error:
            _log.warning("word of clients that left can't be read: %s", type(error).__name__)
        finally:
            with contextlib.suppress(*FAILURES):
                await consumer.stop()
