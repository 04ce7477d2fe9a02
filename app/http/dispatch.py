"""The front door: requests of the route table go to the proxy, all others to the gateway's own application.

Decides on ``scope["raw_path"]`` and never on a URL that was put together from headers: a malformed Host must not be
able to change which route, and so which policy, applies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import MethodNotAllowed, TidegateError
from app.http.aborted import quiet_aborted_responses
from app.http.answers import send_problem
from app.http.edge.heads import host_name
from app.http.own_requests import OwnRequests, own_outcome
from app.http.passage import Client
from app.http.proxy import Proxy
from app.http.routes import Match, MethodMismatch, RouteTable
from app.http.sockets.proxy import SocketProxy
from app.http.sockets.refusals import refuse_socket
from app.observe.outcomes import Ended, Outcome
from app.observe.request_context import context_of

__all__ = ["Dispatch"]


class Dispatch:
    """An ASGI application for requests and for WebSocket handshakes that are not for the gateway itself."""

    def __init__(
        self,
        table: RouteTable,
        proxy: Proxy,
        fallback: ASGIApp,
        sockets: SocketProxy | None = None,
        told: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        """``fallback`` gets the requests of no route; handshakes of none are answered 404. ``told`` is told of all that
        the proxy does not get."""
        self._told = told
        self._table = table
        self._proxy = proxy
        self._fallback = OwnRequests(fallback, table.own, told)
        self._sockets = sockets
        quiet_aborted_responses()

    def reload(self, table: RouteTable, fallback: ASGIApp) -> None:
        """Use another table from the next request on."""
        self._table, self._fallback = table, OwnRequests(fallback, table.own, self._told)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "websocket":
            return self._socket(scope, receive, send)
        try:
            table = self._table
            host = host_name(context_of(scope).host) if table.by_host else ""
            match = table.match(scope["method"], scope["raw_path"], host)
        except TidegateError as error:
            if scope["raw_path"] == b"*" and scope["method"] == "OPTIONS":  # of the server as a whole: RFC 9110, 9.3.7
                return _answer_nothing(send)
            return self._refuse(scope, send, error)
        if match is None:
            return self._fallback(scope, receive, send)
        if isinstance(match, MethodMismatch):
            return self._refuse(scope, send, MethodNotAllowed(), match.allow)
        return self._proxy(scope, receive, send, match)

    def begin(self, scope: Scope, client: Client) -> bool:
        """Serve a request whose body has come as :meth:`Proxy.begin` does, where it is of a route."""
        try:
            table = self._table
            host = host_name(context_of(scope).host) if table.by_host else ""
            match = table.match(scope["method"], scope["raw_path"], host)
        except TidegateError:
            return False
        return isinstance(match, Match) and self._proxy.begin(scope, match, client)

    async def _refuse(self, scope: Scope, send: Send, error: TidegateError, allow: tuple[str, ...] = ()) -> None:
        outcome = own_outcome(context_of(scope), scope["method"], scope["raw_path"].decode("latin-1"))
        outcome.status, outcome.ended, outcome.error = error.status, Ended.REFUSED, error.code
        try:
            await send_problem(send, error, allow=allow)
        finally:
            self._told(outcome)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            table = self._table
            host = host_name(context_of(scope).host) if table.by_host else ""
            match = table.match_socket(scope["raw_path"], host)
        except TidegateError as error:
            await receive()
            await refuse_socket(send, error)
            return
        if match is None or self._sockets is None:
            await self._fallback(scope, receive, send)
        else:
            await self._sockets(scope, receive, send, match)


async def _answer_nothing(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
