"""Background tasks that are never lost.

A bare ``asyncio.create_task`` may be garbage-collected while it runs, and its exception is seen by nobody. A
:class:`TaskSet` keeps its tasks, logs what they raise, and ends them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

__all__ = ["TaskSet"]

_log = structlog.get_logger(__name__)


class TaskSet:
    """Tasks of one owner. Close it where its owner ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` on the current loop. What it raises is logged under ``name``."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self, grace: float = 0.0) -> None:
        """Wait ``grace`` seconds for the tasks to end by themselves, then cancel the rest and wait for that."""
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks, timeout=grace)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1.0)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("task failed", task=task.get_name(), exc_info=task.exception())
