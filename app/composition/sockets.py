"""The WebSocket side: an endpoint for each protocol, by path."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator

from app.auth.tickets import Tickets
from app.auth.tokens import TokenVerifier
from app.config import Config
from app.generations.merging import EventMergeRule
from app.generations.service import Generations
from app.http.problems import problem
from app.observe.tasks import TaskSet
from app.streams.backend import Backend
from app.streams.hub import Hub
from app.ws.centrifuge import endpoint as centrifuge
from app.ws.drain import Drain
from app.ws.endpoint import Endpoint
from app.ws.protocols.native_encoding import NativeEncoder
from app.ws.session import Services, Session
from app.ws.ticker import Ticker

__all__ = ["Sockets"]

_NATIVE_PATH = "/api/v1/ws"
_CENTRIFUGE_PATH = "/connection/websocket"


class Sockets:
    """All sockets of this replica."""

    def __init__(
        self,
        config: Config,
        verifier: TokenVerifier,
        generations: Generations,
        hub: Hub,
        backend: Backend,
        tickets: Tickets,
        drain: Drain,
        tasks: TaskSet,
    ) -> None:
        realtime, origins = config.realtime, config.server.allowed_origins
        self._ticker = Ticker(time.time)
        services = Services(
            config=realtime,
            verifier=verifier,
            generations=generations,
            hub=hub,
            broker=backend.broker,
            ticker=self._ticker,
            drain=drain,
            tasks=tasks,
            encoder=NativeEncoder(),
            rule=EventMergeRule(),
            clock=time.time,
        )
        opener = centrifuge.Opener(services, verifier, backend.presence, backend.archive, {}, realtime.presence_ttl)
        self._native = Endpoint(services, tickets, origins, problem)
        self._centrifuge = Endpoint(services, tickets, origins, problem, centrifuge.SUBPROTOCOLS, opener)
        self.endpoints: dict[str, Callable[..., Awaitable[None]]] = {
            _NATIVE_PATH: self._native,
            _CENTRIFUGE_PATH: self._centrifuge,
        }
        """ASGI applications of type ``websocket``, by path."""
        tasks.start(opener.renew(), "presence")

    def sessions(self) -> Iterator[Session]:
        """Yield those that are there."""
        yield from self._native.sessions
        yield from self._centrifuge.sessions

    def count(self) -> int:
        return len(self._native.sessions) + len(self._centrifuge.sessions)

    def close(self) -> None:
        """Stop looking after sockets; the server has closed them."""
        self._ticker.close()
