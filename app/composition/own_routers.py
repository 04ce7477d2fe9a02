"""The routers of the gateway's own endpoints, as a configuration wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter

from app.auth.peer import Networks
from app.composition.credentials import Credentials
from app.composition.limiting import Limiting
from app.composition.rest import version
from app.composition.served import served_routers
from app.composition.standing import Standing
from app.config import Config
from app.config.observability import MetricsConfig
from app.config.uploads import UploadConfig
from app.generations.service import Generations
from app.http.api.caller import Caller
from app.http.api.diag import diag_router
from app.http.api.generations import generations_router
from app.http.api.health import health_router
from app.http.api.logout import logout_router
from app.http.api.metrics import MetricsPage, metrics_router
from app.http.api.server import server_router
from app.http.api.server_control import control_methods
from app.http.api.server_methods import ServerMethods
from app.http.api.tickets import tickets_router
from app.http.api.usage import usage_router
from app.http.api.webhooks import webhooks_router
from app.http.event_stream import EventStreams
from app.http.served_stream import ServedStreams
from app.observe.families import Snapshot
from app.observe.tracing import Tracing
from app.streams.backend import Backend
from app.streams.census import Census
from app.streams.control import Replicas
from app.streams.remote import RemoteControl

__all__ = ["OwnRouters", "metrics_page"]

_Snapshots = Callable[[], Awaitable[Snapshot]]


@dataclass(frozen=True)
class OwnRouters:
    """What the endpoints are made from, besides the configuration."""

    backend: Backend
    credentials: Credentials
    standing: Standing
    generations: Generations
    event_streams: EventStreams
    served_streams: ServedStreams
    limiting: Limiting
    replicas: Replicas
    census: Census
    snapshot: _Snapshots
    """Of the figures of all workers."""
    tracing: Tracing | None
    uploads: Callable[[], UploadConfig]
    """What may come with a start that is a form, by the configuration of the moment."""

    def of(self, config: Config) -> list[APIRouter]:
        """Return the routers that ``config`` switches on."""
        known = self.credentials
        caller = Caller(known.verifier, insecure=config.realtime.insecure)
        kinds = {
            name: (kind.upstream, kind.format if kind.job is None else "")
            for name, kind in config.generations.kinds.items()
        }
        limits = self.limiting.limits(config)
        routers = [
            health_router(
                self.standing, config.server.health, version(), limits, Caller(known.verifier, insecure=True)
            ),
            generations_router(self.generations, self.event_streams, caller, known.service_keys, self.uploads, kinds),
            webhooks_router(self.generations.posts),
            tickets_router(known.tickets, caller, config.auth.ticket_ttl),
            logout_router(known.revocations, caller),
            diag_router(),
            usage_router(limits, caller),
        ]
        routers += served_routers(config, self.generations, self.backend.keys, self.served_streams, caller)
        if config.metrics.enabled and not config.metrics.port:
            routers.append(metrics_router(metrics_page(config.metrics, self.snapshot)))
        if config.server_api.keys:
            routers.append(self._server_api(config))
        return routers

    def _server_api(self, config: Config) -> APIRouter:
        control = control_methods(config.realtime, RemoteControl(self.replicas), self.credentials.revocations)
        ports = (self.backend.broker, self.backend.archive, self.backend.presence, self.census)
        calls = ServerMethods(config.realtime, *ports, control)
        return server_router(calls, [key.get_secret_value() for key in config.server_api.keys], self.tracing)


def metrics_page(config: MetricsConfig, snapshot: _Snapshots) -> MetricsPage:
    """Return what shows the figures: on a port of its own to whoever reaches it."""
    key = None if config.key is None else config.key.get_secret_value()
    return MetricsPage(snapshot, key, None if config.port else Networks(config.networks))
