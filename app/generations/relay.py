"""The task that runs one generation: upstream events in, publications out.

It belongs to no socket: who asked may leave, and others may come. From the claim on it is the stream's only writer, so
it gives the offsets itself; local listeners have an event in the loop turn in which the upstream's bytes arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import structlog

from app.errors import Interrupted, OutputTooLong, TidegateError, UpstreamInvalid, UpstreamTimeout
from app.generations.events import (
    TERMINALS,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Started,
    Usage,
    encode,
    encode_delta,
)
from app.generations.formats import Format
from app.generations.formats.answer import Answer
from app.generations.lifecycle import Lifecycle, State
from app.generations.receipt import ReceiptBuilder
from app.generations.reports import Report
from app.generations.sources.port import Response, Transport
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes
from app.streams.broker import Ledger, OwnedStream

__all__ = ["Call", "Relay"]

_log = structlog.get_logger(__name__)
_ERROR_BODY = 64 * 1024
"""Bytes of an upstream's error answer that are read for its message."""
_ENDS = {Completed: State.COMPLETED, Failed: State.FAILED, Cancelled: State.CANCELLED}


@dataclass(frozen=True, slots=True)
class Call:
    """The upstream call of one generation. Timeouts are seconds; ``total_timeout`` counts from the start."""

    upstream: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    format: Format
    first_event_timeout: float
    idle_timeout: float
    total_timeout: float


class Relay:
    """One generation that runs here. ``max_bytes`` bounds its log; ``outcomes`` are told of its terminal."""

    def __init__(
        self,
        owned: OwnedStream,
        ledger: Ledger,
        call: Call,
        outcome: GenerationOutcome,
        outcomes: GenerationOutcomes,
        *,
        max_bytes: int,
    ) -> None:
        self.owned = owned
        self.user = outcome.user_id
        self.upstream_closed = asyncio.Event()
        """Set when the upstream call is over, however it ended."""
        self._ledger = ledger
        self._call = call
        self._lifecycle = Lifecycle()
        self._receipt = ReceiptBuilder()
        self._outcome = outcome
        self._outcomes = outcomes
        self._began = perf_counter()
        self._room = max_bytes
        self._task: asyncio.Task[None] | None = None
        self._response: Response | None = None

    @property
    def state(self) -> State:
        return self._lifecycle.state

    def cancel(self, by: str) -> bool:
        """End now, upstream call included; False when it had ended before. ``by`` is as in ``Cancelled``."""
        return self._end(Cancelled(by))

    def report(self, events: Sequence[Report]) -> bool:
        """Publish what the upstream reported by itself; False when the generation has ended."""
        if self._lifecycle.ended or self.owned.closed:
            return False
        try:
            self._emit(events)
        except TidegateError as error:
            self._fail(error)
            self._hang_up()
        return True

    def interrupt(self) -> bool:
        """End as the replica goes away."""
        return self._end(Failed(Interrupted.code, Interrupted.default_message, retryable=True))

    def abandon(self) -> None:
        """Stop without a word: somebody else has closed the stream."""
        self.owned.closed = True
        self._hang_up()

    async def run(self, transport: Transport) -> None:
        """Make the call and relay it to its end. Never raises but by cancellation of the whole process."""
        self._task = asyncio.current_task()
        try:
            if not self._lifecycle.ended:
                await self._run(transport)
        except TidegateError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if not (self._lifecycle.ended or self.owned.closed):
                raise
        except Exception:
            _log.exception("a relay failed", stream=self.owned.stream)
            self._fail(TidegateError())
        finally:
            self._task = None
            if self._response is not None:
                self._response.abort()
            self.upstream_closed.set()

    async def _run(self, transport: Transport) -> None:
        call = self._call
        now = asyncio.get_running_loop().time()
        patience = min(call.first_event_timeout, call.total_timeout)
        self._response = response = await transport.request(
            call.upstream,
            "POST",
            call.path,
            call.headers,
            call.body,
            idle_timeout=call.idle_timeout,
            timeout=patience,  # the transport's, not ours: so that an upstream that does not answer is held to account
        )
        try:
            async with asyncio.timeout_at(now + patience) as limit:
                if not 200 <= response.status < 300:
                    raise call.format.error_from_response(response.status, await _read_start(response))
                if _content_type(response) in call.format.refused:
                    raise UpstreamInvalid("The service behind the gateway did not answer with a stream.")
                decoder = call.format.decoder()
                answer = decoder.answer
                while not answer.ended:
                    data = await response.read()
                    events = decoder.feed(data) if data else decoder.end()
                    if events or answer.model:
                        if self._lifecycle.state is State.QUEUED:
                            limit.reschedule(now + call.total_timeout)
                            self._emit([Started(answer.model, call.upstream)])
                        if events:
                            self._emit(events)
                self._tell_skipped(answer)
        except TimeoutError:
            raise UpstreamTimeout from None

    def _tell_skipped(self, answer: Answer) -> None:
        if answer.malformed or answer.unknown:
            stream, upstream = self.owned.stream, self._call.upstream
            counts = {"malformed": answer.malformed, "unknown": answer.unknown}
            log = _log.warning if answer.malformed else _log.info
            log("an upstream sent events that were skipped", stream=stream, upstream=upstream, **counts)

    def _emit(self, events: Sequence[Event]) -> None:
        """Publish ``events`` at once, in one batch. Nothing is published after a terminal."""
        if self._lifecycle.ended or self.owned.closed:
            return
        items: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                if event.part == "text":
                    self._receipt.add(event.text)
                item = encode_delta(event.text, event.part)
            elif isinstance(event, TERMINALS):
                self._lifecycle.move(_ENDS[type(event)])
                receipt = self._receipt.seal(self.owned.top + len(items) + 1)
                self._ledger.append(self.owned, [*items, encode(event, receipt)], close=True)
                self._tell(event)
                return
            else:
                if type(event) is Started:
                    self._lifecycle.move(State.STARTED)
                    self._outcome.first_seconds = perf_counter() - self._began
                    self._outcome.model = event.model
                elif type(event) is Usage:
                    _note_usage(self._outcome, event)
                elif isinstance(event, FileSet | FilePatch):
                    self._receipt.follow(event)
                item = encode(event)
            self._room -= len(item)
            items.append(item)
        if items:
            self._ledger.append(self.owned, items)
        if self._room < 0:
            raise OutputTooLong

    def _tell(self, terminal: Completed | Failed | Cancelled) -> None:
        outcome = self._outcome
        outcome.terminal = self._lifecycle.state.value
        outcome.code = terminal.code if isinstance(terminal, Failed) else ""
        outcome.seconds = perf_counter() - self._began
        self._outcomes.tell(outcome)

    def _fail(self, error: TidegateError) -> None:
        self._emit([Failed(error.code, error.message, error.retryable)])

    def _end(self, terminal: Event) -> bool:
        if self._lifecycle.ended or self.owned.closed:
            return False
        self._emit([terminal])
        self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.abort()
        if self._task is not None:
            self._task.cancel()


def _note_usage(outcome: GenerationOutcome, usage: Usage) -> None:
    outcome.prompt_tokens, outcome.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    outcome.tokens_source = usage.source


def _content_type(response: Response) -> bytes:
    value = next((value for name, value in response.headers if name == b"content-type"), b"")
    return value.partition(b";")[0].strip().lower()


async def _read_start(response: Response) -> bytes:
    """Return the beginning of an error answer's body, however badly it goes on."""
    body = b""
    try:
        while len(body) < _ERROR_BODY and (data := await response.read()):
            body += data
    except TidegateError:
        pass
    return body[:_ERROR_BODY]
