"""Sockets are tested on the loop that they run on; what touches the transport itself, on the other one, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import uvloop


def pytest_asyncio_loop_factories(config, item):
    if item.path.name == "test_connection.py":
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def nothing_failed_unseen(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No client may make the gateway write a traceback."""
    yield
    output = capsys.readouterr()
    assert "Traceback" not in output.out + output.err, output
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
