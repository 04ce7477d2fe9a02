"""From a handshake to a session, for all protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from app.auth.identity import ANONYMOUS, Identity
from app.auth.origins import Origins
from app.errors import InvalidToken, PermissionDenied, TidegateError
from app.observe.request_context import context_of
from app.observe.sampling import Sampled
from app.ws.admission import Held
from app.ws.book import Book
from app.ws.commands import NativeCommander
from app.ws.connection import EXTENSION
from app.ws.handshake import SUBPROTOCOL, Credential, Handshake, read_handshake
from app.ws.ports import ConnectionPort
from app.ws.protocols.native import NativeProtocol
from app.ws.recording import RecordedConnection, RecordedSession, Recorder, Track
from app.ws.services import Services
from app.ws.session import Session

__all__ = ["Begin", "Endpoint", "TicketOffice", "begin_native"]

_log = Sampled(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Problem = Callable[[TidegateError], tuple[int, list[tuple[bytes, bytes]], bytes]]


class TicketOffice(Protocol):
    async def redeem(self, ticket: str) -> Identity:
        """Raises :exc:`~app.errors.InvalidToken`, ``TokenExpired`` and ``BrokerUnavailable``."""


class Begin(Protocol):
    """Starts the session of one protocol, in one step, so that nothing arrives before it is there."""

    def __call__(
        self,
        connection: ConnectionPort,
        handshake: Handshake,
        identity: Identity | None,
        error: TidegateError | None,
        on_end: Callable[[Session], None],
    ) -> Session: ...


class Endpoint:
    """The ASGI application of one path. ``problem`` writes an error as an HTTP answer."""

    def __init__(
        self,
        services: Services,
        tickets: TicketOffice,
        origins: Origins,
        problem: Problem,
        book: Book,
        subprotocols: tuple[str, ...] = (SUBPROTOCOL,),
        begin: Begin | None = None,
    ) -> None:
        self._services = services
        self._subprotocols = subprotocols
        self._begin = begin or partial(begin_native, services)
        self._tickets = tickets
        self.origins = origins
        """From which pages browsers may come. May be replaced at any time."""
        self._problem = problem
        self._book = book
        self._end = self._ended

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a handshake. The session that begins with it lives on by itself."""
        await receive()
        try:
            handshake = read_handshake(
                scope,
                subprotocols=self._subprotocols,
                origins=self.origins,
                query_token=self._services.config.query_token,
            )
        except TidegateError as unreadable:
            await self._refuse(send, unreadable)
            return
        if not handshake.origin_allowed:
            _log.warning("a socket of a foreign origin was refused", connection_id=handshake.connection_id)
            await self._refuse(send, PermissionDenied("This origin is not allowed. Add it to server.allowed_origins."))
            return
        try:
            identity, error = await self._identify(handshake.credential), None
        except TidegateError as refused:
            identity, error = None, refused
            if handshake.credential is not None and handshake.credential.kind == "header":
                await self._refuse(send, refused)
                return
        try:
            held = await self._services.admission.admit(address=context_of(scope).client, identity=identity)
        except TidegateError as full:
            await self._refuse(send, full)
            return
        try:
            await send({"type": "websocket.accept", "subprotocol": handshake.subprotocol})
        except BaseException:  # The client is gone.
            self._services.admission.release(held)
            raise
        connection = scope["extensions"][EXTENSION]
        track = None if self._services.recorder is None else self._track(self._services.recorder, scope, handshake)
        self._open(scope, connection, handshake, identity, error, held, track)

    def _open(
        self,
        scope: dict[str, Any],
        connection: Any,
        handshake: Handshake,
        identity: Identity | None,
        error: TidegateError | None,
        held: Held,
        track: Track | None,
    ) -> None:
        if identity is not None:
            try:
                self._services.verifier.check(identity)
            except TidegateError as revoked:  # Since it was verified: from here on its session is found.
                identity, error = None, revoked
        seen: ConnectionPort = connection if track is None else RecordedConnection(connection, track)
        session = self._begin(seen, handshake, identity, error, self._end)
        self._book.opened(session, scope)
        if session.closed:
            self._book.closed(session)
            self._services.admission.release(held)
        else:
            session.held = held
            session.let_in()
        if track is not None and self._services.recorder is not None:
            connection.attach(RecordedSession(session, connection, track, self._services.recorder))
        else:
            connection.attach(session)

    def _track(self, recorder: Recorder, scope: dict[str, Any], handshake: Handshake) -> Track | None:
        """Return the recording of a socket that was chosen for one."""
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "gateway")
        flavour = "native" if SUBPROTOCOL in self._subprotocols else "centrifuge"
        protocol = "raw" if "protobuf" in f"{handshake.subprotocol}{handshake.format}" else flavour
        url = f"{scope['scheme']}://{host}{scope['path']}"
        return recorder.track(handshake.connection_id, url, protocol, handshake.subprotocol)

    def _ended(self, session: Session) -> None:
        self._services.sessions.discard(session)
        self._book.closed(session)
        if session.held:
            self._services.admission.release(session.held)
            session.held = ()

    async def _identify(self, credential: Credential | None) -> Identity | None:
        """Return who a credential stands for; None when the first message must say it."""
        if credential is None:
            return ANONYMOUS if self._services.config.insecure else None
        if credential.kind == "ticket":
            return await self._tickets.redeem(credential.value)
        if not credential.value:
            raise InvalidToken("The token is missing. The form is bearer.<token>.")
        return await self._services.verifier.verified(credential.value)

    async def _refuse(self, send: Send, error: TidegateError) -> None:
        self._book.refused(error)
        status, headers, body = self._problem(error)
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})


def begin_native(
    services: Services,
    connection: ConnectionPort,
    handshake: Handshake,
    identity: Identity | None,
    error: TidegateError | None,
    on_end: Callable[[Session], None],
) -> Session:
    """Start a session of the native protocol."""
    now = services.clock()
    protocol = NativeProtocol(services.config, handshake.connection_id, now)
    session = Session(connection, protocol, services, NativeCommander(protocol), on_end)
    if error is not None:
        session.run(protocol.refused(error))
    elif identity is not None:
        session.run(protocol.authenticated(identity, now))
    return session
