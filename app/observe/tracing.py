"""Spans for OpenTelemetry, of sampled traces only: for all others nothing is made, and nothing is asked twice.

The gateway keeps its own trace context (:mod:`~app.observe.trace_context`), which it passes on whether or not there are
spans. With them, what goes upstream names the gateway's span as its parent. Needs the extra ``tidegate[otel]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import getrandbits
from typing import TYPE_CHECKING, Any, Literal

from app.config.observability import TracingConfig
from app.errors import ConfigError, TidegateError
from app.observe.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["PUBLISH", "Span", "Tracing", "create_tracing"]

Kind = Literal["server", "client", "internal", "producer", "consumer"]
PUBLISH = {"messaging.system": "tidegate", "messaging.operation.name": "publish", "messaging.operation.type": "send"}
"""Attributes of spans of publishing, by OpenTelemetry's conventions."""
_LONGEST = 256
"""Characters of a channel's name that a span has."""
_BATCH = 512
_TIMEOUT = 5.0
"""Seconds that the collector has to take a batch, and that spans at the end have to be sent."""


def create_tracing(config: TracingConfig, version: str, node: str) -> Tracing | None:
    """Return what makes spans; None where none are wanted. Raises :exc:`~app.errors.ConfigError` without the extra."""
    if not config.enabled:
        return None
    try:
        return Tracing(config, version, node)
    except ImportError as error:
        raise ConfigError(
            f"tracing.enabled: {error.name} is missing. Install the extra: pip install 'tidegate[otel]'."
        ) from None


class Span:
    """One step of a trace. ``trace`` is the place below it, for whoever comes next."""

    __slots__ = ("_span", "trace")

    def __init__(self, span: Any, trace: TraceContext) -> None:
        self._span = span
        self.trace = trace

    def note(self, attributes: Mapping[str, str | int | float | bool]) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, code: str) -> None:
        """It went wrong; ``code`` is one of ``docs/errors.md``."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  (of an extra)

        self._span.set_status(Status(StatusCode.ERROR, code))
        self._span.set_attribute("error.type", code)

    def end(self) -> None:
        """It is over. Idempotent."""
        if self._span.is_recording():
            self._span.end()


class Tracing:
    """Makes spans and sends them, in a thread. Close it at the end."""

    def __init__(self, config: TracingConfig, version: str, node: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        resource = {"service.name": config.service_name, "service.version": version, "service.instance.id": node}
        self._ids = _Ids()
        self._provider: TracerProvider = TracerProvider(
            sampler=ALWAYS_ON,  # Who is not sampled never comes here.
            resource=Resource(resource),
            id_generator=self._ids,  # type: ignore[arg-type]
            shutdown_on_exit=False,
        )
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        exporter = OTLPSpanExporter(endpoint=config.endpoint, headers=headers, timeout=_TIMEOUT)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=config.queue,
                schedule_delay_millis=config.flush_interval * 1000,
                max_export_batch_size=min(_BATCH, config.queue),
                export_timeout_millis=_TIMEOUT * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("tidegate", version)
        self._kinds: dict[Kind, SpanKind] = {
            "server": SpanKind.SERVER,
            "client": SpanKind.CLIENT,
            "internal": SpanKind.INTERNAL,
            "producer": SpanKind.PRODUCER,
            "consumer": SpanKind.CONSUMER,
        }

    def begin(
        self, name: str, trace: TraceContext, kind: Kind, *, root: bool = False, began: int | None = None
    ) -> Span | None:
        """Return a span below ``trace``; None where that is not sampled.

        A ``root`` is the span that ``trace`` itself names: the trace begins with it. ``began`` is when, where
        that was not now, in nanoseconds since 1970.
        """
        if not trace.sampled:
            return None
        context = None
        if root:
            self._ids.next = trace
        else:
            context = _parent(trace)
        span = self._tracer.start_span(name, context=context or _nothing(), kind=self._kinds[kind], start_time=began)
        return Span(span, trace.below(f"{span.get_span_context().span_id:016x}"))

    @contextmanager
    def publishing(self, channel: str, trace: TraceContext) -> Iterator[None]:
        """Make a span of publishing one message, if ``trace`` is sampled."""
        span = self.begin("publish", trace, "producer")
        if span is None:
            yield
            return
        span.note({**PUBLISH, "messaging.destination.name": channel[:_LONGEST]})
        try:
            yield
        except TidegateError as error:
            span.fail(error.code)
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what waits, as far as it is taken in time."""
        self._provider.shutdown()


class _Ids:
    """OpenTelemetry's ``IdGenerator``. A root span takes the ids that the gateway has chosen already."""

    next: TraceContext | None = None
    """Of the span that is made next; set and taken in one step."""

    def generate_trace_id(self) -> int:
        return getrandbits(128) | 1 if self.next is None else int(self.next.trace_id, 16)

    def generate_span_id(self) -> int:
        chosen, self.next = self.next, None
        return getrandbits(64) | 1 if chosen is None else int(chosen.span_id, 16)

    def is_trace_id_random(self) -> bool:
        return True


def _nothing() -> Any:
    from opentelemetry.context import Context  # noqa: PLC0415

    return Context()


def _parent(trace: TraceContext) -> Any:
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context  # noqa: PLC0415

    ids = int(trace.trace_id, 16), int(trace.span_id, 16)
    return set_span_in_context(NonRecordingSpan(SpanContext(*ids, True, TraceFlags(trace.flags))), Context())
