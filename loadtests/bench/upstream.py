"""A model server that costs next to nothing: OpenAI's chat completions, with the time of sending in every token.

A request that asks for a stream gets ``--tokens`` chunks, ``--rate`` of them a second, whose content is
``~T<monotonic nanoseconds> word``; one that does not gets a whole completion, and a GET a small JSON answer.
All streams have the same pace, so the next one due is always the one that waited longest: one queue and one timer
serve them all. A request with ``"what":"progress"`` gets JSON lines of progress at that pace instead, one with
``"what":"preview"`` those of 256 KB previews, one in place of ten, and for an eighth of the time.

Run: python -m loadtests.bench.upstream --port 9100 --tokens 100 --rate 50
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

import uvloop

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_CHUNK = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench-1","choices":['
_BEFORE = _CHUNK + b'{"index":0,"delta":{"content":"~T'
_AFTER = b' word"},"finish_reason":null}]}\n\n'
_LAST = _CHUNK + b'{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
_SMALL = (
    b'{"object":"list","data":[{"id":"bench-1","object":"model","created":1700000000,"owned_by":"bench"}],"ok":true}'
)
_SMALL_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_SMALL),
    _SMALL,
)
_WHOLE = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench-1","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello to you"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6},"ok":true}'
)
_WHOLE_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_WHOLE),
    _WHOLE,
)
_DATA = base64.b64encode(bytes(range(256)) * 1024)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LARGE = 64 * 1024
_TURN = 0.001
"""Seconds between two looks at the queue. No less: uvloop rounds to milliseconds, and at none the loop would spin."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a stream is made of; the time of sending stands between ``before`` and ``after``."""

    before: bytes
    after: bytes
    last: bytes
    every: int = 1
    """Of so many due, one is sent."""
    part: int = 1
    """By so much its stream is shorter than others."""


_TOKENS = Form(_BEFORE, _AFTER, _LAST)
_PROGRESS = Form(b'{"progress":{"stage":"~T', b' painting","step":1,"total":8}}\n', b'{"done":true}\n')
_PREVIEW = b' painting"},"preview":"%b"}\n' % _DATA
_PREVIEWS = Form(b'{"progress":{"stage":"~T', _PREVIEW, b'{"done":true}\n', every=10, part=8)


class Pace:
    """Sends the tokens of all streams."""

    def __init__(self, tokens: int, rate: float, delay: float) -> None:
        self._tokens = tokens
        self._interval = 1 / rate
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[float, int, Form, asyncio.Transport]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport, form: Form) -> None:
        """Begin one stream: its first token comes after the delay, which is the same for all."""
        transport.write(_STREAM_HEAD)
        if self._delay:
            self._loop.call_later(self._delay, self._first, transport, form)
        else:
            self._first(transport, form)

    def _first(self, transport: asyncio.Transport, form: Form) -> None:
        self._send(transport, form)
        self._due.append((self._loop.time() + self._interval, self._tokens // form.part - 1, form, transport))
        if self._timer is None:
            self._timer = self._loop.call_later(_TURN, self._turn)

    def _turn(self) -> None:
        now = self._loop.time()
        due = self._due
        while due and due[0][0] <= now:
            when, left, form, transport = due.popleft()
            if transport.is_closing():
                continue
            if left:
                if left % form.every == 0:
                    self._send(transport, form)
                due.append((when + self._interval, left - 1, form, transport))
            else:
                transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(form.last), form.last))
        self._timer = None
        if due:
            self._timer = self._loop.call_later(max(_TURN, due[0][0] - now), self._turn)

    def _send(self, transport: asyncio.Transport, form: Form) -> None:
        if len(form.after) < _LARGE:
            event = b"%b%d%b" % (form.before, time.monotonic_ns(), form.after)
            transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        else:  # Those who wait for their tokens wait for no copy of it.
            begin = b"%b%d" % (form.before, time.monotonic_ns())
            transport.writelines([b"%x\r\n%b" % (len(begin) + len(form.after), begin), form.after, b"\r\n"])


class Connection(asyncio.Protocol):
    """One client connection; requests come one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        request = self._received + data if self._received else data
        end = request.find(b"\r\n\r\n")
        if end >= 0 and not request.startswith(b"GET "):
            length = _LENGTH.search(request, 0, end)
            if length is not None and len(request) < end + 4 + int(length[1]):
                end = -1
        if end < 0:
            self._received = request
            return
        self._received = b""
        if request.find(b'"what":"progress"', end) > 0:
            self._pace.start(self._transport, _PROGRESS)
        elif request.find(b'"what":"preview"', end) > 0:
            self._pace.start(self._transport, _PREVIEWS)
        elif request.find(b'"stream":true', end) > 0:
            self._pace.start(self._transport, _TOKENS)
        else:
            self._transport.write(_SMALL_ANSWER if request.startswith(b"GET ") else _WHOLE_ANSWER)


async def _serve(port: int, tokens: int, rate: float, delay: float) -> None:
    pace = Pace(tokens, rate, delay)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pace), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A model server that costs next to nothing.")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--tokens", type=int, default=100, help="tokens of each stream")
    parser.add_argument("--rate", type=float, default=50.0, help="tokens a second of each stream")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first token")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.tokens, options.rate, options.delay))


if __name__ == "__main__":
    main()
