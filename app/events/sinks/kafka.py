"""Events as messages of a topic, keyed by user. Needs the extra ``tidegate[kafka]``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import orjson

from app.events.encoding import Encode
from app.events.event import AnalyticsEvent
from app.events.port import DELIVERED, Delivery
from app.events.sinks.kafka_writer import KafkaWriter, Line

__all__ = ["KafkaSink", "line_of"]

_NO_TOPIC = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_TOPIC = 249


def line_of(event: AnalyticsEvent, topic: str, encode: Encode) -> Line:
    """Return the event as a message; ``topic`` may hold ``{service}``, ``{kind}`` and ``{status}``."""
    for name in ("service", "kind", "status"):
        topic = topic.replace(f"{{{name}}}", _NO_TOPIC.sub("_", getattr(event, name)))
    key = (event.user_id or "").encode("utf-8", "replace")
    return Line(topic[:_LONGEST_TOPIC], key, orjson.dumps(encode(event)), event.id.encode())


class KafkaSink:
    """A :class:`~app.events.port.Sink` that keeps nothing: what a broker does not take waits in the courier's queue."""

    def __init__(self, writer: KafkaWriter, topic: str, encode: Encode) -> None:
        self._writer, self._topic, self._encode = writer, topic, encode

    async def start(self) -> None:
        self._writer.start()

    async def deliver(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        left, why = list(events), ""
        while left and not why:  # A batch of each partition at a time.
            lines = [line_of(event, self._topic, self._encode) for event in left]
            done, why = await self._writer.write(lines)
            left = [event for index, event in enumerate(left) if index not in done]
        return Delivery(left=left, why=why) if left else DELIVERED

    def figures(self) -> Mapping[str, int]:
        return {"up": int(self._writer.connected)}

    async def close(self) -> None:
        await self._writer.close()
