"""The floor: the smallest Python servers that do the same work, with no log, no checks and no recovery.

Over a WebSocket a message that holds "chat" asks the upstream for a stream, whose tokens are parsed, framed and
written: to its own socket, or at path ``/all`` to every socket there, built once and joined per loop turn. At path
``/everybody`` each message goes to every socket there, in the same way. HTTP requests are passed on to the upstream
and the answers streamed back.

Run: python -m loadtests.bench.floor --port 8001 --upstream 9100
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
import orjson
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_QUESTION = b'{"model":"bench","messages":[{"role":"user","content":"hi"}],"stream":true}'
_ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: upstream\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b"
)
_DROPPED = {b"host", b"connection", b"transfer-encoding", b"keep-alive"}


class Protocol(WebSocketsSansIOProtocol):
    """Lets the application have the transport."""

    async def run_asgi(self) -> None:
        extensions: Any = self.scope["extensions"]
        extensions["transport"] = self.transport
        await super().run_asgi()


class Upstream(asyncio.Protocol):
    """One connection to the upstream; the body's pieces go to ``receive``, its end is an empty one."""

    def __init__(self) -> None:
        self.head: asyncio.Future[None]
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.receive: Callable[[bytes], None]
        self._transport: asyncio.Transport
        self._parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes, receive: Callable[[bytes], None]) -> None:
        self.headers, self.receive = [], receive
        self.head = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def abort(self) -> None:
        self._transport.abort()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.head.set_result(None)

    def on_body(self, body: bytes) -> None:
        self.receive(body)

    def on_message_complete(self) -> None:
        self.receive(b"")


def frame(payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + payload


class Generation:
    """Turns one upstream stream into frames."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._offset = 0
        self._rest = b""

    def receive(self, data: bytes) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        frames = []
        for event in events:
            if event == b"data: [DONE]":
                continue
            text = orjson.loads(event[6:])["choices"][0]["delta"].get("content")
            if text is not None:
                self._offset += 1
                delta = {"type": "delta", "text": text}
                message = {"type": "event", "generation_id": "gen_1", "offset": self._offset, "event": delta}
                frames.append(frame(orjson.dumps(message)))
        if frames:
            self._write(b"".join(frames))


class Floor:
    """The ASGI application."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._idle: list[Upstream] = []
        self._everybody: set[asyncio.Transport] = set()
        self._pending: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self._proxy(scope, receive, send)
        else:
            await self._socket(scope, receive, send)

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        transport = scope["extensions"]["transport"]
        write = transport.write
        if scope["path"] in {"/all", "/everybody"}:
            self._everybody.add(transport)
            write = self._write_all
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if scope["path"] == "/everybody":
                    write(frame(message["text"].encode()))
                elif "chat" in (message.get("text") or ""):
                    upstream = await self._connect()
                    upstream.ask(_ASK % (len(_QUESTION), _QUESTION), Generation(write).receive)
        finally:
            self._everybody.discard(transport)

    def _write_all(self, data: bytes) -> None:
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(data)

    def _flush(self) -> None:
        block = b"".join(self._pending)
        self._pending.clear()
        for transport in self._everybody:
            transport.write(block)

    async def _proxy(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        if scope["method"] != "GET":
            message = await receive()
            body = message["body"]
            while message["more_body"]:
                message = await receive()
                body += message["body"]
        lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in scope["headers"] if name not in _DROPPED])
        head = b"%b %b HTTP/1.1\r\nhost: upstream\r\n%b\r\n" % (scope["method"].encode(), scope["raw_path"], lines)
        upstream = self._idle.pop() if self._idle else await self._connect()
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        upstream.ask(head + body, pieces.put_nowait)
        await upstream.head
        kept = [(name.lower(), value) for name, value in upstream.headers if name.lower() not in _DROPPED]
        await send({"type": "http.response.start", "status": upstream.status, "headers": kept})
        while data := await pieces.get():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        self._idle.append(upstream)
        await send({"type": "http.response.body", "body": b""})

    async def _connect(self) -> Upstream:
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", self._upstream)
        return upstream


def main() -> None:
    parser = argparse.ArgumentParser(description="The smallest servers that do the gateway's work.")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--upstream", type=int, default=9100, help="the upstream's port")
    options = parser.parse_args()
    uvicorn.run(
        Floor(options.upstream),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws=Protocol,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
