"""SIGTERM, taken before the server takes it, and SIGHUP.

uvicorn answers SIGTERM by closing its port at once; a load balancer that has not noticed yet then sends requests into
the void. So the signal is caught first, and handed on to the server when the time has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import structlog

__all__ = ["drained_on_sigterm", "reloaded_on_sighup"]

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def drained_on_sigterm(begin: Callable[[], None], leave: Callable[[], None], delay: float) -> Iterator[None]:
    """On SIGTERM call ``begin``, and after ``delay`` seconds ``leave`` and then who had the signal before.

    Nothing is done outside of the main thread, or where nobody had it.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        leave()
        before(number, frame)

    def start(number: int, frame: FrameType | None) -> None:
        _log.info("draining", seconds=delay)
        begin()
        loop.call_later(delay, stop, number, frame)

    def caught(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(start, number, frame)

    signal.signal(signal.SIGTERM, caught)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def reloaded_on_sighup(reload: Callable[[], None]) -> Iterator[None]:
    """On SIGHUP call ``reload``, on the event loop. Nothing is done outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def caught(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(reload)

    before = signal.signal(signal.SIGHUP, caught)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
