"""Events to deliver, and a service that takes them over a real socket and does what a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from app.composition.events import UpstreamPost
from app.config import UpstreamConfig
from app.events.event import AnalyticsEvent
from app.http.transport import HttpTransport
from tests.http.support import RawServer, raw_server, read_request

__all__ = ["Receiver", "event", "events", "posting", "receiver"]


def event(number: int = 1, **changes: Any) -> AnalyticsEvent:
    values: dict[str, Any] = {
        "id": f"e{number:06}", "kind": "call", "service": "llm_chat", "status": "success",
        "timestamp": 1_800_000_000.125 + number, "latency_ms": 12.5, "status_code": 200, "error_code": None,
        "user_id": "42", "company_id": "7", "route": "/chat", "upstream": "chat", "model": None,
        "prompt_tokens": None, "completion_tokens": None, "tokens_source": None, "request_id": f"r{number}",
        "generation_id": None,
    }  # fmt: skip
    return AnalyticsEvent(**(values | changes))


def events(count: int, first: int = 1, **changes: Any) -> list[AnalyticsEvent]:
    return [event(number, **changes) for number in range(first, first + count)]


@dataclass
class Receiver:
    """What a test knows of the service. ``behave`` gives the answer to the n-th request (from 1) with its body."""

    behave: Callable[[int, Any], tuple[int, bytes] | None]
    taken: list[dict[str, Any]] = field(default_factory=list)
    """Events of requests that were answered 2xx, in the order of their arrival."""
    heads: list[str] = field(default_factory=list)
    hang: asyncio.Event | None = None
    """While there is one that is not set, nothing is answered."""
    server: RawServer | None = None

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.taken]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_request(reader)
            if head.startswith(b"get "):  # a probe of its health
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                continue
            self.heads.append(head.decode())
            value = json.loads(body)
            if self.hang is not None:
                await self.hang.wait()
            answer = self.behave(len(self.heads), value)
            if answer is None:
                return  # dies without a word
            status, fields = answer
            if 200 <= status < 300:
                self.taken += value.get("events", [value])
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n%b\r\n{}" % (status, fields))
            await writer.drain()


@contextlib.asynccontextmanager
async def receiver(
    behave: Callable[[int, Any], tuple[int, bytes] | None] = lambda *_: (202, b""),
) -> AsyncIterator[Receiver]:
    service = Receiver(behave)
    async with raw_server(service.handle) as server:
        service.server = server
        yield service


@contextlib.asynccontextmanager
async def posting(url: str, timeout: float = 5.0, **upstream: Any) -> AsyncIterator[UpstreamPost]:
    transport = HttpTransport({"analytics": UpstreamConfig(targets=(url,), **upstream)})
    try:
        yield UpstreamPost(transport, "analytics", timeout)
    finally:
        await transport.close()
