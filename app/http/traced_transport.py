"""The client of the data plane where traces are recorded: a span for each request to an upstream whose trace is.

A span is of kind *client*, by OpenTelemetry's conventions for HTTP, and lasts from the request to the head of its
answer, with all tries. What the upstream gets as its parent is this span. Elsewhere the plain client is used, which
knows nothing of spans.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Coroutine, Mapping, Sequence
from typing import Any, cast

from app.config import UpstreamConfig
from app.errors import TidegateError
from app.http.transport import HttpTransport
from app.http.upstream_response import UpstreamResponse
from app.http.upstreams.kafka.answer import KafkaAnswer
from app.http.upstreams.meter import Meter
from app.http.upstreams.plan import Plan
from app.observe.access_log import safe_path
from app.observe.outcomes import Outcome
from app.observe.trace_context import TraceContext, parse_traceparent
from app.observe.tracing import Span, Tracing

__all__ = ["TracedTransport"]

_TRACEPARENT = b"traceparent"


class _Asked:
    """What a client learns of a request that nobody else wants to know anything of."""

    attempts = 0
    target = ""
    head_seconds = 0.0


class TracedTransport(HttpTransport):
    """Makes spans of sampled traces, and sends like the plain client."""

    def __init__(
        self, upstreams: Mapping[str, UpstreamConfig], *, tracing: Tracing, meter: Meter | None = None
    ) -> None:
        super().__init__(upstreams, meter=meter)
        self._tracing = tracing

    def request(
        self,
        upstream: str,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes] = b"",
        *,
        idle_timeout: float | None = None,
        timeout: float | None = None,
        plan: Plan | None = None,
        upgrade: bool = False,
        outcome: Outcome | None = None,
    ) -> Coroutine[Any, Any, UpstreamResponse | KafkaAnswer]:
        """As :meth:`HttpTransport.request`."""
        place = _place(headers)
        span = None if place is None else self._tracing.begin(method, place, "client")
        told = outcome
        if span is not None:
            ours = (_TRACEPARENT, span.trace.traceparent)
            headers = [ours if name == _TRACEPARENT else (name, value) for name, value in headers]
            told = cast(Outcome, _Asked()) if outcome is None else outcome
        answer = super().request(
            upstream,
            method,
            path,
            headers,
            body,
            idle_timeout=idle_timeout,
            timeout=timeout,
            plan=plan,
            upgrade=upgrade,
            outcome=told,
        )
        if span is None or told is None:
            return answer
        span.note({"http.request.method": method, "tidegate.upstream": upstream})
        return _recorded(answer, span, path, told)


async def _recorded(
    answer: Coroutine[Any, Any, UpstreamResponse | KafkaAnswer], span: Span, path: str, told: Outcome
) -> UpstreamResponse | KafkaAnswer:
    try:
        response = await answer
    except TidegateError as error:
        span.fail(error.code)
        raise
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    else:
        span.note({"http.response.status_code": response.status})
        if response.status >= 400:
            span.fail(str(response.status))
        return response
    finally:
        _describe(span, path, told)
        span.end()


def _describe(span: Span, path: str, told: Outcome) -> None:
    """Say where it went; nothing of a query, which may hold a secret."""
    host, _, port = told.target.rpartition(":")
    if told.attempts > 1:
        span.note({"http.request.resend_count": told.attempts - 1})
    span.note({"url.path": safe_path(path)})
    if host and port.isdigit():
        span.note({"server.address": host.strip("[]"), "server.port": int(port), "network.protocol.version": "1.1"})


def _place(headers: Sequence[tuple[bytes, bytes]]) -> TraceContext | None:
    """Return the place of a request in a trace that is recorded."""
    for name, value in headers:
        if name == _TRACEPARENT:
            place = parse_traceparent(value)
            return place if place is not None and place.sampled else None
    return None
