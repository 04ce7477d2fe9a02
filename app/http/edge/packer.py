"""Compressing an answer while it is sent.

Each piece is flushed, so that nothing waits in a compressor. Small pieces are compressed where they are; larger ones in
a thread, for zlib and Brotli let the loop run meanwhile. How many answers are compressed at once is bounded, and with
it what that costs in memory.
"""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import brotli
from starlette.types import Message, Send

from app.config import CompressionConfig
from app.http.edge.encodings import packed_headers
from app.http.edge.fields import Headers

__all__ = ["Packer", "Packers"]

_IN_PLACE = 8 * 1024
"""Bytes: about 0.1 ms of work."""
_THREADS = 2
_GZIP = 16
"""Added to the window's size this asks zlib for gzip's format."""
_BROTLI_WINDOW = 18
"""Base-2 logarithm of Brotli's window: 256 KiB, for its own 4 MiB would be its memory for each answer."""


class _Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class _Gzip:
    def __init__(self, level: int) -> None:
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS + _GZIP)
        self.compress = self._zlib.compress

    def flush(self) -> bytes:
        return self._zlib.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._zlib.flush()


class _Brotli:
    def __init__(self, quality: int) -> None:
        made = brotli.Compressor(quality=quality, lgwin=_BROTLI_WINDOW)
        self.compress, self.flush, self.finish = made.process, made.flush, made.finish


class Packers:
    """The compressors of one process. Close it at the end."""

    def __init__(self, config: CompressionConfig) -> None:
        self._config = config
        self.busy = 0
        """Answers that are being compressed."""
        self._threads = ThreadPoolExecutor(_THREADS, "compression")

    @property
    def free(self) -> bool:
        """Whether one more answer may be compressed now."""
        return self.busy < self._config.max_concurrent

    def pack(self, encoding: bytes, send: Send) -> Packer:
        """Begin to compress an answer that goes out by ``send``. Its end must be told by :meth:`Packer.close`."""
        self.busy += 1
        config = self._config
        compressor = _Brotli(config.brotli_quality) if encoding == b"br" else _Gzip(config.gzip_level)
        return Packer(self, compressor, encoding, send)

    async def run(self, compressor: _Compressor, data: bytes, *, last: bool) -> bytes:
        """Return what ``data`` adds to the compressed answer."""
        if len(data) <= _IN_PLACE:
            return _step(compressor, data, last=last)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: _step(compressor, data, last=last))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Packer:
    """One answer. A body that comes in one piece is sent with its length."""

    def __init__(self, packers: Packers, compressor: _Compressor, encoding: bytes, send: Send) -> None:
        self._packers = packers
        self._compressor: _Compressor | None = compressor
        self._encoding = encoding
        self._send = send
        self._start: Message | None = None

    async def start(self, message: Message, headers: Headers) -> None:
        """Send the answer's head; keep it back until the body's first piece where that must be there already."""
        message["headers"] = packed_headers(headers, self._encoding)
        if any(name == b"content-length" for name, _ in headers):
            self._start = message
        else:
            await self._send(message)

    async def body(self, message: Message) -> None:
        more = message.get("more_body", False)
        if self._compressor is None:
            await self._send(message)
            return
        data = await self._packers.run(self._compressor, message.get("body", b""), last=not more)
        if self._start is not None:
            start, self._start = self._start, None
            if not more:
                start["headers"].append((b"content-length", b"%d" % len(data)))
            await self._send(start)
        if data or not more:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def close(self) -> None:
        """The answer is over, or broke off. Idempotent."""
        if self._compressor is not None:
            self._compressor = None
            self._packers.busy -= 1


def _step(compressor: _Compressor, data: bytes, *, last: bool) -> bytes:
    packed = compressor.compress(data) if data else b""
    return packed + (compressor.finish() if last else compressor.flush() if data else b"")
