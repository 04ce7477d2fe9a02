"""Work for threads, bounded: so many at once, so many that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from services.web.errors import Unavailable

__all__ = ["Threads"]

_T = TypeVar("_T")


class Threads:
    """``workers`` threads; ``queue`` calls may wait for one."""

    def __init__(self, name: str, workers: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._most = workers + queue
        self._under_way = 0

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call ``function`` in a thread. Raises ``Unavailable`` when too many wait already."""
        if self._under_way >= self._most:
            raise Unavailable("Too much is asked at once. Try again in a moment.")
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        # A thread works on when its caller has gone: it counts until its end.
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def close(self) -> None:
        """Take no more; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # Looked at, or the loop would complain where the caller has gone.
