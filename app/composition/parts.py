"""All parts of a running gateway, in the order in which they need each other."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from pathlib import Path

from starlette.types import ASGIApp

from app.auth.revocation import Revocation, from_json, to_json
from app.composition.broker import create_backend
from app.composition.cache import create_cache
from app.composition.credentials import Credentials
from app.composition.edge import Edge
from app.composition.events import create_events
from app.composition.generations import create_generations
from app.composition.limiting import Limiting
from app.composition.measures import Measured, Measures
from app.composition.metrics_port import MetricsPort
from app.composition.observing import Observing
from app.composition.own_paths import own_paths
from app.composition.own_routers import OwnRouters, metrics_page
from app.composition.rest import create_rest_api, version
from app.composition.sockets import Sockets
from app.composition.standing import Standing
from app.config import Config
from app.errors import TidegateError
from app.generations.channels import ends_channel
from app.http.api.metrics import metrics_application
from app.http.cached_routes import CachedRoutes
from app.http.dispatch import Dispatch
from app.http.event_stream import EventStreams
from app.http.openapi.following import ApiDocument
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.served_stream import ServedStreams
from app.http.sockets.proxy import PassedOn
from app.http.traced_transport import TracedTransport
from app.http.transport import HttpTransport
from app.observe.tasks import TaskSet
from app.streams.census import Census
from app.streams.control import Replicas
from app.streams.hub import Hub
from app.streams.remote import obey
from app.ws.drain import Drain

__all__ = ["Parts"]

_REVOKED = "revoked"
"""What replicas tell each other of a revocation under."""
_SETTLE = 3.0
"""Seconds that the log gets at the end to take what was appended last."""

_OWN_TABLES = ("auth", "server_api", "server", "served", "generations", "limits")
"""Tables of the configuration that the gateway's own endpoints are made from."""


