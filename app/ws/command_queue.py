"""The commands of one session that must ask the log: carried out in order, by one task, which is there while there are
some."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any, Protocol

from app.observe.tasks import TaskSet

__all__ = ["CommandQueue"]

_TURN = 0.005
"""Seconds after which others have their turn: a command that finds its answer in this process waits for nothing, and a
frame can hold thousands, each with pages of history to write."""


class Owner(Protocol):
    """The session."""

    @property
    def congested(self) -> bool:
        """Whether its client has yet to read answers to what it asked for before."""

    async def perform(self, command: Any) -> None:
        """Carry one out. Raises nothing."""

    def worked(self) -> None:
        """A command is done, or the queue is empty and over."""


class CommandQueue:
    """A session has one from the first command on until none waits."""

    __slots__ = ("_owner", "_room", "_waiting", "_worker")

    def __init__(self, owner: Owner, command: Any, tasks: TaskSet) -> None:
        self._owner = owner
        self._waiting = deque([command])
        self._room: asyncio.Future[None] | None = None
        """What the worker waits for while the client reads nothing."""
        self._worker = tasks.start(self._work(), "commands of a session")

    def __len__(self) -> int:
        """How many wait, the one at work among them."""
        return len(self._waiting)

    def add(self, command: Any) -> None:
        self._waiting.append(command)

    async def room(self) -> None:
        """Wait until the client has read enough of what it asked for before. For the command at work."""
        while self._owner.congested:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def make_room(self) -> None:
        """The client has read."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def clear(self) -> None:
        """Let none begin any more. The one at work is finished."""
        self._waiting.clear()
        self.make_room()

    async def _work(self) -> None:
        turn_ends = monotonic() + _TURN
        while self._waiting:
            await self._owner.perform(self._waiting[0])
            await self.room()
            if self._waiting:
                self._waiting.popleft()
            self._owner.worked()
            if self._waiting and monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = monotonic() + _TURN
