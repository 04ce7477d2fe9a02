"""From a handshake to a served socket: origin, who asks, limits; then one task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.auth.api_keys import ApiKeys
from app.auth.identity import ANONYMOUS, Identity
from app.auth.origins import Origins
from app.errors import PermissionDenied, TidegateError, TokenRevoked, Unauthenticated
from app.limits.callers import counted_caller
from app.observe.request_context import context_of
from app.ws.connection import EXTENSION, Connection
from app.ws.endpoint import Problem, Receive, Send, TicketOffice
from app.ws.handshake import Credential, read_handshake
from app.ws.served.socket import ServedSocket
from app.ws.services import Services

__all__ = ["ServedEndpoint", "ServedSockets"]

_log = structlog.get_logger(__name__)


@dataclass
class ServedSockets:
    """The served sockets of this replica."""

    open: set[ServedSocket] = field(default_factory=set)

    def end_revoked(self, revoked: Callable[[Identity], bool]) -> None:
        """Close those whose token was revoked."""
        for socket in [socket for socket in self.open if revoked(socket.identity)]:
            socket.end(TokenRevoked())


class ServedEndpoint:
    """The ASGI application of one path."""

    def __init__(
        self,
        services: Services,
        tickets: TicketOffice,
        keys: ApiKeys,
        origins: Callable[[], Origins],
        problem: Problem,
        sockets: ServedSockets,
        serve: Callable[[ServedSocket], Awaitable[None]],
        *,
        anonymous: bool = False,
        max_message: int,
    ) -> None:
        """``serve`` is a socket's whole life; ``anonymous`` lets callers without a token in."""
        self._services = services
        self._tickets = tickets
        self._keys = keys
        self._origins = origins
        self._problem = problem
        self._sockets = sockets
        self._serve = serve
        self._anonymous = anonymous or services.config.insecure
        self._max_message = max_message

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a handshake. What begins with it lives on by itself."""
        await receive()
        services = self._services
        try:
            identity, subprotocol = await self._let_in(scope)
            held = await services.admission.admit(address=context_of(scope).client, identity=identity)
        except TidegateError as error:
            status, headers, body = self._problem(error)
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": body})
            return
        try:
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
        except BaseException:  # The client is gone.
            services.admission.release(held)
            raise
        connection: Connection = scope["extensions"][EXTENSION]
        connection.admit_messages(self._max_message)
        socket = ServedSocket(connection, counted_caller(scope, identity), services.clock())
        self._sockets.open.add(socket)
        socket.task = services.tasks.start(self._live(socket), "a served socket")
        socket.task.add_done_callback(lambda _: services.admission.release(held))
        connection.attach(socket)

    async def _let_in(self, scope: dict[str, Any]) -> tuple[Identity, str | None]:
        config = self._services.config
        handshake = read_handshake(scope, origins=self._origins(), query_token=config.query_token)
        if not handshake.origin_allowed:
            raise PermissionDenied("This origin is not allowed. Add it to server.allowed_origins.")
        identity = await self._identify(handshake.credential)
        self._services.verifier.check(identity)
        return identity, handshake.subprotocol

    async def _identify(self, credential: Credential | None) -> Identity:
        if credential is None:
            if self._anonymous:
                return ANONYMOUS
            raise Unauthenticated("Send a token: Authorization: Bearer <token>, or a ticket.")
        if credential.kind == "ticket":
            return await self._tickets.redeem(credential.value)
        owner = self._keys.owner(credential.value)
        return owner if owner is not None else await self._services.verifier.verified(credential.value)

    async def _live(self, socket: ServedSocket) -> None:
        try:
            await self._serve(socket)
        except TidegateError as error:
            socket.end(error)
        except Exception:
            _log.exception("a served socket failed")
            socket.end(TidegateError())
        finally:
            socket.close(1000, "Done.")
            self._sockets.open.discard(socket)
