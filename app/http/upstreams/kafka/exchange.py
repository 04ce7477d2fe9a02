"""Sends requests over Kafka and gives each its answer: what ``app.http.upstreams.exchange`` is for connections.

A request is written once: whether a message that was not acknowledged is in the log nobody can say, so it is not
written again. The service is told until when somebody waits.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterable
from functools import partial
from time import monotonic
from typing import Any

import structlog

from app.config import UpstreamConfig
from app.errors import (
    CircuitOpen,
    ConfigError,
    MessageTooBig,
    NotImplementedHere,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
)
from app.http.request_head import StaticHeaders
from app.http.upstreams.breaker import Breaker, BreakerState
from app.http.upstreams.kafka.answer import KafkaAnswer, Outstanding
from app.http.upstreams.kafka.aside import Aside
from app.http.upstreams.kafka.link import Link, Message
from app.http.upstreams.kafka.messages import (
    REPLY_PARTITION,
    REPLY_TOPIC,
    Poison,
    correlation_of,
    key_of,
    read_reply,
    request_message,
)
from app.http.upstreams.meter import Meter
from app.http.upstreams.plan import Request, plan_of
from app.observe.tasks import TaskSet

__all__ = ["KafkaExchange"]

_log = structlog.get_logger(__name__)
_LOOK_AGAIN = 0.5
"""Seconds between two looks at whether all answers have come."""


class KafkaExchange:
    """All requests to one upstream."""

    def __init__(self, name: str, config: UpstreamConfig, tasks: TaskSet, random: Any, meter: Meter | None) -> None:
        """Raises :exc:`~app.errors.ConfigError` for what cannot be set up so."""
        kafka = config.kafka
        self.plan = plan_of(config)
        """Of requests that come by no route."""
        self.config = config
        self.idle_timeout = config.idle_timeout
        self._name, self._meter, self._random, self._tasks = name, meter, random, tasks
        replica = secrets.token_hex(8)
        self._outstanding = Outstanding(
            replica.encode(), kafka.max_outstanding, kafka.max_reply_buffer, kafka.max_replies_buffer
        )
        self._link = Link(name, kafka, replica, config.connect_timeout, self._came, tasks)
        self._aside = Aside(name, kafka, self._link, self._outstanding.counts, tasks, config.connect_timeout)
        self._outstanding.on_left = self._aside.left
        self._static = _static(name, config)
        self._breakers: dict[str, Breaker] = {}
        """By route; there are as many as routes in the configuration, at most."""
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to reach the broker."""
        if self._running is None:
            self._running = self._tasks.start(self._link.run(), f"kafka of {self._name}")

    async def retire(self) -> None:
        """Leave the broker when all answers have come, or could have: another exchange stands in its place."""
        ends = monotonic() + self.config.response_timeout + self.idle_timeout
        while len(self._outstanding) and monotonic() < ends:  # noqa: ASYNC110  (once, after a reload)
            await asyncio.sleep(_LOOK_AGAIN)
        await self.close()

    async def close(self) -> None:
        """Cut off what is waited for, and leave the broker."""
        self._outstanding.fail_all(self._link.down)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def send(self, request: Request) -> KafkaAnswer:
        """Return the answer when its head has come. What is raised is as ``HttpTransport.request`` says."""
        if request.upgrade:
            raise NotImplementedHere("Sockets are not passed on to this service.")
        body = await self._whole(request.body)
        self.start()
        breaker, epoch = self._admitted(request.plan.name)
        began, failure = monotonic(), "invalid"
        if request.outcome is not None:
            request.outcome.attempts += 1
        try:
            answer = await self._ask(request, body)
        except UpstreamError as error:
            if isinstance(error, UpstreamTimeout):
                failure = "timeout"
            elif not isinstance(error, UpstreamInvalid):
                failure = "connect"
            self._judge(request, breaker, epoch, failure, None, began)
            raise
        except BaseException:
            if breaker is not None:
                breaker.abandon(epoch)
            raise
        self._judge(request, breaker, epoch, None, answer.status, began)
        return answer

    async def probe(self, within: float) -> bool:
        """Return whether the broker is reached, now or within so many seconds."""
        self.start()
        try:
            async with asyncio.timeout(within):
                await self._link.up.wait()
        except TimeoutError:
            return False
        return True

    @property
    def connected(self) -> bool:
        """Whether the broker is reached."""
        return self._link.connected

    @property
    def outstanding(self) -> int:
        """Requests that wait for their answers, or the end of them."""
        return len(self._outstanding)

    def figures(self) -> dict[str, int | bool]:
        """Return whether the broker is reached, what is waited for, and what became of messages."""
        still = sum(breaker.state is not BreakerState.CLOSED for breaker in self._breakers.values())
        return {"connected": self._link.connected, "breakers_open": still, **self._outstanding.figures()}

    # Private.

    async def _ask(self, request: Request, body: bytes) -> KafkaAnswer:
        kafka, loop = self.config.kafka, asyncio.get_running_loop()
        topic = request.plan.topic or kafka.topic
        if not topic:
            raise NotImplementedHere("This request has no topic that it could go to.")
        patience = self.config.response_timeout
        if request.deadline is not None:
            patience = min(patience, max(0.0, request.deadline - loop.time()))
        answer = self._outstanding.open(head_only=request.method == "HEAD", idle_timeout=request.idle_timeout)
        try:
            headers = self._message(request, body, answer.correlation, patience)
            written = await self._link.send(topic, body, key_of(request.headers), headers)
            timer = loop.call_later(self.config.connect_timeout, self._not_written, answer, written)
            written.add_done_callback(partial(self._written, answer, timer))
            await answer.head(patience)
        except BaseException:
            answer.abort()
            raise
        return answer

    def _message(self, request: Request, body: bytes, correlation: bytes, patience: float) -> list[tuple[str, bytes]]:
        kafka = self.config.kafka
        names, static = self._static
        fields = [field for field in request.headers if field[0] not in names]
        deadline = round((time.time() + patience) * 1000)
        headers, size = request_message(
            request.method, request.path, [*fields, *static], body, correlation=correlation, deadline_ms=deadline
        )
        headers.append((REPLY_TOPIC, kafka.reply_topic.encode()))
        if self._link.partition is not None:
            headers.append((REPLY_PARTITION, self._link.partition.to_bytes(4, "big")))
        if size > kafka.max_request_bytes:
            raise MessageTooBig(f"The request is larger than {kafka.max_request_bytes} bytes, its headers included.")
        return headers

    async def _whole(self, body: bytes | AsyncIterable[bytes]) -> bytes:
        if isinstance(body, bytes):
            return body
        pieces, size = [], 0
        async for piece in body:
            size += len(piece)
            if size > self.config.kafka.max_request_bytes:
                raise MessageTooBig(f"The request is larger than {self.config.kafka.max_request_bytes} bytes.")
            pieces.append(piece)
        return b"".join(pieces)

    def _written(self, answer: KafkaAnswer, timer: asyncio.TimerHandle, written: asyncio.Future[Any]) -> None:
        timer.cancel()
        if written.cancelled():
            return
        error = written.exception()
        if error is not None:
            # The service may be asked all the same: what is not acknowledged may be in the log.
            down = self._link.down()
            down.__cause__ = error
            answer.fail(down)

    def _not_written(self, answer: KafkaAnswer, written: asyncio.Future[Any]) -> None:
        if not written.done() and not answer.status:
            answer.fail(self._link.down())

    def _admitted(self, route: str) -> tuple[Breaker | None, int]:
        if not self.config.breaker.enabled:
            return None, 0
        breaker = self._breakers.get(route)
        if breaker is None:
            breaker = self._breakers[route] = Breaker(self.config.breaker)
        now = monotonic()
        if not breaker.admit(now, self._random()):
            raise CircuitOpen(retry_after=breaker.retry_after(now))
        return breaker, breaker.epoch

    def _judge(
        self,
        request: Request,
        breaker: Breaker | None,
        epoch: int,
        failure: str | None,
        status: int | None,
        began: float,
    ) -> None:
        """Note how a request went. That the broker is away is told by the watch, and opens no breaker."""
        now, route = monotonic(), request.plan.name
        request.asked("kafka", now - began)
        if breaker is not None:
            if failure == "connect":
                breaker.abandon(epoch)
            elif breaker.record(status is not None and status < 500, now, epoch):
                _log.warning("breaker", upstream=self._name, target="kafka", route=route, state=breaker.state.value)
                if self._meter is not None:
                    self._meter.breaker_moved(self._name, "kafka", route, breaker.state.value)
        if self._meter is None:
            return
        if failure is None and status is not None:
            self._meter.answered(self._name, "kafka", route, status, now - began)
        elif failure is not None:
            self._meter.failed(self._name, "kafka", route, failure, now - began)

    def _came(self, message: Message) -> None:
        """Take a message of the reply topic. Never raises: one bad message must not end the reader."""
        correlation = correlation_of(message.headers)
        if correlation is None:
            self._aside.poisoned(message, "it does not say what it answers")
            return
        answer = self._outstanding.waiting(correlation)
        if answer is None:
            return
        try:
            reply = read_reply(message.headers, message.value)
        except Poison as error:
            answer.fail(UpstreamInvalid())
            self._aside.poisoned(message, str(error))
            return
        answer.take(reply, self._outstanding.counts)


def _static(name: str, config: UpstreamConfig) -> tuple[frozenset[bytes], list[tuple[bytes, bytes]]]:
    """Return the names of the upstream's own headers, and them."""
    try:
        static = StaticHeaders({header: value.get_secret_value() for header, value in config.headers.items()})
    except ValueError as error:
        raise ConfigError(f"upstreams.{name}: {error}") from None
    fields = [tuple(line.split(b": ", 1)) for line in static.lines]
    return frozenset(field[0] for field in fields), [(field[0], field[1]) for field in fields]
