"""Several workers and the process that watches them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.gateway import Process

BELOW_UVICORNS_PATIENCE = 30.0
"""Seconds; a worker that does not answer is given up after sixty."""


def workers(gateway: Process) -> set[int]:
    found = set()
    for child in psutil.Process(gateway.process.pid).children():
        with contextlib.suppress(psutil.Error):  # It may go while it is looked at.
            if any("spawn_main" in word for word in child.cmdline()):
                found.add(child.pid)
    return found


def wait_until(condition: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Process]:
    file = tmp_path / "gateway.toml"
    file.write_text('[server]\nworkers = 2\nlog_level = "error"\nplayground = false\n')
    running = Process(file)
    try:
        yield running
    finally:
        running.stop()


def test_a_worker_that_dies_while_it_is_asked_is_replaced_at_once(gateway: Process) -> None:
    wait_until(lambda: len(workers(gateway)) == 2, BELOW_UVICORNS_PATIENCE)
    before = workers(gateway)
    victim = min(before)
    os.kill(victim, signal.SIGSTOP)
    time.sleep(1.5)  # It is asked every half second, and cannot answer.
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers(gateway) - {victim}) == 2, BELOW_UVICORNS_PATIENCE)
    assert workers(gateway) & before == before - {victim}
