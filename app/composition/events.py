"""The sinks of events that the configuration asks for, joined with the transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from app.config import Config, EventSinkConfig, GenerationsConfig
from app.errors import ConfigError
from app.events.courier import Courier
from app.events.encoding import encoder
from app.events.events import Events
from app.events.port import Sink
from app.events.sinks.http import HttpSink, Reply
from app.events.sinks.log import LogSink
from app.http.transport import HttpTransport
from app.http.upstreams.plan import Plan

__all__ = ["UpstreamPost", "create_events", "create_sink", "refuse_unusable_sinks"]

_LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read, so that its connection can be used again."""
_PLAN = "events"


class UpstreamPost:
    """Posts to an upstream, once, for what is tried again is the courier's business.

    A :class:`~app.events.sinks.http.Post`.
    """

    def __init__(self, transport: HttpTransport, upstream: str, timeout: float) -> None:
        """``timeout`` (seconds) is for the answer's head, and for each silence after it."""
        self._transport = transport
        self._upstream = upstream
        self._plan = Plan(_PLAN, timeout, retries=0, hedge=False)
        self._timeout = timeout

    async def __call__(self, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Reply:
        answer = await self._transport.request(
            self._upstream, "POST", path, headers, body, idle_timeout=self._timeout, plan=self._plan
        )
        try:
            size = 0
            while size < _LONGEST_ANSWER and (data := await answer.read()):
                size += len(data)
        finally:
            answer.abort()
        waits = [value for name, value in answer.headers if name == b"retry-after"]
        return Reply(answer.status, _wait(waits[0].decode("latin-1")) if waits else None)


def create_events(config: Config, transport: HttpTransport, kinds: Callable[[], GenerationsConfig]) -> Events:
    """Return what makes and delivers events, of nobody and to nobody where none are wanted. ``kinds`` are those of now.

    Raises :exc:`~app.errors.ConfigError` for a sink that needs packages which are not installed.
    """

    def service_of(kind: str) -> str:
        known = kinds().kinds.get(kind)
        return (known and known.analytics) or kind

    sinks = config.events.sinks if config.events.enabled else ()
    return Events([Courier(sink.label, create_sink(sink, transport), config.events) for sink in sinks], service_of)


def refuse_unusable_sinks(config: Config) -> None:
    """Raise :exc:`~app.errors.ConfigError` for a sink whose database or brokers cannot be what they are said to be.

    Nobody is asked over a network.
    """
    for sink in config.events.sinks if config.events.enabled else ():
        if sink.kind == "kafka":
            _kafka_sink(sink)
        elif sink.kind == "sql":
            _sql_sink(sink)


def _wait(value: str) -> float | None:
    """Return the seconds of a ``Retry-After``, which may be a number or a date (RFC 9110 section 10.2.3)."""
    if value.strip().isdigit():
        return float(value.strip()[:10])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def create_sink(config: EventSinkConfig, transport: HttpTransport) -> Sink:
    """Return what ``config`` describes. Raises :exc:`~app.errors.ConfigError`."""
    if config.kind == "log":
        return LogSink()
    if config.kind == "http":
        return HttpSink(
            UpstreamPost(transport, config.upstream, config.timeout),
            config.path,
            batch=config.batch,
            fields=config.fields,
            headers={name: value.get_secret_value() for name, value in config.headers.items()},
            concurrency=config.concurrency,
        )
    return _kafka_sink(config) if config.kind == "kafka" else _sql_sink(config)


def _kafka_sink(config: EventSinkConfig) -> Sink:
    from app.events.sinks.kafka import KafkaSink  # noqa: PLC0415  (only who has brokers needs aiokafka)
    from app.events.sinks.kafka_writer import KafkaWriter  # noqa: PLC0415

    kafka, encode = config.kafka, encoder(config.fields)
    writer = KafkaWriter(config.label, kafka, config.timeout)
    if kafka.outbox is None:
        return KafkaSink(writer, kafka.topic, encode)
    try:
        from app.events.sinks.outbox import OutboxSink  # noqa: PLC0415  (only who keeps events needs SQLAlchemy)
    except ImportError as error:
        raise ConfigError(
            f"events.sinks.{config.label}.kafka.outbox: needs a package that is not installed ({error.name}). "
            "Install it: pip install 'tidegate[sql]'"
        ) from error
    url = kafka.outbox.get_secret_value()
    return OutboxSink(config.label, url, kafka.outbox_limit, config.timeout, writer, kafka.topic, encode)


def _sql_sink(config: EventSinkConfig) -> Sink:
    try:
        from app.events.sinks.sql import SqlSink  # noqa: PLC0415  (only who stores events needs SQLAlchemy)
    except ImportError as error:
        raise ConfigError(
            f"events.sinks: kind sql needs a package that is not installed ({error.name}). "
            "Install it: pip install 'tidegate[sql]'"
        ) from error
    assert config.url is not None, "the configuration sees to it"
    days = config.retention_days
    retention = None if days is None else days * 86_400
    return SqlSink(config.url.get_secret_value(), timeout=config.timeout, retention=retention)
