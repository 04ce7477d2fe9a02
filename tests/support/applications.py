"""Any ASGI application on a free port, in the test's own loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

__all__ = ["serving"]


@asynccontextmanager
async def serving(app: Any, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Give the address at which ``app`` is served."""
    config = uvicorn.Config(
        app, port=0, http="httptools", ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    # Started and stopped by its own steps: serve() would poll for its end and take over this process's signals.
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(None if listener is None else [listener])
    try:
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        await server.shutdown()
