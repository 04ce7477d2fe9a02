"""Real servers for the services' tests: uvicorn on a free port, in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvicorn

from services.chat.app import create_app, train_built_in_model
from services.chat.model import LanguageModel
from services.chat.settings import ChatSettings

Serve = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(scope="session")
def language() -> LanguageModel:
    return train_built_in_model()


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, port=0, http="httptools", ws="websockets-sansio", log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    # Started and stopped by its own steps: serve() would poll for its end and take over this process's signals.
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        await server.shutdown()


@pytest.fixture
def serve_app() -> Callable[[Any], AbstractAsyncContextManager[str]]:
    """Serve any ASGI application: an async context manager that gives its address."""
    return _serving


@pytest.fixture
def serve(language: LanguageModel) -> Serve:
    """Serve the chat service with these settings; as fast as possible unless they say otherwise."""

    def start(**settings: Any) -> AbstractAsyncContextManager[str]:
        return _serving(create_app(ChatSettings(**{"tokens_per_second": 0, **settings}), language))

    return start
