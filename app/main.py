"""The gateway as an ASGI application. What it is made of is joined in :mod:`app.composition`."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from app.composition.parts import Parts
from app.config import Config
from app.errors import NotFound
from app.http.problems import problem
from app.observe.signals import drained_on_sigterm
from app.ws.gate import STATE_KEY

__all__ = ["Gateway", "create_app"]


def create_app(config: Config) -> Gateway:
    """Return the gateway as an ASGI application; its parts live from lifespan start-up to shutdown.

    Its sockets need uvicorn with ``ws=app.ws.connection.Connection``, and those that do without a WebSocket
    ``http=app.ws.emulation.connection.HttpConnection``; :mod:`app.serving` sees to that.
    """
    return Gateway(config)


class Gateway:
    """The ASGI application."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._parts: Parts | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        assert self._parts is not None, "the server calls lifespan first"
        if scope["type"] == "http":
            await self._parts.dispatch(scope, receive, send)
            return
        endpoint = self._parts.sockets.endpoints.get(scope["path"])
        if endpoint is None:
            await _refuse_socket(receive, send)
        else:
            await endpoint(dict(scope), receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            parts = self._parts = Parts(self._config)
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        scope["state"][STATE_KEY] = parts.sockets.gate
        with drained_on_sigterm(parts.begin_drain, parts.leave, self._config.server.drain_delay):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await parts.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _refuse_socket(receive: Receive, send: Send) -> None:
    await receive()
    status, headers, body = problem(NotFound("There is no socket at this path."))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
