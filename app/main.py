"""The composition root: the one place that knows all parts and joins them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from app.auth.tickets import Tickets
from app.auth.tokens import TokenVerifier
from app.config import DEVELOPMENT_SECRET, Config
from app.errors import NotFound
from app.generations.channels import ends_channel
from app.generations.merging import EventMergeRule
from app.generations.service import Generations
from app.http.api.app import create_api
from app.http.api.caller import Caller, ServiceKeys
from app.http.api.generations import generations_router
from app.http.api.health import health_router
from app.http.api.playground import playground_router
from app.http.api.server import server_router
from app.http.api.server_methods import ServerMethods
from app.http.api.tickets import tickets_router
from app.http.dispatch import Dispatch
from app.http.event_stream import EventStreams
from app.http.problems import problem
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from app.observe.signals import drained_on_sigterm
from app.observe.tasks import TaskSet
from app.streams.backend import Backend, memory_backend, redis_backend
from app.streams.census import Census
from app.streams.control import Replicas
from app.streams.hub import Hub
from app.ws.centrifuge import endpoint as centrifuge
from app.ws.drain import Drain
from app.ws.endpoint import Endpoint
from app.ws.protocols.centrifuge_encoding import ENCODER
from app.ws.protocols.native_encoding import NativeEncoder
from app.ws.session import Services
from app.ws.ticker import Ticker

__all__ = ["Gateway", "create_app"]

_log = structlog.get_logger(__name__)
_NATIVE_PATH = "/api/v1/ws"
_CENTRIFUGE_PATH = "/connection/websocket"
_SETTLE = 3.0
"""Seconds that the log gets at the end to take what was appended last."""
_WEB = Path(__file__).parent / "web"


def create_app(config: Config) -> Gateway:
    """Return the gateway as an ASGI application; its parts live from lifespan start-up to shutdown.

    Its sockets need uvicorn with ``ws=app.ws.connection.Connection``; :mod:`app.serving` sees to that.
    """
    return Gateway(config)


class Gateway:
    """The ASGI application."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._parts: _Parts | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        assert self._parts is not None, "the server calls lifespan first"
        if scope["type"] == "http":
            await self._parts.dispatch(scope, receive, send)
        elif scope["path"] == _NATIVE_PATH:
            await self._parts.sockets(dict(scope), receive, send)  # type: ignore[arg-type]
        elif scope["path"] == _CENTRIFUGE_PATH:
            await self._parts.centrifuge(dict(scope), receive, send)  # type: ignore[arg-type]
        else:
            await _refuse_socket(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            parts = self._parts = _Parts(self._config)
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        with drained_on_sigterm(parts.begin_drain, parts.leave, self._config.server.drain_delay):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await parts.close()
        await send({"type": "lifespan.shutdown.complete"})


class _Parts:
    """All parts of a running gateway, in the order in which they need each other."""

    def __init__(self, config: Config) -> None:
        loop = asyncio.get_running_loop()
        self._config = config
        self._started = time.monotonic()
        self._drain_began: float | None = None
        self._drain = Drain(config.server.drain_window)
        self._tasks = TaskSet()
        self._node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

        self._verifier = TokenVerifier(config.auth)
        self._transport = HttpTransport(config.upstreams)
        self._hub = Hub(loop.call_soon, ends_channel)
        self._event_streams = EventStreams(self._hub, self._tasks)
        self._backend = _backend(config, self._node, self._hub)
        self._hub.on_empty = self._backend.broker.unsubscribe
        self._generations = Generations(
            config.generations,
            self._hub,
            self._backend.broker,
            self._backend.ledger,
            self._backend.keys,
            self._transport,
        )
        self._replicas = Replicas(self._node, self._backend.signals, self._generations.receive_signal)
        self._hub.on_signal = self._replicas.receive
        self._census = Census(self._replicas, self._hub.counts, self._description)

        tickets = Tickets(self._backend.keys, config.auth.ticket_ttl)
        self._ticker = Ticker(time.time)
        self.sockets = Endpoint(self._socket_services(), tickets, config.server.allowed_origins, problem)
        self._opener = self._centrifuge_opener()
        self.centrifuge = Endpoint(
            self._opener.services,
            tickets,
            config.server.allowed_origins,
            problem,
            centrifuge.SUBPROTOCOL,
            self._opener,
        )
        self._proxy = Proxy(self._transport, self._verifier, body_limit=config.server.body_limit)
        self.dispatch = Dispatch(RouteTable(config.routes), self._proxy, self._api(tickets))

        for name, run in self._backend.tasks.items():
            self._tasks.start(run(), name)
        self._tasks.start(self._generations.run(), "leases and orphans")
        self._tasks.start(self._opener.renew(), "presence")

    def begin_drain(self) -> None:
        """This replica is about to stop: tell load balancers."""
        self._drain_began = time.monotonic()
        self._drain.begin()

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
        await self._replicas.close()
        await self._tasks.close()
        self._ticker.close()
        await self._backend.close()
        await self._transport.close()

    # HealthSource

    def draining(self) -> bool:
        return self._drain.active

    def broker_healthy(self) -> bool:
        return self._backend.healthy()

    def upstream_probes(self) -> Mapping[str, Callable[[float], Awaitable[bool]]]:
        return {name: partial(self._transport.probe, name) for name in self._config.upstreams}

    def figures(self) -> dict[str, Any]:
        return {
            "node": self._node,
            "broker": "redis" if self._config.broker.redis_url is not None else "memory",
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "sockets": len(self.sockets.sessions) + len(self.centrifuge.sessions),
            "channels": self._hub.channels(),
            "generations_running": self._generations.running,
            "messages_delivered": self._hub.delivered,
        }

    # Private.

    def _description(self) -> dict[str, Any]:
        """Describe this replica, as the server API's ``info`` does."""
        sessions = [*self.sockets.sessions, *self.centrifuge.sessions]
        return {
            "name": socket.gethostname(),
            "version": _version(),
            "num_clients": len(sessions),
            "num_users": len({session.identity.user_id for session in sessions}),
            "num_subs": sum(len(session.subscriptions) for session in sessions),
            "num_channels": self._hub.channels(),
            "uptime": round(time.monotonic() - self._started),
        }

    def _socket_services(self) -> Services:
        return Services(
            config=self._config.realtime,
            verifier=self._verifier,
            generations=self._generations,
            hub=self._hub,
            broker=self._backend.broker,
            ticker=self._ticker,
            drain=self._drain,
            tasks=self._tasks,
            encoder=NativeEncoder(),
            rule=EventMergeRule(),
            clock=time.time,
        )

    def _centrifuge_opener(self) -> centrifuge.Opener:
        services = replace(self._socket_services(), encoder=ENCODER)
        backend = self._backend
        ttl = self._config.realtime.presence_ttl
        return centrifuge.Opener(services, self._verifier, backend.presence, backend.archive, {}, ttl)

    def _api(self, tickets: Tickets) -> Any:
        config = self._config
        caller = Caller(self._verifier, insecure=config.realtime.insecure)
        service_keys = ServiceKeys(key.get_secret_value() for key in config.auth.service_keys.values())
        version = _version()
        routers = [
            health_router(self, version),
            generations_router(self._generations, self._event_streams, caller, service_keys),
            tickets_router(tickets, caller, config.auth.ticket_ttl),
        ]
        if config.server_api.keys:
            backend = self._backend
            calls = ServerMethods(config.realtime, backend.broker, backend.archive, backend.presence, self._census)
            routers.append(server_router(calls, [key.get_secret_value() for key in config.server_api.keys]))
        playground = config.server.playground
        api = create_api(
            routers,
            version=version,
            home="/playground/" if playground else "/docs",
            body_limit=config.server.body_limit,
        )
        if playground:
            # Where the secret is everybody's, everybody may have a token of it.
            if config.auth.secret.get_secret_value() == DEVELOPMENT_SECRET and "HS256" in config.auth.algorithms:
                api.include_router(playground_router(config.auth))
            api.mount("/playground", StaticFiles(directory=_WEB / "playground", html=True))
        return api


def _backend(config: Config, node: str, hub: Hub) -> Backend:
    lease, retention = config.generations.lease, config.generations.retention
    presence_ttl = config.realtime.presence_ttl
    if config.broker.redis_url is None:
        return memory_backend(node, hub, lease=lease, retention=retention, presence_ttl=presence_ttl)
    return redis_backend(
        node,
        hub,
        url=config.broker.redis_url.get_secret_value(),
        key_prefix=config.broker.key_prefix,
        lease=lease,
        retention=retention,
        connect_timeout=config.broker.connect_timeout,
        command_timeout=config.broker.command_timeout,
        presence_ttl=presence_ttl,
    )


def _version() -> str:
    try:
        return importlib.metadata.version("tidegate")
    except importlib.metadata.PackageNotFoundError:
        return "0"


async def _refuse_socket(receive: Receive, send: Send) -> None:
    await receive()
    status, headers, body = problem(NotFound("There is no socket at this path."))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
