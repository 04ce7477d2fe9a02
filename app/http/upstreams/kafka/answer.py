"""One request's answer, as its messages come in, and all answers that are waited for.

Messages may come twice (a service that is not sure whether one arrived sends it again), so what was there before is
dropped. Services that write them without a key spread them over partitions, between which there is no order: one that
comes early is held until those before it are there, or the answer's time is over. A topic has no back-pressure: what
waits for a slow client, or for an earlier message, is bounded, and past the bound the answer is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass

from app.errors import UpstreamBusy, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamTruncated
from app.http.tunnel import Tunnel
from app.http.upstreams.kafka.messages import Fields, Reply

__all__ = ["Counts", "KafkaAnswer", "Outstanding"]

_BODILESS = frozenset({204, 304})
_MOST_EARLY = 256
"""Messages of one answer that are held until those before them come."""
_TOO_SLOW = "The answer came faster than it was taken."


@dataclass(slots=True)
class Counts:
    """Messages of the reply topic since the start."""

    late: int = 0
    """For requests of this replica that had ended."""
    foreign: int = 0
    """For requests of other replicas."""
    repeated: int = 0
    """Had come before."""
    poison: int = 0
    """Could not be understood."""
    parked: int = 0
    """Of those, written to the dead letter topic."""


class KafkaAnswer:
    """Satisfies :class:`app.generations.sources.port.Response`, and what the proxy wants of an answer."""

    __slots__ = ("_chunks", "_early", "_error", "_head_only", "_idle_timeout", "_loop", "_next", "_outstanding",
                 "_size", "_waiter", "complete", "correlation", "headers", "status", "tunnel")  # fmt: skip

    def __init__(self, outstanding: Outstanding, correlation: bytes, *, head_only: bool, idle_timeout: float) -> None:
        self.correlation = correlation
        self.status = 0
        self.headers: Fields = ()
        self.complete = False
        """The last message has come; what of the body was not read yet is kept."""
        self.tunnel: Tunnel | None = None
        """Always: no socket is passed on over topics."""
        self._outstanding = outstanding
        self._head_only = head_only
        self._idle_timeout = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._early: dict[int, Reply] = {}
        """By number: those that came before their time."""
        self._chunks: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    # For the reader.

    async def head(self, patience: float) -> None:
        """Wait for the first message, ``patience`` seconds. Raises :exc:`~app.errors.UpstreamTimeout`, or as failed."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait(patience)

    async def read(self) -> bytes:
        """As :meth:`app.generations.sources.port.Response.read` has it."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._wait(self._idle_timeout)
        chunks, self._chunks = self._chunks, []
        self._weigh(-sum(map(len, chunks)))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def abort(self) -> None:
        """Stop now: tell the service, unless the answer is complete. Idempotent."""
        self._weigh(-self._size)
        self._chunks.clear()
        self._early.clear()
        if not self.complete and self._error is None:
            self.fail(UpstreamTruncated("The answer was aborted."))
            self._outstanding.left(self)

    # For the reply topic.

    def take(self, reply: Reply, counts: Counts) -> None:
        """Take its next message."""
        if reply.sequence < self._next or reply.sequence in self._early:
            counts.repeated += 1
            return
        if reply.sequence > self._next:
            self._hold(reply)
            return
        self._add(reply)
        while self._error is None and not self.complete and (held := self._early.pop(self._next, None)) is not None:
            self._weigh(-len(held.value))
            self._add(held)
        self._wake()

    def _hold(self, reply: Reply) -> None:
        """Keep a message until those before it have come."""
        self._early[reply.sequence] = reply
        self._weigh(len(reply.value))
        if len(self._early) > _MOST_EARLY or self._outstanding.too_much(self._size):
            self.fail(UpstreamTruncated() if self.status else UpstreamInvalid())
            self._outstanding.left(self)

    def _weigh(self, size: int) -> None:
        self._size += size
        self._outstanding.buffered += size

    def _add(self, reply: Reply) -> None:
        """Take the message that is next."""
        self._next += 1
        if not self.status:
            self.status, self.headers = reply.status, reply.headers
        if reply.value and not self._head_only and self.status not in _BODILESS:
            self._chunks.append(reply.value)
            self._weigh(len(reply.value))
        if reply.aborted:
            self.fail(UpstreamTruncated())
        elif reply.last:
            self.complete = True
            self._outstanding.ended(self)
        elif self._outstanding.too_much(self._size):
            self.fail(UpstreamTruncated(_TOO_SLOW))
            self._outstanding.left(self)

    def fail(self, error: UpstreamError) -> None:
        """End it so; what came before can still be read."""
        if not self.complete and self._error is None:
            self._error = error
            self._weigh(-sum(len(reply.value) for reply in self._early.values()))
            self._early.clear()
            self._outstanding.ended(self)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, patience: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(patience, self._overdue, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _overdue(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            error = UpstreamTimeout()
            self._outstanding.left(self)
            self.fail(error)


class Outstanding:
    """The answers that this replica waits for, by correlation id: its prefix says which replica asked."""

    def __init__(self, prefix: bytes, most: int, most_of_one: int, most_of_all: int) -> None:
        """``most`` answers at once; ``most_of_one`` and ``most_of_all`` bytes of them may wait for their readers."""
        self.prefix = prefix
        self.counts = Counts()
        self.buffered = 0
        """Bytes that wait for readers."""
        self.on_left: Callable[[bytes], None] | None = None
        """Told of requests whose answers nobody wants any more."""
        self._most, self._most_of_one, self._most_of_all = most, most_of_one, most_of_all
        self._answers: dict[bytes, KafkaAnswer] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._answers)

    def open(self, *, head_only: bool, idle_timeout: float) -> KafkaAnswer:
        """Return a new answer to wait for. Raises :exc:`~app.errors.UpstreamBusy` when there are too many."""
        if len(self._answers) >= self._most:
            raise UpstreamBusy("Too many requests wait for the service behind the gateway. Try again.", retry_after=1.0)
        self._number += 1
        correlation = self.prefix + b"%x" % self._number
        answer = KafkaAnswer(self, correlation, head_only=head_only, idle_timeout=idle_timeout)
        self._answers[correlation] = answer
        return answer

    def waiting(self, correlation: bytes) -> KafkaAnswer | None:
        """Return who waits for messages of this id; those of nobody are counted."""
        answer = self._answers.get(correlation)
        if answer is None:
            if correlation.startswith(self.prefix):
                self.counts.late += 1
            else:
                self.counts.foreign += 1
        return answer

    def too_much(self, size: int) -> bool:
        """Whether an answer of which ``size`` bytes wait must be cut off."""
        return size > self._most_of_one or self.buffered > self._most_of_all

    def ended(self, answer: KafkaAnswer) -> None:
        """No more of it is wanted."""
        self._answers.pop(answer.correlation, None)

    def left(self, answer: KafkaAnswer) -> None:
        """Its service may stop."""
        if self.on_left is not None:
            self.on_left(answer.correlation)

    def fail_all(self, error: Callable[[], UpstreamError]) -> None:
        """End all that are waited for."""
        for answer in list(self._answers.values()):
            answer.fail(error())

    def figures(self) -> dict[str, int]:
        """Return what is waited for, and the counts."""
        return {"outstanding": len(self._answers), "buffered_bytes": self.buffered, **asdict(self.counts)}
