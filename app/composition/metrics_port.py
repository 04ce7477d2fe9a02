"""A port for ``/metrics`` alone, which all processes of a gateway share: each can tell for all."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from app.config import Config
from app.errors import ConfigError
from app.observe.tasks import TaskSet

__all__ = ["MetricsPort"]

_STOP = 2
"""Seconds that a scrape at the end may take."""


class MetricsPort:
    """Raises :exc:`~app.errors.ConfigError` where the port is another program's."""

    def __init__(self, app: ASGIApp, config: Config, tasks: TaskSet) -> None:
        metrics = config.metrics
        family = socket.AF_INET6 if ":" in metrics.host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if config.server.workers > 1:
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._listener.bind((metrics.host, metrics.port))
        except OSError as error:
            self._listener.close()
            raise ConfigError(
                f"metrics.port: {metrics.host}:{metrics.port} cannot be listened on ({error.strerror})."
            ) from None
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_STOP,
            )
        )
        self._task = tasks.start(self._server.serve([self._listener]), "port of the metrics")

    async def close(self) -> None:
        self._server.should_exit = True
        with contextlib.suppress(Exception):
            await self._task
        self._listener.close()


class _Server(uvicorn.Server):
    """A server that leaves signals to the gateway's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
