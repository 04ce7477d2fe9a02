"""The server's side of a recording: an upstream that streams the recorded texts at the recorded times.

It speaks OpenAI's chat completions, and JSON lines for images, code and whatever else is no chat. A request is
answered with the recorded answer to the same last message or prompt; one that was never asked gets the recorded
answers in turn. Before each token of a chat stands a mark, ``~T<microseconds since
1970>.<user>~``: who reads it knows how old it is and for whom it was made (``X-User-ID``, which the gateway sets). The
receipts hold all the same, for they are made of what was sent.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, cast
from urllib.parse import quote

import orjson
import uvloop

from loadtests.replay.plan import Plan, Recorded
from loadtests.replay.recorded import prompt_of

__all__ = ["Producer", "serve"]

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_LINES = _HEAD.replace(b"text/event-stream", b"application/x-ndjson")
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_BAD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_USER = re.compile(rb"\r\nx-user-id: *([^\r]*)", re.IGNORECASE)
_LARGEST = 16 * 1024 * 1024
_DONE = b"data: [DONE]\n\n"
_BACKLOG = 4096
_TURNS = 100_000
"""Users' prompts of which it is known how often they were asked."""


class Producer:
    """Which answer is whose. ``speed`` is that of the replay."""

    def __init__(self, plan: Plan, speed: float, *, marks: bool = True) -> None:
        self.speed = speed
        self.marks = marks
        streams = plan.streams.values()
        self._chats = _Shelf([stream for stream in streams if stream.kind == "chat" and stream.tokens])
        self._others = _Shelf([stream for stream in streams if stream.lines])

    def answer_to(self, request: dict[str, Any], user: str, *, chat: bool) -> Recorded | None:
        """Return the recorded generation that a request of ``user`` is answered with; None where none was recorded."""
        return (self._chats if chat else self._others).take(prompt_of(request), user)


class _Shelf:
    """Recorded generations of one sort."""

    def __init__(self, streams: list[Recorded]) -> None:
        self._all = streams
        self._by_prompt: dict[str, list[Recorded]] = {}
        for stream in streams:
            self._by_prompt.setdefault(stream.prompt, []).append(stream)
        self._turns: dict[tuple[str, str], int] = {}

    def take(self, prompt: str, user: str) -> Recorded | None:
        """Return the user's next one that was asked for like that, or else of all."""
        fitting = self._by_prompt.get(prompt, self._all)
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        if len(self._turns) > _TURNS:
            self._turns.clear()
        turn = self._turns.get((user, prompt), 0)
        self._turns[user, prompt] = turn + 1
        return fitting[turn % len(fitting)]


class _Connection(asyncio.Protocol):
    """One connection of the gateway's; requests come one after the other."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        data = self._received = self._received + data
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end + 2)
        size = int(length[1]) if length is not None else 0
        if size > _LARGEST or (end < 0 and len(data) > _LARGEST):
            self._transport.write(_BAD)
            self._transport.close()
        elif end >= 0 and len(data) >= end + 4 + size:
            self._received = b""
            self._answer(data[:end], data[end + 4 : end + 4 + size])

    def _answer(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"POST "):
            self._transport.write(_JSON % (2, b"{}"))
            return
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            self._transport.write(_BAD)
            return
        chat = "messages" in request
        user = _USER.search(head + b"\r\n")
        name = quote(user[1].decode("latin-1"), safe="@:. ") if user is not None else ""
        recorded = self._producer.answer_to(request, name, chat=chat)
        if not chat:
            self._transport.write(_LINES)
            self._tell(recorded.lines if recorded is not None else [], asyncio.get_running_loop().time(), 0)
            return
        tokens = recorded.tokens if recorded is not None else []
        if request.get("stream"):
            self._transport.write(_HEAD)
            self._stream(tokens, name, asyncio.get_running_loop().time(), 0)
            return
        text = "".join(text for _, text, part in tokens if part == "text")
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = orjson.dumps(
            {"id": "c1", "object": "chat.completion", "created": 1, "model": "r", "choices": [message]}
        )
        self._transport.write(_JSON % (len(whole), whole))

    def _stream(self, tokens: list[tuple[float, str, str]], user: str, start: float, place: int) -> None:
        """Send what is due, and come again when the next one is."""
        loop, producer = asyncio.get_running_loop(), self._producer
        now = loop.time()
        while place < len(tokens):
            at, text, part = tokens[place]
            if (due := start + at / producer.speed) > now:
                self._timer = loop.call_at(due, self._stream, tokens, user, start, place)
                return
            mark = f"~T{time.time_ns() // 1000:016d}.{user}~" if producer.marks and part == "text" else ""
            self._chunk({"content" if part == "text" else "reasoning_content": mark + text})
            place += 1
        self._chunk({}, "stop")
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_DONE), _DONE))

    def _tell(self, lines: list[tuple[float, dict[str, Any]]], start: float, place: int) -> None:
        """Send the lines that are due, and come again when the next one is."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while place < len(lines):
            at, line = lines[place]
            if (due := start + at / self._producer.speed) > now:
                self._timer = loop.call_at(due, self._tell, lines, start, place)
                return
            self._line(line)
            place += 1
        self._line({"done": True, "reason": "stop"})
        self._transport.write(b"0\r\n\r\n")

    def _line(self, line: dict[str, Any]) -> None:
        data = orjson.dumps(line) + b"\n"
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> None:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "recording", "choices": choices}
        event = b"data: %b\n\n" % orjson.dumps(value)
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))


def serve(producer: Producer, host: str, port: int) -> None:
    """Serve until the process ends. Raises :exc:`OSError` where the port is taken."""
    uvloop.run(_serve(producer, host, port))


async def _serve(producer: Producer, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(producer), host, port, backlog=_BACKLOG)
    await server.serve_forever()
