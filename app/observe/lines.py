"""Lines that are written beside the event loop: a thread takes them, so that a slow reader of logs slows nobody.

What waits is bounded in bytes; when nobody takes it, the newest lines are dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

__all__ = ["Lines", "write_to_stderr"]

_DELAY = 0.1
"""Seconds that a line may wait for others."""
_LIMIT = 4 * 1024 * 1024
"""Bytes that may wait."""
_CLOSE = 2.0
"""Seconds that the reader has at the end."""


def write_to_stderr(block: bytes) -> None:
    """Write where the log goes, whole: the two share one lock."""
    stream: Any = sys.stderr
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(block.decode("utf-8", "replace"))
    else:
        buffer.write(block)
    stream.flush()


class Lines:
    """``write`` gets several at once, in a thread. ``limit`` is in bytes. Close it at the end."""

    def __init__(self, write: Callable[[bytes], Any] = write_to_stderr, limit: int = _LIMIT) -> None:
        self._write = write
        self._limit = limit
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._blocks: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def add(self, line: bytes) -> None:
        """Take a line, without its end. Call it from the event loop."""
        if self._waiting + len(line) > self._limit:
            self.dropped += 1
            return
        self._waiting += len(line) + 1
        self._gathered.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._hand_over)

    def close(self) -> None:
        """Write what waits, as far as it is taken in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._hand_over()
        if self._thread is not None:
            self._blocks.put(None)
            self._thread.join(_CLOSE)
            self._thread = None

    def _hand_over(self) -> None:
        self._timer = None
        gathered, self._gathered = self._gathered, []
        gathered.append(b"")
        self._blocks.put(b"\n".join(gathered))
        if self._thread is None:
            self._thread = Thread(target=self._run, name="lines of the log", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            with contextlib.suppress(OSError, ValueError):  # The log's reader is gone, and nobody is left to tell.
                self._write(block)
            self._waiting -= len(block)  # Between two threads a little may get lost; it bounds, and is no account.
