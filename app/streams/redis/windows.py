"""Counts of what happened lately, in Redis.

What is asked within one turn of the loop goes to Redis in one write and comes back in one read, each ask still a script
call of its own: so that a busy gateway pays a fraction of a round trip for each, and no two asks depend on each other.
In a cluster each goes by itself: one master that is away must not hold up what others count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import hiredis

from app.errors import BrokerUnavailable
from app.observe.tasks import TaskSet
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout
from app.streams.windows import Ask, Count, Told

__all__ = ["RedisWindows"]

_MICROSECONDS = 1_000_000


class _Question(NamedTuple):
    keys: list[str]
    bounds: list[int]
    told: Told


class RedisWindows:
    """:class:`~app.streams.windows.Windows` by Redis's own clock. An answer is waited for ``patience`` seconds: with
    all that a request needs besides, what it is told without Redis comes within 50 ms."""

    def __init__(self, client: Client, layout: Layout, *, patience: float = 0.04) -> None:
        self._client = client
        self._layout = layout
        self._patience = patience
        self._turn: list[_Question] = []
        """What was asked in this turn of the loop."""
        self._tasks = TaskSet()

    async def take(self, asks: Sequence[Ask]) -> list[Count]:
        return await self._asked(asks, 1)

    async def look(self, asks: Sequence[Ask]) -> list[Count]:
        return await self._asked(asks, 0)

    def ask(self, asks: Sequence[Ask], told: Told) -> None:
        self._put(asks, 1, told)

    async def _asked(self, asks: Sequence[Ask], taken: int) -> list[Count]:
        answer: asyncio.Future[list[Count]] = asyncio.get_running_loop().create_future()

        def told(counts: list[Count] | BrokerUnavailable) -> None:
            if answer.done():
                return  # Who asked has gone.
            if isinstance(counts, BrokerUnavailable):
                answer.set_exception(counts)
            else:
                answer.set_result(counts)

        self._put(asks, taken, told)
        return await answer

    def _put(self, asks: Sequence[Ask], taken: int, told: Told) -> None:
        question = _Question(
            [self._layout.window(ask.key) for ask in asks],
            [*(bound for ask in asks for bound in (ask.limit, round(ask.window * _MICROSECONDS))), taken],
            told,
        )
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._send)
        self._turn.append(question)

    def _send(self) -> None:
        turn, self._turn = self._turn, []
        trip = _Trip(turn, self._patience, self._ask_again)
        if self._client.post(Script.WINDOWS, [(each.keys, each.bounds, partial(trip.came, each)) for each in turn]):
            return
        trip.end()
        for some in [[question] for question in turn] if self._client.topology.sharded else [turn]:
            self._tasks.start(self._ask(some), "limits")

    def _ask_again(self, question: _Question) -> None:
        """Redis did not do what it was asked, perhaps for want of the script."""
        self._tasks.start(self._ask([question]), "limits")

    async def _ask(self, questions: list[_Question]) -> None:
        replies: list[Any]
        try:
            async with asyncio.timeout(self._patience):
                replies = await self._client.each_script(
                    Script.WINDOWS, [(question.keys, question.bounds) for question in questions]
                )
        except (BrokerUnavailable, TimeoutError):
            replies = [BrokerUnavailable() for _ in questions]
        loop = asyncio.get_running_loop()
        for question, reply in zip(questions, replies, strict=True):
            # Not called from here: what one of them makes of it must not keep the others waiting.
            loop.call_soon(question.told, reply if isinstance(reply, BrokerUnavailable) else _counts(reply))


class _Trip:
    """Questions on their way, for no longer than ``patience`` seconds."""

    def __init__(self, turn: list[_Question], patience: float, again: Callable[[_Question], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = {id(question): question for question in turn}
        self._again = again
        self._timer = self._loop.call_later(patience, self._late)

    def came(self, question: _Question, reply: Any) -> None:
        if self._left.pop(id(question), None) is None:
            return  # It was given up.
        if not self._left:
            self.end()
        if isinstance(reply, hiredis.ReplyError):
            self._again(question)
        else:
            # Not called from here: what one of them makes of it must not keep the others waiting.
            self._loop.call_soon(question.told, reply if isinstance(reply, BrokerUnavailable) else _counts(reply))

    def end(self) -> None:
        self._timer.cancel()

    def _late(self) -> None:
        left, self._left = self._left, {}
        for question in left.values():
            self._loop.call_soon(question.told, BrokerUnavailable())


def _counts(told: Sequence[int]) -> list[Count]:
    return [
        Count(told[at], told[at + 1] / _MICROSECONDS, told[at + 2] / _MICROSECONDS) for at in range(0, len(told), 3)
    ]
