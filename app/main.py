"""The gateway as an ASGI application. What it is made of is joined in :mod:`app.composition`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import monotonic

import structlog
from starlette.types import Receive, Scope, Send

from app.composition.parts import Parts
from app.config import Config, Source
from app.errors import ConfigError
from app.http.edge.answering import SHORTCUT_KEY
from app.http.edge.guard import STATE_KEY as REQUESTS_KEY
from app.http.edge.refusing import REFUSED_KEY
from app.observe.signals import drained_on_sigterm, reloaded_on_sighup
from app.ws.gate import STATE_KEY as GATE_KEY

__all__ = ["Gateway", "create_app"]

_log = structlog.get_logger(__name__)


def create_app(config: Config, source: Source | None = None, folder: Path | None = None) -> Gateway:
    """Return the gateway as an ASGI application; its parts live from lifespan start-up to shutdown.

    On SIGHUP it reads its configuration again from ``source``, if there is one. ``folder`` is where the processes of
    one gateway tell each other what they have measured.

    It needs uvicorn with ``ws=app.ws.connection.Connection`` and
    ``http=app.composition.server_connection.ServerConnection``; :mod:`app.serving` sees to that.
    """
    return Gateway(config, source, folder)


class Gateway:
    """The ASGI application."""

    def __init__(self, config: Config, source: Source | None = None, folder: Path | None = None) -> None:
        self._config = config
        self._folder = folder
        self._source = source
        self._parts: Parts | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        assert self._parts is not None, "the server calls lifespan first"
        await self._parts.edge(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            parts = self._parts = Parts(self._config, self._folder)
            await parts.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        scope["state"] |= {
            GATE_KEY: parts.sockets.gate,
            REQUESTS_KEY: self._config.server.requests,
            REFUSED_KEY: parts.refused,
            SHORTCUT_KEY: parts.edge.begin,
        }
        with (
            drained_on_sigterm(parts.begin_drain, parts.leave, self._config.server.drain_delay),
            contextlib.nullcontext() if self._source is None else reloaded_on_sighup(self._reload),
        ):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await parts.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _reload(self) -> None:
        """Read the configuration again. One that is faulty changes nothing."""
        assert self._source is not None, "else nobody asks for it"
        assert self._parts is not None, "they are there as long as the signal is listened to"
        began = monotonic()
        try:
            reloaded = self._source.reload(self._config)
            self._parts.reload(reloaded.config)
        except ConfigError as error:
            _log.error("configuration refused, the old one stays", faults=error.message.splitlines())
            return
        self._config = reloaded.config
        if reloaded.needs_restart:
            _log.warning("changes that need a restart were left out", keys=list(reloaded.needs_restart))
        _log.info("configuration reloaded", milliseconds=round((monotonic() - began) * 1000, 1))
