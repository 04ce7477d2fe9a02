"""All parts of a running gateway, in the order in which they need each other."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from pathlib import Path

from fastapi import APIRouter
from starlette.types import ASGIApp

from app.auth.peer import Networks
from app.auth.revocation import Revocation, Revocations, from_json, to_json
from app.auth.service_keys import ServiceKeys
from app.auth.tickets import Tickets
from app.auth.tokens import TokenVerifier
from app.composition.broker import create_backend
from app.composition.cache import create_cache
from app.composition.edge import Edge
from app.composition.events import create_events
from app.composition.generations import create_generations
from app.composition.limiting import Limiting
from app.composition.measures import Measured, Measures
from app.composition.metrics_port import MetricsPort
from app.composition.observing import Observing
from app.composition.own_paths import own_paths
from app.composition.rest import create_rest_api, version
from app.composition.served import served_routers
from app.composition.sockets import Sockets
from app.composition.standing import Standing
from app.config import Config
from app.errors import TidegateError
from app.generations.channels import ends_channel
from app.http.access import kept_claims
from app.http.api.caller import Caller
from app.http.api.diag import diag_router
from app.http.api.generations import generations_router
from app.http.api.health import health_router
from app.http.api.logout import logout_router
from app.http.api.metrics import MetricsPage, metrics_application, metrics_router
from app.http.api.server import server_router
from app.http.api.server_control import control_methods
from app.http.api.server_methods import ServerMethods
from app.http.api.tickets import tickets_router
from app.http.api.usage import usage_router
from app.http.api.webhooks import webhooks_router
from app.http.cached_routes import CachedRoutes
from app.http.dispatch import Dispatch
from app.http.event_stream import EventStreams
from app.http.openapi.following import ApiDocument
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.served_stream import ServedStreams
from app.http.sockets.proxy import PassedOn, SocketProxy
from app.http.traced_transport import TracedTransport
from app.http.transport import HttpTransport
from app.observe.tasks import TaskSet
from app.streams.census import Census
from app.streams.control import Replicas
from app.streams.hub import Hub
from app.streams.remote import RemoteControl, obey
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
        self._hub = Hub(loop.call_soon, ends_channel)
        self._event_streams = EventStreams(self._hub, self._tasks)
        self._served_streams = ServedStreams(self._hub, self._tasks)
        self._backend = create_backend(config, self._node, self._hub)
        self._hub.on_empty = self._backend.broker.unsubscribe
        self._limiting = Limiting(self._backend, config, observing.tallies.limits)
        self._revocations = Revocations(config.auth, self._backend.revocations, self._tell_revocation)
        self._verifier = TokenVerifier(config.auth, kept_claims(config.routes), self._revocations.revoked)
        self._events = create_events(config, self._transport, lambda: self._config.generations)
        self._generations = create_generations(
            config, self._hub, self._backend, self._transport, self._observing, self._limiting
        )
        self._replicas = Replicas(self._node, self._backend.signals, self._generations.receive_signal)
        self._hub.on_signal = self._replicas.receive
        self._tickets = Tickets(self._backend.keys, config.auth.ticket_ttl, self._revocations.revoked)
        self.sockets = Sockets(
            config,
            self._replicas,
            self._node,
            self._verifier,
            self._generations,
            self._hub,
            self._backend,
            self._limiting.slots,
            self._tickets,
            self._drain,
            self._tasks,
            observing.tallies.sockets,
            observing.socket_ended,
        )
        self._followers: list[asyncio.Task[None]] = []
        obey(self._replicas, self.sockets.control)
        self._replicas.on(_REVOKED, lambda body: self._revocations.learn([from_json(body)]))
        self._revocations.on_learned = self._end_revoked
        self._service_keys = ServiceKeys(_service_keys(config))
        self._open_http(config, folder)
        self._start()

    def _open_http(self, config: Config, folder: Path | None) -> None:
        """Make what answers requests, and what tells of it."""
        observing, table = self._observing, _table(config)
        self._cache = create_cache(config)
        self._proxy = self._create_proxy(config, table)
        self._passed_on = self._socket_proxy(config)
        measured = self._measured()
        self._measures = Measures(measured, config, version(), folder)
        self.standing = Standing(config, self._node, measured, self._measures.lag)
        self._census = Census(self._replicas, self._hub.counts, self.standing.description)
        self._document = ApiDocument(self._transport, self._tasks)
        self._document.take(table, config.upstreams)
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
            self._metrics_port = MetricsPort(metrics_application(self._metrics_page()), self._config, self._tasks)

    def reload(self, config: Config) -> None:
        """Use another configuration from the next request on; whatever is open stays open.

        What :mod:`app.config.reloading` says cannot change must be the same. Raises
        :exc:`~app.errors.ConfigError` before anything has changed.
        """
        before, own = self._config, self._own
        table = _table(config)
        claims = kept_claims(config.routes)
        verifier = None
        if config.auth != before.auth or claims != kept_claims(before.routes):
            verifier = self._verifier.prepare(config.auth, claims)
        upstreams = self._transport.prepare(config.upstreams)
        if any(getattr(before, name) != getattr(config, name) for name in _OWN_TABLES):
            own = self._own_endpoints(config)
        upstreams()
        if verifier is not None:
            for source in self._verifier.sources:
                self._tasks.start(source.close(), "end of keys of issuers")
            verifier()
            self._follow_keys()
        self._service_keys.take(_service_keys(config))
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
        self._tasks.start(self._revocations.follow(), "revocations")
        self._tasks.start(self._generations.run(), "leases and orphans")
        self._limiting.start(self._tasks)
        self._follow_keys()

    def _follow_keys(self) -> None:
        """Keep the keys of the verifier's issuers fresh, and no others."""
        for follower in self._followers:
            follower.cancel()
        self._followers = [self._tasks.start(source.follow(), "keys of issuers") for source in self._verifier.sources]

    def _create_proxy(self, config: Config, table: RouteTable) -> Proxy:
        return Proxy(
            self._transport,
            self._verifier,
            self._limiting.limits(config),
            self._service_keys,
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
        for source in self._verifier.sources:
            await source.close()
        self.sockets.close()
        await self._limiting.close()
        self.edge.close()
        await self._backend.close()
        await self._events.close(self._config.events.stop_timeout)
        await self._transport.close()
        await self._observing.close()

    # Private.

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

    def _metrics_page(self) -> MetricsPage:
        """Return what shows the figures: on a port of its own to whoever reaches it."""
        metrics = self._config.metrics
        key = None if metrics.key is None else metrics.key.get_secret_value()
        return MetricsPage(self._measures.snapshot, key, None if metrics.port else Networks(metrics.networks))

    def _socket_proxy(self, config: Config) -> SocketProxy:
        return SocketProxy(
            self._transport,
            self._verifier,
            self._service_keys,
            self._tickets,
            self.sockets.admission,
            self._limiting.limits(config),
            config.realtime,
            origin_allowed=self.sockets.origin_allowed,
            clock=time.time,
            clockwork=self.sockets.ticker,
            delay=self._drain.delay,
            outcomes=self._observing.outcomes,
            ended=self._passed_on_ended,
        )

    def _passed_on_ended(self, socket: PassedOn, seconds: float) -> None:
        self._observing.passed_on_ended(socket, seconds)
        self._events.parted(socket.outcome, socket.splice.ending)

    async def _tell_revocation(self, revocation: Revocation) -> None:
        await self._replicas.tell(_REVOKED, to_json(revocation))

    def _end_revoked(self) -> None:
        """End what is open and stands on a token that is not taken any more."""
        self.sockets.control.end_revoked(self._revocations.revoked)
        self._event_streams.end_revoked(self._revocations.revoked)
        self._served_streams.end_revoked(self._revocations.revoked)
        self.sockets.formats.open.end_revoked(self._revocations.revoked)
        self._passed_on.end_revoked(self._revocations.revoked)

    def _own_endpoints(self, config: Config) -> ASGIApp:
        return self.sockets.beside(create_rest_api(config, self._routers(config), self._document))

    def _routers(self, config: Config) -> list[APIRouter]:
        backend = self._backend
        caller = Caller(self._verifier, insecure=config.realtime.insecure)
        kinds = {
            name: (kind.upstream, kind.format if kind.job is None else "")
            for name, kind in config.generations.kinds.items()
        }
        routers = [
            health_router(
                self.standing,
                config.server.health,
                version(),
                self._limiting.limits(config),
                Caller(self._verifier, insecure=True),
            ),
            generations_router(
                self._generations,
                self._event_streams,
                caller,
                self._service_keys,
                lambda: self._config.generations.upload,
                kinds,
            ),
            webhooks_router(self._generations.posts),
            tickets_router(self._tickets, caller, config.auth.ticket_ttl),
            logout_router(self._revocations, caller),
            diag_router(),
            usage_router(self._limiting.limits(config), caller),
        ]
        routers += served_routers(config, self._generations, backend.keys, self._served_streams, caller)
        if config.metrics.enabled and not config.metrics.port:
            routers.append(metrics_router(self._metrics_page()))
        if config.server_api.keys:
            control = control_methods(config.realtime, RemoteControl(self._replicas), self._revocations)
            ports = (backend.broker, backend.archive, backend.presence, self._census)
            calls = ServerMethods(config.realtime, *ports, control)
            secrets = [key.get_secret_value() for key in config.server_api.keys]
            routers.append(server_router(calls, secrets, self._observing.tracing))
        return routers


def _transport(config: Config, observing: Observing) -> HttpTransport:
    meter = observing.tallies.upstreams
    if observing.tracing is None:
        return HttpTransport(config.upstreams, meter=meter)
    return TracedTransport(config.upstreams, meter=meter, tracing=observing.tracing)


def _table(config: Config) -> RouteTable:
    return RouteTable(config.routes, own_paths(config))


def _service_keys(config: Config) -> list[str]:
    return [key.get_secret_value() for key in config.auth.service_keys.values()]
