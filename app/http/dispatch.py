"""The front door: requests of the route table go to the proxy, all others to the gateway's own application.

Decides on ``scope["raw_path"]`` and never on a URL that was put together from headers: a malformed Host must not be
able to change which route, and so which policy, applies.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import MethodNotAllowed, TidegateError
from app.http.aborted import quiet_aborted_responses
from app.http.edge.heads import host_name
from app.http.proxy import Proxy, send_problem
from app.http.routes import MethodMismatch, RouteTable
from app.http.sockets.proxy import SocketProxy, refuse_socket
from app.observe.request_context import context_of

__all__ = ["Dispatch"]


class Dispatch:
    """An ASGI application for requests and for WebSocket handshakes that are not for the gateway itself."""

    def __init__(self, table: RouteTable, proxy: Proxy, fallback: ASGIApp, sockets: SocketProxy | None = None) -> None:
        """``fallback`` gets the requests of no route; handshakes of none are answered 404."""
        self._table = table
        self._proxy = proxy
        self._fallback = fallback
        self._sockets = sockets
        quiet_aborted_responses()

    def reload(self, table: RouteTable, fallback: ASGIApp) -> None:
        """Use another table from the next request on."""
        self._table, self._fallback = table, fallback

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "websocket":
            return self._socket(scope, receive, send)
        try:
            table = self._table
            host = host_name(context_of(scope).host) if table.by_host else ""
            match = table.match(scope["method"], scope["raw_path"], host)
        except TidegateError as error:
            return send_problem(send, error)
        if match is None:
            return self._fallback(scope, receive, send)
        if isinstance(match, MethodMismatch):
            return send_problem(send, MethodNotAllowed(), allow=match.allow)
        return self._proxy(scope, receive, send, match)

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
