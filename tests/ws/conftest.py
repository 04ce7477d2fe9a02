"""Sockets are tested on the loop that they run on; what touches the transport itself, on the other one, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop


def pytest_asyncio_loop_factories(config, item):
    if item.path.name == "test_connection.py":
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def nothing_failed_unseen(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No client may make the gateway write a traceback."""
    yield
    assert "Traceback" not in (err := capsys.readouterr().err), err
