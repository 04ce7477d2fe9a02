"""Events posted to a service, many or one in a request.

``Idempotency-Key`` says which events a request carries: the same ones come under the same key, however often.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import orjson

from app.errors import UpstreamError
from app.events.encoding import encoder
from app.events.event import AnalyticsEvent
from app.events.port import DELIVERED, Delivery

__all__ = ["HttpSink", "Post", "Reply"]

_REFUSALS = frozenset({400, 413, 415, 422})
"""The events themselves are not taken. All other failures may be somebody's to mend, and are tried again."""
_KNOWN_ALREADY = 409


class Reply(NamedTuple):
    """A service's answer. ``retry_after`` is in seconds, None where it says nothing."""

    status: int
    retry_after: float | None


class Post(Protocol):
    """Sends a request to the service; ``app.composition.events`` has one."""

    async def __call__(self, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Reply:
        """Return when the whole answer has come. Raises :exc:`~app.errors.UpstreamError` without one."""


class HttpSink:
    """A :class:`~app.events.port.Sink`."""

    def __init__(
        self,
        post: Post,
        path: str,
        *,
        batch: bool = True,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        concurrency: int = 4,
    ) -> None:
        """``path``, ``batch``, ``fields``, ``headers`` and ``concurrency`` are as :class:`app.config.EventSinkConfig`
        has them."""
        self._post = post
        self._path = path
        self._encode = encoder(fields or {})
        extra = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self._headers = [(b"content-type", b"application/json"), *extra]
        self._batch = batch
        self._concurrency = concurrency

    async def deliver(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        if self._batch:
            body = orjson.dumps({"events": [self._encode(event) for event in events]})
            return await self._send(events, self._path, f"{events[0].id}-{events[-1].id}-{len(events)}", body)
        return await self._one_by_one(events)

    def figures(self) -> Mapping[str, int]:
        return {}

    async def start(self) -> None:
        """There is nothing to begin."""

    async def close(self) -> None:
        """The connections are the transport's."""

    async def _one_by_one(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        """Send ``concurrency`` at a time; after the first failure no more than are on their way."""
        waiting, failed, refusals = deque(events), list[Delivery](), list[Delivery]()

        async def work() -> None:
            while waiting and not failed:
                event = waiting.popleft()
                delivery = await self._send([event], self._path_of(event), event.id, orjson.dumps(self._encode(event)))
                if delivery.left:
                    failed.append(delivery)
                elif delivery.divide:
                    refusals.append(delivery)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(events))):
                group.create_task(work())
        missing = {event.id for delivery in failed for event in delivery.left} | {event.id for event in waiting}
        left = [event for event in events if event.id in missing]
        waits = [delivery.retry_after for delivery in failed if delivery.retry_after is not None]
        why = next((delivery.why for delivery in (*failed, *refusals)), "")
        return Delivery(left, refused=len(refusals), retry_after=max(waits, default=None), why=why)

    async def _send(self, events: Sequence[AnalyticsEvent], path: str, key: str, body: bytes) -> Delivery:
        try:
            reply = await self._post(path, [*self._headers, (b"idempotency-key", key.encode())], body)
        except UpstreamError as error:
            return Delivery(left=events, why=error.code)
        if 200 <= reply.status < 300 or reply.status == _KNOWN_ALREADY:
            return DELIVERED
        if reply.status in _REFUSALS:
            return Delivery(divide=True, why=f"status {reply.status}")
        return Delivery(left=events, retry_after=reply.retry_after, why=f"status {reply.status}")

    def _path_of(self, event: AnalyticsEvent) -> str:
        path = self._path
        for name in ("service", "kind", "status", "id"):
            path = path.replace(f"{{{name}}}", getattr(event, name))
        return path
