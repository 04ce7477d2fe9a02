"""Publications that are acknowledged only once Redis's own replicas have them.

Redis copies to its replicas after it has answered. So a master that dies can take with it what was just acknowledged,
and where nobody heard it who still lives, nobody can tell that it is missing. Here a batch of publications ends with a
``WAIT``: what waits meanwhile is the next batch. That blocks the connection, so it is one of its own. A batch that has
not enough copies in time is not acknowledged: it may be there or not, which is what its publishers are told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from app.errors import BrokerUnavailable
from app.observe.tasks import TaskSet
from app.streams.redis.client import Client
from app.streams.redis.script import Script

__all__ = ["Copies"]

_MOST_WAITING = 10_000
_AT_ONCE = 1_000

Call = tuple[Sequence[str], Sequence[Any], "asyncio.Future[Any]"]


class Copies:
    """Publishes through ``client``, whose round trips each end with the wait (:class:`Client`'s ``copies``)."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._waiting: deque[Call] = deque()
        self._tasks = TaskSet()
        self._at_work = False

    async def publish(self, keys: Sequence[str], *arguments: Any) -> Any:
        """Do as ``client.script(Script.PUBLISH, …)`` does, with others that come at the same time."""
        if len(self._waiting) >= _MOST_WAITING:
            raise BrokerUnavailable
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, arguments, answer))
        if not self._at_work:
            self._at_work = True
            self._tasks.start(self._work(), "publications with copies")
        return await answer

    async def close(self) -> None:
        await self._tasks.close()
        await self.client.close()

    async def _work(self) -> None:
        batch: list[Call] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
                for (_, _, answer), reply in zip(batch, await self._carry_out(batch), strict=True):
                    if isinstance(reply, BrokerUnavailable):
                        _refuse(answer)
                    elif not answer.done():
                        answer.set_result(reply)
        finally:
            self._at_work = False
            for _, _, answer in (*batch, *self._waiting):  # Those that have their answers keep them.
                _refuse(answer)
            self._waiting.clear()

    async def _carry_out(self, batch: Sequence[Call]) -> Sequence[Any]:
        try:
            return await self.client.each_script(Script.PUBLISH, [(keys, arguments) for keys, arguments, _ in batch])
        except BrokerUnavailable as error:
            return [error] * len(batch)


def _refuse(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(BrokerUnavailable())