class Parts:
    """They live from lifespan start-up to shutdown."""

    def __init__(self, config: Config, folder: Path | None = None) -> None:
        """``folder`` is where the processes of one gateway tell each other what they have measured."""
        loop = asyncio.get_running_loop()
        self._config = config
        self._drain_began: float | None = None
        self._drain = Drain(config.server.drain_window)
        self._tasks = TaskSet()
        self._node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

        self._observing = observing = Observing(config, self._node, version())
        self._transport = _transport(config, observing)
        self._transport.start()
        self._hub = Hub(loop.call_soon, ends_channel, time.perf_counter, loop.call_later)
        self._event_streams = EventStreams(self._hub, self._tasks)
        self._served_streams = ServedStreams(self._hub, self._tasks)
        self._backend = create_backend(config, self._node, self._hub)
        self._hub.on_empty = self._backend.broker.unsubscribe
        self._limiting = Limiting(self._backend, config, observing.tallies.limits)
        self._credentials = Credentials(config, self._backend, self._tell_revocation, self._tasks)
        self._events = create_events(config, self._transport, lambda: self._config.generations)
        self._replicas = Replicas(self._node, self._backend.signals)
        self._generations = create_generations(
            config, self._hub, self._backend, self._replicas, self._transport, self._observing, self._limiting
        )
        self._hub.on_signal = self._replicas.receive
        self.sockets = Sockets(
            config,
            self._replicas,
            self._node,
            self._credentials,
            self._generations,
            self._hub,
            self._backend,
            self._limiting.slots,
            self._drain,
            self._tasks,
            observing,
        )
        obey(self._replicas, self.sockets.control)
        self._replicas.on(_REVOKED, lambda body: self._credentials.revocations.learn([from_json(body)]))
        self._credentials.revocations.on_learned = self._end_revoked
        self._open_http(config, folder)
        self._start()

    def _open_http(self, config: Config, folder: Path | None) -> None:
        """Make what answers requests, and what tells of it."""
        observing, table = self._observing, _table(config)
        self._cache = create_cache(config)
        self._proxy = self._create_proxy(config, table)
        self._passed_on = self.sockets.passed_on(
            config, self._transport, self._credentials, self._limiting.limits(config), observing.outcomes,
            self._drain, self._passed_on_ended,
        )  # fmt: skip
        measured = self._measured()
        self._measures = Measures(measured, config, version(), folder)
        self.standing = Standing(config, self._node, measured, self._measures.lag)
        self._census = Census(self._replicas, self._hub.counts, self.standing.description)
        self._document = ApiDocument(self._transport, self._tasks)
        self._document.take(table, config.upstreams)
        self._own_routers = self._create_own_routers()
        self._own = self._own_endpoints(config)
        told = observing.own.tell
        self._dispatch = Dispatch(table, self._proxy, self._own, self._passed_on, told)
        tallies, draining = observing.tallies.http, self.standing.draining
        self.edge = Edge(self._dispatch, config.server, draining, tallies, told, observing.tracing)
        self._metrics_port: MetricsPort | None = None

    def refused(self, error: TidegateError, worked_at: bool) -> None:
        """A request was refused while it was read (:data:`app.http.edge.refusing.Refused`)."""
        self._observing.tallies.http.refused(error.code, error.status, told=worked_at)

    async def start(self) -> None:
        """Let others see what is measured. Raises :exc:`~app.errors.ConfigError` where the port for it is taken."""
        await self._measures.start()
        metrics = self._config.metrics
        if metrics.enabled and metrics.port:
            page = metrics_page(metrics, self._measures.snapshot)
            self._metrics_port = MetricsPort(metrics_application(page), self._config, self._tasks)

    def reload(self, config: Config) -> None:
        """Use another configuration from the next request on; whatever is open stays open.

        What :mod:`app.config.reloading` says cannot change must be the same. Raises
        :exc:`~app.errors.ConfigError` before anything has changed.
        """
        before, own = self._config, self._own
        table = _table(config)
        credentials = self._credentials.prepare(config)
        upstreams = self._transport.prepare(config.upstreams)
        if any(getattr(before, name) != getattr(config, name) for name in _OWN_TABLES):
            own = self._own_endpoints(config)
        upstreams()
        credentials()
        limits = self._limiting.limits(config)
        self._generations.reload(config.generations, config.routes, limits)
        self.sockets.reload(config)
        self.edge.reload(config.server)
        if self._cache is None:
            self._cache = create_cache(config)
        self._proxy.reload(limits, config.server.body_limit, self._cached(table))
        self._passed_on.reload(limits)
        self._document.take(table, config.upstreams)
        self._dispatch.reload(table, own)
        self._config, self._own, self.standing.config = config, own, config

    def _start(self) -> None:
        self._events.start(self._observing.outcomes, self._observing.generations)
        for name, run in self._backend.tasks.items():
            self._tasks.start(run(), name)
        self._tasks.start(self._credentials.revocations.follow(), "revocations")
        self._tasks.start(self._generations.run(), "leases and orphans")
        self._limiting.start(self._tasks)
        self._credentials.follow()

    def _create_proxy(self, config: Config, table: RouteTable) -> Proxy:
        return Proxy(
            self._transport,
            self._credentials.verifier,
            self._limiting.limits(config),
            self._credentials.service_keys,
            body_limit=config.server.body_limit,
            cached=self._cached(table),
            outcomes=self._observing.outcomes,
            tracker=self._generations.tracking,
        )

    def _cached(self, table: RouteTable) -> CachedRoutes | None:
        return None if self._cache is None else CachedRoutes(table, self._cache)

    def begin_drain(self) -> None:
        """This replica is about to stop: tell load balancers."""
        if self._drain_began is not None:
            return
        self._drain_began = time.monotonic()
        self._drain.begin()
        if self._config.server.pid_file is not None:
            told = self.standing.tell_progress(Path(self._config.server.pid_file))
            self._tasks.start(told, "progress of draining")

    def leave(self) -> None:
        """Send the readers of event streams elsewhere; the server does the same with sockets, one by one."""
        self._event_streams.close()

    async def close(self) -> None:
        """End what runs, and let the log have its end."""
        grace = 0.0
        if self._drain_began is not None:
            grace = max(0.0, self._drain_began + self._config.server.drain_grace - time.monotonic())
        await self._generations.close(grace)
        await self._backend.settle(_SETTLE)
        await self._proxy.close()
        if self._cache is not None:
            await self._cache.close()
        await self._replicas.close()
        if self._metrics_port is not None:
            await self._metrics_port.close()
        await self._measures.close()
        await self._tasks.close()
        await self._credentials.close()
        self.sockets.close()
        await self._limiting.close()
        self.edge.close()
        await self._backend.close()
        await self._events.close(self._config.events.stop_timeout)
        await self._transport.close()
        await self._observing.close()

    # Private.

    def _create_own_routers(self) -> OwnRouters:
        return OwnRouters(
            backend=self._backend,
            credentials=self._credentials,
            standing=self.standing,
            generations=self._generations,
            event_streams=self._event_streams,
            served_streams=self._served_streams,
            limiting=self._limiting,
            replicas=self._replicas,
            census=self._census,
            snapshot=self._measures.snapshot,
            tracing=self._observing.tracing,
            uploads=lambda: self._config.generations.upload,
        )

    def _measured(self) -> Measured:
        return Measured(
            tallies=self._observing.tallies,
            hub=self._hub,
            backend=self._backend,
            transport=self._transport,
            generations=self._generations,
            sockets=self.sockets,
            passed_on=self._passed_on,
            cache=lambda: self._cache,
            draining=lambda: self._drain.active,
            lines=self._observing.lines,
            events=self._events.figures,
            events_away=self._events.away,
        )

    def _passed_on_ended(self, socket: PassedOn, seconds: float) -> None:
        self._observing.passed_on_ended(socket, seconds)
        self._events.parted(socket.outcome, socket.splice.ending)

    async def _tell_revocation(self, revocation: Revocation) -> None:
        await self._replicas.tell(_REVOKED, to_json(revocation))

    def _end_revoked(self) -> None:
        """End what is open and stands on a token that is not taken any more."""
        revoked = self._credentials.revocations.revoked
        self.sockets.control.end_revoked(revoked)
        self.sockets.formats.open.end_revoked(revoked)
        self._event_streams.end_revoked(revoked)
        self._served_streams.end_revoked(revoked)
        self._passed_on.end_revoked(revoked)

    def _own_endpoints(self, config: Config) -> ASGIApp:
        return self.sockets.beside(create_rest_api(config, self._own_routers.of(config), self._document))


def _transport(config: Config, observing: Observing) -> HttpTransport:
    meter = observing.tallies.upstreams
    if observing.tracing is None:
        return HttpTransport(config.upstreams, meter=meter)
    return TracedTransport(config.upstreams, meter=meter, tracing=observing.tracing)


def _table(config: Config) -> RouteTable:
    return RouteTable(config.routes, own_paths(config))
