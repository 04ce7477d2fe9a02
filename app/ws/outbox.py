"""Where a socket's messages wait while it can't take them at once, or is to get them in fewer frames.

A socket has one only while it is *paused* (its transport's buffer is full) or *rolls up* (its client asked for fewer
frames); all others are written to directly. While neither paused nor within a rollup's time nothing waits here, so
what is written directly never overtakes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from app.generations.channels import GENERATION_PREFIX
from app.streams.listener import Encoder
from app.streams.merge import MergeRule
from app.streams.publication import Batch
from app.streams.sendqueue import SendQueue

__all__ = ["Outbox", "Writer"]


class Writer(Protocol):
    """A connection; it may call :meth:`Outbox.pause` while it is written to."""

    def write(self, block: bytes) -> None: ...


class Outbox:
    """``limit`` is in bytes; ``on_overflow`` is called from the event loop when a paused socket has more waiting."""

    __slots__ = ("_encoder", "_limit", "_on_overflow", "_queue", "_rollup", "_timer", "_writer", "paused")

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        limit: int,
        rule: MergeRule,
        on_overflow: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._limit = limit
        self._queue = SendQueue(limit, rule, _merges)
        self._on_overflow = on_overflow
        self._rollup = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.paused = False

    @property
    def needed(self) -> bool:
        """Whether the socket is paused or rolls up; else nothing waits, and it can be written to directly."""
        return self.paused or self._rollup > 0

    @property
    def congested(self) -> bool:
        """Whether so much waits for a paused socket that its commands had better wait, too."""
        return self.paused and self._queue.size > self._limit

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        """Take messages; ``block`` is ``batches`` encoded."""
        if not self.paused and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._rollup, self._roll)
            self._writer.write(block)  # The first message after a silence never waits.
        elif not self._queue.push(channel, batches):
            # Not at once: the hub is walking its listeners.
            asyncio.get_running_loop().call_soon(self._overflow)

    def deliver_ready(self, block: bytes) -> None:
        """Take messages that must go out as they are; they wait and count like others."""
        if not self.paused and not self._queue:
            self._writer.write(block)
        elif not self._queue.push_block(block):
            asyncio.get_running_loop().call_soon(self._overflow)

    def send(self, frame: bytes) -> None:
        """Take a frame, which goes out after all that waits."""
        if self.paused or self._queue:
            self._queue.push_frame(frame)
            if not self.paused:
                self.flush()
        else:
            self._writer.write(frame)

    def flush(self) -> None:
        """Write all that waits."""
        if self._queue:
            self._writer.write(self._queue.drain(self._encoder))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """The socket takes bytes again. Writing what waits may pause it anew."""
        self.paused = False
        self.flush()

    def roll_up(self, seconds: float) -> None:
        """Gather messages for ``seconds`` from now on; 0 for not at all."""
        self._rollup = seconds
        if not seconds:
            self._stop_timer()
            if not self.paused:
                self.flush()

    def close(self) -> None:
        """The socket is gone; so goes the outbox."""
        self._stop_timer()

    def _roll(self) -> None:
        self._timer = None
        if self._queue and not self.paused:
            self._timer = asyncio.get_running_loop().call_later(self._rollup, self._roll)
            self.flush()

    def _overflow(self) -> None:
        if not self.paused:
            self.flush()
        elif self._queue.full:
            self._on_overflow()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _merges(channel: str) -> bool:
    """Events of generations merge; what clients wrote to other channels does not, whatever it looks like."""
    return channel.startswith(GENERATION_PREFIX)
