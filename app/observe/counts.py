"""What the parts count as they work: plain numbers, which are read when somebody asks.

The hot paths add to integers of their own objects (the hub's, a session's); what happens once per request, socket or
generation is counted here. Whoever reads turns it into a :data:`~app.observe.families.Snapshot`.
"""

from __future__ import annotations

from app.observe.families import LATENCY, LONG, Counts, Histogram, Snapshot

__all__ = ["GenerationCounts", "HttpCounts", "LimitCounts", "SocketCounts", "UpstreamCounts", "status_class"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_STANDARD_CODES = range(1000, 1016)
"""Close codes of RFC 6455 and its registry; what else clients say is anything."""


def status_class(status: int) -> str:
    """Return ``2xx`` for 200, ``none`` for 0."""
    return _CLASSES[status // 100] if 0 <= status < 600 else "other"


class HttpCounts:
    """Requests. ``route`` is a label of a bounded number."""

    def __init__(self) -> None:
        self._requests = Counts()
        self._failures = Counts()
        self._seconds = Histogram(LATENCY)
        self._received = Counts()
        self._sent = Counts()
        self._refused = Counts()
        self.in_flight = 0

    def ended(self, route: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """A request has ended."""
        method = method if method in _METHODS else "other"
        self._requests.add((route, method, status_class(status)))
        label = (route,)
        self._seconds.observe(label, seconds)
        if received:
            self._received.add(label, received)
        if sent:
            self._sent.add(label, sent)

    def failed(self, route: str, ended: str, code: str) -> None:
        """It did not get its whole answer, or got the gateway's own."""
        self._failures.add((route, ended, code or "none"))

    def refused(self, code: str, status: int, *, told: bool) -> None:
        """One was refused while it was read. ``told``: what worked at it already will say that it has ended."""
        self._refused.add((code,))
        if not told:
            self._requests.add(("none", "other", status_class(status)))
            self.failed("none", "refused", code)

    def snapshot(self) -> Snapshot:
        return {
            "tidegate_http_requests_total": {**self._requests},
            "tidegate_http_refused_total": {**self._refused},
            "tidegate_http_request_seconds": {**self._seconds.values},
            "tidegate_http_requests_in_flight": {(): self.in_flight},
            "tidegate_http_received_bytes_total": {**self._received},
            "tidegate_http_sent_bytes_total": {**self._sent},
            "tidegate_http_failures_total": {**self._failures},
        }


class LimitCounts:
    """What limits said, by their names in the configuration."""

    def __init__(self) -> None:
        self._said = Counts()

    def said(self, limit: str, outcome: str) -> None:
        """``outcome`` is ``admitted``, ``refused`` or ``uncounted``."""
        self._said.add((limit, outcome))

    def snapshot(self) -> Snapshot:
        return {"tidegate_limits_total": {**self._said}}


class UpstreamCounts:
    """:class:`app.http.upstreams.meter.Meter`."""

    def __init__(self) -> None:
        self._answers = Counts()
        self._failures = Counts()
        self._seconds = Histogram(LATENCY)
        self._retries = Counts()
        self._hedges = Counts()
        self._breakers = Counts()
        self._health = Counts()

    def answered(self, upstream: str, target: str, route: str, status: int, seconds: float) -> None:
        self._answers.add((upstream, target, status_class(status)))
        self._seconds.observe((upstream,), seconds)

    def failed(self, upstream: str, target: str, route: str, failure: str, seconds: float) -> None:
        self._failures.add((upstream, target, failure))
        self._seconds.observe((upstream,), seconds)

    def retried(self, upstream: str, route: str, failure: str) -> None:
        self._retries.add((upstream, failure))

    def hedged(self, upstream: str, route: str, won: bool) -> None:
        self._hedges.add((upstream, "yes" if won else "no"))

    def breaker_moved(self, upstream: str, target: str, route: str, state: str) -> None:
        self._breakers.add((upstream, target, state))

    def health_moved(self, upstream: str, target: str, state: str) -> None:
        self._health.add((upstream, target, state))

    def snapshot(self) -> Snapshot:
        return {
            "tidegate_upstream_answers_total": {**self._answers},
            "tidegate_upstream_failures_total": {**self._failures},
            "tidegate_upstream_head_seconds": {**self._seconds.values},
            "tidegate_upstream_retries_total": {**self._retries},
            "tidegate_upstream_hedges_total": {**self._hedges},
            "tidegate_upstream_breaker_moves_total": {**self._breakers},
            "tidegate_upstream_health_moves_total": {**self._health},
        }


class SocketCounts:
    """Sockets, by protocol. What those that are still open have moved, their sessions know."""

    def __init__(self) -> None:
        self._opened = Counts()
        self._closed = Counts()
        self._refused = Counts()
        self._seconds = Histogram(LONG)
        self.received_frames = 0
        """Of those that have ended, like the three below."""
        self.received_bytes = 0
        self.sent_frames = 0
        self.sent_bytes = 0
        self.slow = 0

    def opened(self, protocol: str) -> None:
        self._opened.add((protocol,))

    def closed(self, protocol: str, code: int, *, by_client: bool, seconds: float) -> None:
        known = not by_client or code in _STANDARD_CODES
        self._closed.add((protocol, str(code) if known else "other", "client" if by_client else "gateway"))
        self._seconds.observe((protocol,), seconds)

    def refused(self, code: str) -> None:
        self._refused.add((code,))

    def snapshot(self) -> Snapshot:
        return {
            "tidegate_sockets_opened_total": {**self._opened},
            "tidegate_sockets_closed_total": {**self._closed},
            "tidegate_sockets_refused_total": {**self._refused},
            "tidegate_socket_seconds": {**self._seconds.values},
            "tidegate_slow_consumers_total": {(): self.slow},
        }


class GenerationCounts:
    """Generations, by kind."""

    def __init__(self) -> None:
        self._finished = Counts()
        self._first = Histogram(LONG)
        self._seconds = Histogram(LONG)
        self._tokens = Counts()

    def finished(self, kind: str, terminal: str, code: str, seconds: float, first: float | None) -> None:
        """A generation has ended. ``first`` are the seconds to the upstream's first event."""
        self._finished.add((kind, terminal, code or "none"))
        self._seconds.observe((kind,), seconds)
        if first is not None:
            self._first.observe((kind,), first)

    def used(self, kind: str, prompt: int, completion: int, source: str) -> None:
        """So many tokens."""
        self._tokens.add((kind, "prompt", source), prompt)
        self._tokens.add((kind, "completion", source), completion)

    def snapshot(self) -> Snapshot:
        return {
            "tidegate_generations_finished_total": {**self._finished},
            "tidegate_generation_first_seconds": {**self._first.values},
            "tidegate_generation_seconds": {**self._seconds.values},
            "tidegate_generation_tokens_total": {**self._tokens},
        }
