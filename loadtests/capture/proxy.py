"""A recording proxy in front of any WebSocket server: it passes on what comes, and reads along.

The same page's calls and server-sent events may come through it, too. It takes ``permessage-deflate`` out of handshakes
and encodings out of requests, so that what passes can be read, and asks for one call a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests.capture.recording import Direction, Recording
from loadtests.capture.tap import FrameTap, HttpTap, close_of
from loadtests.replay.opening import Address

__all__ = ["RecordingProxy"]

_HEAD = 64 * 1024
_PIECE = 64 * 1024
_PATIENCE = 30.0
"""Seconds that a head may take, and a connection to the target."""
_FLUSH = 1.0
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TAKEN_OUT = {"sec-websocket-extensions", "accept-encoding", "connection", "proxy-connection", "host"}
_KINDS = ("application/json", "application/problem+json", "application/x-ndjson", "text/event-stream")


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return next((value for each, value in self.headers if each.lower() == name), "")

    @property
    def upgrades(self) -> bool:
        return self.get("upgrade").lower() == "websocket"


class RecordingProxy:
    """``url_match``: sockets of other URLs are passed on, and not recorded."""

    def __init__(self, address: Address, recording: Recording, url_match: str = "") -> None:
        self._address = address
        self._recording = recording
        self._url_match = url_match
        self._ids = itertools.count(1)
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, host: str, port: int, ready: Callable[[int], None]) -> None:
        """Pass on and record until SIGINT or SIGTERM; then all that is open ends. Raises :exc:`OSError`."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, host, port, limit=_HEAD)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        ready(server.sockets[0].getsockname()[1])
        while not stop.is_set():
            self._recording.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _FLUSH)
        server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._open.add(task)
        try:
            await self._connection(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError):
            pass  # one of the two has gone, or spoke no HTTP: the other one sees it close
        except asyncio.CancelledError:
            writer.transport.abort()  # asyncio's callback would make noise of it
        finally:
            self._open.discard(task)
            writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_PATIENCE):
            head = _read_head(await reader.readuntil(b"\r\n\r\n"))
            try:
                theirs = await self._dial()
            except OSError:
                writer.write(_BAD_GATEWAY)
                raise
        try:
            theirs[1].write(self._head(head))
            if head.upgrades:
                await self._socket(head, reader, writer, *theirs)
            else:
                await self._call(head, reader, writer, *theirs)
        finally:
            theirs[1].transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._address
        context: ssl.SSLContext | None = address.tls
        name = address.host if context is not None else None
        return await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=name, limit=_HEAD)

    def _head(self, head: _Head) -> bytes:
        """Return a request's head as the target gets it."""
        ours, theirs = head.get("host"), self._address.authority
        kept = [
            (name, value.replace(f"//{ours}", f"//{theirs}") if name.lower() in {"origin", "referer"} else value)
            for name, value in head.headers if name.lower() not in _TAKEN_OUT
        ]  # fmt: skip
        kept += [
            ("Host", theirs),
            ("Connection", "Upgrade" if head.upgrades else "close"),
            ("Accept-Encoding", "identity"),
        ]
        lines = [f"{head.method} {self._target(head)} {head.version}", *(f"{name}: {value}" for name, value in kept)]
        return "\r\n".join((*lines, "\r\n")).encode("latin-1")

    def _target(self, head: _Head) -> str:
        return self._address.target if head.target == "/" and head.upgrades else head.target

    def _url(self, head: _Head, scheme: str) -> str:
        return f"{scheme}{'s' if self._address.tls is not None else ''}://{self._address.authority}{self._target(head)}"

    async def _socket(
        self,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        theirs: asyncio.StreamReader,
        to: asyncio.StreamWriter,
    ) -> None:
        answer = await theirs.readuntil(b"\r\n\r\n")
        writer.write(answer)
        url = self._url(head, "ws")
        if not answer.startswith(b"HTTP/1.1 101") or self._url_match not in url:
            await _both(_pump(reader, to), _pump(theirs, writer))
            return
        recording, offered = self._recording, head.get("sec-websocket-protocol")
        number = recording.opened(url, [each.strip() for each in offered.split(",") if each.strip()])
        ended: list[tuple[int, str]] = []

        def tap(direction: Direction) -> FrameTap:
            def message(opcode: int, payload: bytes) -> None:
                if opcode == 8:
                    ended.append(close_of(payload))
                else:
                    recording.message(number, direction, opcode, payload)

            return FrameTap(message)

        try:
            await _both(_pump(reader, to, tap("send").feed), _pump(theirs, writer, tap("receive").feed))
        finally:
            recording.closed(number, *(ended[0] if ended else (1006, "")))

    async def _call(
        self,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        theirs: asyncio.StreamReader,
        to: asyncio.StreamWriter,
    ) -> None:
        recording, began = self._recording, self._recording.now()
        asked, answered = HttpTap(answer=False), HttpTap(answer=True)
        asked.feed(self._head(head))
        upwards = asyncio.get_running_loop().create_task(_pump(reader, to, asked.feed))
        try:
            await _pump(theirs, writer, answered.feed)
        finally:
            upwards.cancel()
            await asyncio.gather(upwards, return_exceptions=True)
            answered.end()
            kind = answered.headers.get("content-type", "")
            if head.method not in {"OPTIONS", "HEAD", "CONNECT"} and (head.method != "GET" or kind.startswith(_KINDS)):
                identity = f"call-{next(self._ids)}"
                headers = {name.lower(): value for name, value in head.headers if name.lower() not in _TAKEN_OUT}
                recording.request(began, identity, head.method, self._url(head, "http"), headers, bytes(asked.body))
                body = bytes(answered.body) if kind.startswith(_KINDS) else b""
                recording.response(identity, answered.status, {"content-type": kind}, body)


def _read_head(data: bytes) -> _Head:
    """Read a request's head. Raises :exc:`ValueError`."""
    first, *lines = data.decode("latin-1").split("\r\n")[:-2]
    method, target, version = first.split(" ")
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return _Head(method, target, version, headers)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tap: Callable[[bytes], None] | None = None
) -> None:
    """Pass on until the end of one direction."""
    while data := await reader.read(_PIECE):
        writer.write(data)
        if tap is not None:
            tap(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _both(*pumps: Coroutine[Any, Any, None]) -> None:
    """Wait until both directions have ended, or one is broken."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(each) for each in pumps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
