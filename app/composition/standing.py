"""How a running gateway stands: what it tells probes, back ends and ``tidegate drain`` of itself."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from app.composition.measures import Measured
from app.composition.rest import version
from app.config import Config
from app.observe.pidfile import Progress
from app.observe.process import LoopLag

__all__ = ["Standing"]

_TELL = 0.2
"""Seconds between two words on what is left while draining."""


class Standing:
    """A :class:`~app.http.api.health.HealthSource`. ``config`` is what counts now, and may be replaced."""

    def __init__(self, config: Config, node: str, measured: Measured, lag: LoopLag) -> None:
        self.config = config
        self._node = node
        self._of = measured
        self._lag = lag
        self._started = time.monotonic()

    def draining(self) -> bool:
        return self._of.draining()

    def broker_healthy(self) -> bool:
        return self._of.backend.healthy()

    def upstreams_away(self) -> list[str]:
        sinks = [f"events.{label}" for label in self._of.events_away()]
        return [*self._of.transport.away(), *sinks]

    def upstream_probes(self) -> Mapping[str, Callable[[float], Awaitable[bool]]]:
        set_up = (name for name, upstream in self.config.upstreams.items() if upstream.set_up)
        return {name: partial(self._of.transport.probe, name) for name in set_up}

    def figures(self) -> dict[str, Any]:
        of, cache, broker = self._of, self._of.cache(), self._of.backend.figures()
        return {
            "node": self._node,
            "broker": "redis" if self.config.broker.shared else "memory",
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "sockets": len(of.sockets.sessions),
            "sockets_passed_on": len(of.passed_on),
            "sockets_served": len(of.sockets.formats.open.open),
            "channels": of.hub.channels(),
            "generations_running": of.generations.running,
            "webhooks": dict(of.generations.posts.counts),
            "messages_delivered": of.hub.delivered,
            "event_loop_lag_seconds": round(self._lag.last, 6),
            "redis": {link.name: link._asdict() for link in broker.links},
            "messages_unwritten": broker.unwritten,
            "events": of.events(),
            "cache": {} if cache is None else cache.counts.figures(),
            "upstreams": {name: of.transport.figures(name) for name in self.config.upstreams},
        }

    def description(self) -> dict[str, Any]:
        """Describe this replica, as the server API's ``info`` does."""
        sessions = self._of.sockets.sessions
        return {
            "name": socket.gethostname(),
            "version": version(),
            "num_clients": len(sessions),
            "num_users": len({session.identity.user_id for session in sessions}),
            "num_subs": sum(len(session.subscriptions) for session in sessions),
            "num_channels": self._of.hub.channels(),
            "uptime": round(time.monotonic() - self._started),
        }

    async def tell_progress(self, pid_file: Path) -> None:
        """Say how much is left while draining, for ``tidegate drain``, until cancelled."""
        of, progress = self._of, Progress(pid_file)
        try:
            while True:
                sockets = len(of.sockets.sessions) + len(of.sockets.formats.open.open) + len(of.passed_on)
                progress.tell(sockets=sockets, generations=of.generations.running)
                await asyncio.sleep(_TELL)
        finally:
            progress.end()
