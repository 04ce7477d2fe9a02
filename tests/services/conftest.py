"""Real servers for the services' tests: uvicorn on a free port, in the test's own loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from services.chat.app import create_app, train_built_in_model
from services.chat.model import LanguageModel
from services.chat.settings import ChatSettings
from tests.support.applications import serving

Serve = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(scope="session")
def language() -> LanguageModel:
    return train_built_in_model()


@pytest.fixture(params=["sqlite", "postgresql"])
def documents_url(request: pytest.FixtureRequest) -> str | None:
    """Of a library's database; None for those of SQLite in its folder."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def serve_app() -> Callable[[Any], AbstractAsyncContextManager[str]]:
    """Serve any ASGI application: an async context manager that gives its address."""
    return serving


@pytest.fixture
def serve(language: LanguageModel) -> Serve:
    """Serve the chat service with these settings; as fast as possible unless they say otherwise."""

    def start(**settings: Any) -> AbstractAsyncContextManager[str]:
        return serving(create_app(ChatSettings(**{"tokens_per_second": 0, **settings}), language))

    return start
