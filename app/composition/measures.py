"""All that is measured, put together: the parts' own numbers become the families of ``/metrics`` when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.composition.sockets import Sockets
from app.config import Config
from app.generations.service import Generations
from app.http.cache.cache import ResponseCache
from app.http.sockets.proxy import SocketProxy
from app.http.transport import HttpTransport
from app.observe.counts import GenerationCounts, HttpCounts, LimitCounts, SocketCounts, UpstreamCounts
from app.observe.families import Snapshot
from app.observe.lines import Lines
from app.observe.outcomes import Ended, GenerationOutcome, Outcome
from app.observe.process import LoopLag, process_figures
from app.observe.workers import Workers
from app.streams.backend import Backend
from app.streams.hub import Hub
from app.ws.book import live_figures

__all__ = ["Measured", "Measures", "Tallies"]


@dataclass(frozen=True, slots=True)
class Tallies:
    """What the parts add to. Made before them."""

    http: HttpCounts = field(default_factory=HttpCounts)
    limits: LimitCounts = field(default_factory=LimitCounts)
    upstreams: UpstreamCounts = field(default_factory=UpstreamCounts)
    sockets: SocketCounts = field(default_factory=SocketCounts)
    generations: GenerationCounts = field(default_factory=GenerationCounts)

    def request(self, outcome: Outcome) -> None:
        """A request has ended. A :data:`~app.observe.outcomes.Listener`."""
        route, seconds = outcome.label, outcome.seconds()
        self.http.ended(route, outcome.method, outcome.status, seconds, outcome.received, outcome.sent)
        if outcome.ended is not Ended.COMPLETE:
            self.http.failed(route, outcome.ended.value, outcome.error)

    def generation(self, outcome: GenerationOutcome) -> None:
        """A generation has ended."""
        counts, kind = self.generations, outcome.kind
        counts.finished(kind, outcome.terminal, outcome.code, outcome.seconds, outcome.first_seconds)
        if outcome.prompt_tokens is not None:
            counts.used(
                kind, outcome.prompt_tokens, outcome.completion_tokens or 0, outcome.tokens_source or "provider"
            )


@dataclass(frozen=True, slots=True)
class Measured:
    """The parts that are looked at."""

    tallies: Tallies
    hub: Hub
    backend: Backend
    transport: HttpTransport
    generations: Generations
    sockets: Sockets
    passed_on: SocketProxy
    cache: Callable[[], ResponseCache | None]
    draining: Callable[[], bool]
    lines: Lines
    events: Callable[[], Mapping[str, Mapping[str, int]]]
    events_away: Callable[[], Sequence[str]]


class Measures:
    """Reads them. ``folder`` is where the other processes of this gateway are met, if there are some."""

    def __init__(self, parts: Measured, config: Config, version: str, folder: Path | None) -> None:
        self._parts = parts
        self._info = (version, "redis" if config.broker.shared else "memory")
        self._workers = None if folder is None else Workers(folder, self.read)
        self.lag = LoopLag()

    async def start(self) -> None:
        if self._workers is not None:
            await self._workers.start()

    async def close(self) -> None:
        if self._workers is not None:
            await self._workers.close()
        self.lag.close()

    async def snapshot(self) -> Snapshot:
        """Return what all processes have measured."""
        return self.read() if self._workers is None else await self._workers.snapshot()

    def read(self) -> Snapshot:
        """Return what this process has measured."""
        parts, tallies = self._parts, self._parts.tallies
        cache = parts.cache()
        return {
            **tallies.http.snapshot(),
            **tallies.upstreams.snapshot(),
            **tallies.limits.snapshot(),
            **_upstreams(parts.transport),
            **_kafka(parts.transport),
            **({} if cache is None else cache.counts.snapshot()),
            **self._sockets(),
            **_channels(parts.hub),
            **tallies.generations.snapshot(),
            "tidegate_generations_started_total": {(kind,): count for kind, count in parts.generations.started.items()},
            "tidegate_generation_failovers_total": dict(parts.generations.failovers.items()),
            "tidegate_generations_running": {(): parts.generations.running},
            **_broker(parts.backend),
            **self.lag.snapshot(),
            **process_figures(),
            **_events(parts.events()),
            "tidegate_log_lines_dropped_total": {(): parts.lines.dropped},
            "tidegate_workers": {(): 1},
            "tidegate_draining": {(): int(parts.draining())},
            "tidegate_info": {self._info: 1},
        }

    def _sockets(self) -> Snapshot:
        parts, counts = self._parts, self._parts.tallies.sockets
        figures = counts.snapshot()
        figures["tidegate_sockets_opened_total"]["passed_on",] = parts.passed_on.opened
        refused = figures["tidegate_sockets_refused_total"]
        if parts.sockets.gate.refused:
            refused["overloaded",] = parts.sockets.gate.refused
        live = live_figures(counts, (session.account for session in parts.sockets.sessions))
        live["tidegate_sockets_open"]["passed_on",] = len(parts.passed_on)
        return figures | live


def _upstreams(transport: HttpTransport) -> Snapshot:
    targets: dict[tuple[str, ...], float | list[float]] = {}
    connections: dict[tuple[str, ...], float | list[float]] = {}
    breakers: dict[tuple[str, ...], float | list[float]] = {}
    for name in transport.upstreams:
        states, uses = transport.gauges(name)
        targets |= {(name, state): count for state, count in states.items()}
        connections |= {(name, use): count for use, count in uses.items()}
        breakers[name,] = transport.figures(name)["breakers_open"]
    return {
        "tidegate_upstream_targets": targets,
        "tidegate_upstream_connections": connections,
        "tidegate_upstream_breakers_open": breakers,
    }


def _kafka(transport: HttpTransport) -> Snapshot:
    figures = {name: transport.figures(name) for name in transport.upstreams_over_kafka()}
    kinds = ("late", "foreign", "repeated", "poison", "parked")
    return {
        "tidegate_kafka_up": {(name,): int(of["connected"]) for name, of in figures.items()},
        "tidegate_kafka_outstanding": {(name,): of["outstanding"] for name, of in figures.items()},
        "tidegate_kafka_buffered_bytes": {(name,): of["buffered_bytes"] for name, of in figures.items()},
        "tidegate_kafka_messages_total": {(name, kind): of[kind] for name, of in figures.items() for kind in kinds},
    }


def _channels(hub: Hub) -> Snapshot:
    return {
        "tidegate_channels": {(): hub.channels()},
        "tidegate_messages_total": {(): hub.messages},
        "tidegate_delivered_total": {(): hub.delivered},
        "tidegate_delivered_bytes_total": {(): hub.delivered_bytes},
        "tidegate_resumes_total": {("full",): hub.resumed[True], ("partial",): hub.resumed[False]},
        "tidegate_gaps_total": {(): hub.gaps},
    }


def _broker(backend: Backend) -> Snapshot:
    figures = backend.figures()
    return {
        "tidegate_broker_up": {(): int(backend.healthy())},
        "tidegate_broker_appends_total": {(): figures.appended},
        "tidegate_broker_writes_total": {(): figures.writes},
        "tidegate_broker_unwritten": {(): figures.unwritten},
        "tidegate_broker_repairs_total": {(): figures.repairs},
        "tidegate_broker_links": {(link.name,): link.up for link in figures.links},
        "tidegate_broker_connects_total": {(link.name,): link.connects for link in figures.links},
        "tidegate_broker_failures_total": {(link.name,): link.failures for link in figures.links},
        "tidegate_broker_lag_seconds": {(link.name,): link.lag for link in figures.links},
    }


def _events(sinks: Mapping[str, Mapping[str, int]]) -> Snapshot:
    ends = ("delivered", "dropped", "refused", "lost")
    return {
        "tidegate_events_total": {(sink, end): figures[end] for sink, figures in sinks.items() for end in ends},
        "tidegate_events_waiting": {(sink,): figures["waiting"] for sink, figures in sinks.items()},
        "tidegate_events_retries_total": {(sink,): figures["retries"] for sink, figures in sinks.items()},
        "tidegate_events_sink_up": {(sink,): figures["up"] for sink, figures in sinks.items() if "up" in figures},
        "tidegate_events_outbox": {
            (sink,): figures["outbox"] for sink, figures in sinks.items() if "outbox" in figures
        },
        "tidegate_events_published_total": {
            (sink,): figures["published"] for sink, figures in sinks.items() if "published" in figures
        },
    }
