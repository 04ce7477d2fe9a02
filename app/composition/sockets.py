"""The WebSocket side, and what stands in for it: an endpoint for each protocol, by path."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.origins import Origins, origin_allowed
from app.auth.peer import Peers
from app.composition.credentials import Credentials
from app.composition.served_sockets import SocketFormats
from app.config import Config, LimitsConfig, ServerConfig
from app.config.recorder import RecorderConfig
from app.errors import NotFound
from app.generations.merging import EventMergeRule
from app.generations.service import Generations
from app.http.problems import problem
from app.http.sockets.proxy import PassedOn, SocketProxy
from app.http.transport import HttpTransport
from app.limits.limits import Limits
from app.observe.outcomes import Outcomes
from app.observe.recorder import FileRecorder
from app.observe.tasks import TaskSet
from app.streams.backend import Backend
from app.streams.control import Replicas
from app.streams.hub import Hub
from app.streams.slotkeeper import SlotKeeper
from app.ws.admission import Admission
from app.ws.book import Book
from app.ws.centrifuge import endpoint as centrifuge
from app.ws.control import LocalSessions
from app.ws.drain import Drain
from app.ws.emulation.endpoint import POST_METHODS, Door, PostTaker, StreamOpener
from app.ws.emulation.framing import HTTP_STREAM, SSE
from app.ws.emulation.posts import Posts
from app.ws.endpoint import Endpoint
from app.ws.gate import Gate
from app.ws.protocols.native_encoding import NativeEncoder
from app.ws.rates import Rate
from app.ws.services import Services
from app.ws.sessions import Sessions
from app.ws.ticker import Ticker

if TYPE_CHECKING:
    from app.composition.observing import Observing

__all__ = ["Sockets"]

_NATIVE_PATH = "/api/v1/ws"
_CENTRIFUGE_PATH = "/connection/websocket"
_STREAM_PATHS = {"/connection/sse": SSE, "/connection/http_stream": HTTP_STREAM}
_POST_PATH = "/emulation"


def socket_origins(server: ServerConfig) -> Origins:
    """Return whose pages may open sockets: who is named for them, or else who is named for CORS, but never all."""
    return Origins(server.allowed_origins or [origin for origin in server.cors.origins if origin != "*"])


def _rates(limits: LimitsConfig) -> tuple[Rate, Rate] | None:
    if not (limits.commands_rate or limits.bytes_rate):
        return None
    return Rate(limits.commands_rate, limits.commands_burst), Rate(limits.bytes_rate, limits.bytes_burst)


def _recorder(config: RecorderConfig) -> FileRecorder | None:
    """Return who writes sockets down, if anybody is to be."""
    wanted = config.users or config.sessions or config.share
    return FileRecorder(config) if config.folder and wanted else None


class Sockets:
    """All sockets of this replica."""

    def __init__(
        self,
        config: Config,
        replicas: Replicas,
        node: str,
        credentials: Credentials,
        generations: Generations,
        hub: Hub,
        backend: Backend,
        slots: SlotKeeper,
        drain: Drain,
        tasks: TaskSet,
        observing: Observing,
    ) -> None:
        realtime, server, verifier = config.realtime, config.server, credentials.verifier
        self.gate = Gate(server.storm, Peers(server.trusted_proxies, server.forwarded_header))
        self.ticker, self.sessions = Ticker(time.time), Sessions()
        self.admission, self._recorder = Admission(realtime.limits, slots), _recorder(config.recorder)
        services = Services(
            config=realtime,
            verifier=verifier,
            generations=generations,
            hub=hub,
            broker=backend.broker,
            ticker=self.ticker,
            drain=drain,
            admission=self.admission,
            tasks=tasks,
            sessions=self.sessions,
            encoder=NativeEncoder(),
            rule=EventMergeRule(),
            clock=time.time,
            counts=observing.tallies.sockets,
            rates=_rates(realtime.limits),
            recorder=self._recorder,
            tracing=observing.tracing,
        )
        opener = centrifuge.Opener(services, verifier, backend.presence, backend.archive, {}, realtime.presence_ttl)
        origins = self._origins = socket_origins(server)
        door = (credentials.tickets, origins, problem)
        book: Callable[[str], Book] = partial(
            Book, counts=services.counts, clock=services.clock, line=observing.socket_ended
        )
        self._native = Endpoint(services, *door, book("native"))
        self._centrifuge = Endpoint(services, *door, book("centrifuge"), centrifuge.SUBPROTOCOLS, opener)
        self.endpoints: dict[str, Callable[..., Awaitable[None]]] = {
            _NATIVE_PATH: self._native,
            _CENTRIFUGE_PATH: self._centrifuge,
        }
        """ASGI applications of type ``websocket``, by path."""
        self.formats = SocketFormats(services, credentials.tickets, backend.keys, lambda: self._origins)
        self._served = self.formats.endpoints(config)
        self.doors: dict[str, Callable[..., Awaitable[None]]] = {}
        """Those of type ``http``, which stand in for sockets."""
        self._doors: list[Door] = []
        if realtime.emulation.enabled:
            self._emulate(opener, Posts(replicas), node, origins, book)
        self.control = LocalSessions(self.sessions)
        """What back ends do to them."""
        tasks.start(opener.renew(), "presence")

    def reload(self, config: Config) -> None:
        """Take other origins, from the next handshake on."""
        self._origins = socket_origins(config.server)
        self._native.origins = self._centrifuge.origins = self._origins
        for door in self._doors:
            door.origins = self._origins
        self._served = self.formats.endpoints(config)

    def origin_allowed(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether the page that asks may open a socket."""
        return origin_allowed(headers, self._origins)

    def passed_on(
        self,
        config: Config,
        transport: HttpTransport,
        credentials: Credentials,
        limits: Limits,
        outcomes: Outcomes,
        drain: Drain,
        ended: Callable[[PassedOn, float], None],
    ) -> SocketProxy:
        """Return what passes sockets of routes on, which count and leave as these do."""
        return SocketProxy(
            transport,
            credentials.verifier,
            credentials.service_keys,
            credentials.tickets,
            self.admission,
            limits,
            config.realtime,
            origin_allowed=self.origin_allowed,
            clock=time.time,
            clockwork=self.ticker,
            delay=drain.delay,
            outcomes=outcomes,
            ended=ended,
        )

    def beside(self, others: ASGIApp) -> ASGIApp:
        """Return an application that answers where sockets are, or stood in for, and leaves the rest to ``others``."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                # A handshake's endpoint forgets its scope in the end, which is the server's.
                path = scope["path"]
                endpoint = self.endpoints.get(path) or self._served.get(path, _refuse)
                await endpoint(dict(scope), receive, send)
            else:
                await self.doors.get(scope["path"], others)(scope, receive, send)

        return answer

    def _emulate(
        self, opener: centrifuge.Opener, posts: Posts, node: str, origins: Origins, book: Callable[[str], Book]
    ) -> None:
        """Serve sessions of the Centrifuge protocol without a WebSocket."""
        for path, transport in _STREAM_PATHS.items():
            stream = StreamOpener(transport, opener, posts, node, self.gate, book(path.rpartition("/")[2]))
            self.doors[path] = self._door(Door(stream, transport.methods, origins, problem))
        post = PostTaker(opener.services.config, posts)
        self.doors[_POST_PATH] = self._door(Door(post, POST_METHODS, origins, problem))

    def _door(self, door: Door) -> Door:
        self._doors.append(door)
        return door

    def close(self) -> None:
        """Stop looking after sockets; the server has closed them, and their tasks have ended."""
        self.ticker.close()
        if self._recorder is not None:
            self._recorder.close()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    status, headers, body = problem(NotFound("There is no socket at this path."))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
