"""One request of a topic as an ASGI application sees it, and its answer on the way back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from services.topics.producer import Producer

__all__ = ["Exchange"]

_PATIENCE = 30.0
"""Seconds that an answer waits for a broker that is away."""
_AGAIN = 0.5
_log = logging.getLogger(__name__)


class Exchange:
    """Run it once. Raises ``ConnectionError`` when the broker did not take the answer."""

    def __init__(self, producer: Producer, known: Mapping[str, bytes], body: bytes) -> None:
        """``known`` are the message's headers, with correlation id and reply topic."""
        self._producer, self._known, self._body = producer, known, body
        self._sequence = 0
        self._start: Mapping[str, Any] = {}
        self._read = False
        self._ended = False
        self._left = asyncio.Event()

    @property
    def left(self) -> bool:
        """Whether its client has gone."""
        return self._left.is_set()

    def leave(self) -> None:
        """Its client has gone: the application is told, and nothing is written any more."""
        self._left.set()

    async def run(self, app: Any) -> None:
        try:
            await app(self._scope(), self._receive, self._send)
        except ConnectionError:
            raise
        except Exception:
            _log.exception("the application failed")
        if not self._ended and not self.left:
            if not self._start:
                self._start = {"status": 500, "headers": []}
            await self._write(b"", b"abort" if self._sequence else b"true")

    def _scope(self) -> dict[str, Any]:
        target = self._known.get("tidegate_path", b"/")
        path, _, query = target.partition(b"?")
        headers = [
            (name.removeprefix("http_").encode(), value)
            for name, value in self._known.items()
            if name.startswith("http_") and name not in ("http_content-length", "http_x-correlation-id")
        ]
        headers += [(b"content-length", b"%d" % len(self._body))]
        headers += [(b"x-correlation-id", self._known["kafka_correlationId"])]
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": self._known.get("tidegate_method", b"GET").decode(), "scheme": "http",
            "path": unquote(path.decode("latin-1")), "raw_path": path, "query_string": query, "root_path": "",
            "headers": headers, "client": None, "server": ("kafka", None), "state": {},
        }  # fmt: skip

    async def _receive(self) -> dict[str, Any]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self.left:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if body or not more:
            await self._write(body, b"false" if more else b"true")
        self._ended = not more

    async def _write(self, value: bytes, final: bytes) -> None:
        correlation = self._known["kafka_correlationId"]
        headers = [("kafka_correlationId", correlation)]
        if self._sequence or final != b"true":
            headers += [("tidegate_seq", b"%d" % self._sequence), ("tidegate_final", final)]
        if self._sequence == 0:
            headers.append(("tidegate_status", b"%d" % self._start["status"]))
            headers += [("http_" + name.decode(), value) for name, value in self._start["headers"]]
        self._sequence += 1
        told = self._known.get("kafka_replyPartition")
        partition = None if told is None else int.from_bytes(told, "big")
        topic = self._known["kafka_replyTopic"].decode()
        # Whoever asked waits through an outage, too; that it may come twice he knows by its number.
        ends = time.monotonic() + _PATIENCE
        while not await self._producer.send(topic, correlation, value, headers, partition):
            if self.left or time.monotonic() >= ends:
                raise ConnectionError("the answer was not taken")
            await asyncio.sleep(_AGAIN)
