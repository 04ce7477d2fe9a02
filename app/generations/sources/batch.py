"""Several jobs that one answer began: a generation of its own tells which they are, and how far they all are.

Each of them is followed and watched by itself. This one ends when they all have, and cancelling it cancels them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from app.auth.identity import Identity
from app.errors import TidegateError, UpstreamError
from app.generations.events import Child, Completed, Event, Failed, Progress
from app.generations.lifecycle import State
from app.generations.sources.port import Outlet, Post, Transport

__all__ = ["BatchSource", "Family"]


class Family(Protocol):
    """Other generations, on whatever replica."""

    async def ending(self, generation_id: str) -> State:
        """Wait for its end. One that is no longer kept counts as failed. Raises ``BrokerUnavailable``."""

    async def cancel(self, identity: Identity, generation_id: str) -> object:
        """Raises :exc:`~app.errors.NotFound`, ``BrokerUnavailable``."""


class BatchSource:
    """:class:`~app.generations.sources.port.Source` over ``children``, generations of ``identity``.

    ``told``: another replica has named them already.
    """

    def __init__(
        self, upstream: str, children: Sequence[str], family: Family, identity: Identity, *, told: bool = False
    ) -> None:
        self._upstream = upstream
        self._children = children
        self._family = family
        self._identity = identity
        self._told = told

    @property
    def upstream(self) -> str:
        return self._upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        total = len(self._children)
        if not self._told:
            named: list[Event] = [Child(index, each) for index, each in enumerate(self._children)]
            outlet.tell([*named, Progress(step=0, total=total, percent=0.0)])
        endings: Counter[State] = Counter()
        async with asyncio.TaskGroup() as waits:
            for index in range(total):
                waits.create_task(self._wait(index, outlet, endings))
        outlet.tell([_together(endings, total)])

    async def stop(self, transport: Transport) -> None:
        await asyncio.gather(
            *[self._family.cancel(self._identity, each) for each in self._children], return_exceptions=True
        )

    def take(self, post: Post) -> bool:
        return False

    async def _wait(self, index: int, outlet: Outlet, endings: Counter[State]) -> None:
        generation_id, total = self._children[index], len(self._children)
        try:
            state = await self._family.ending(generation_id)
        except TidegateError:
            state = State.FAILED
        endings[state] += 1
        done = endings.total()
        progress = Progress(step=done, total=total, percent=100.0 * done / total)
        outlet.tell([Child(index, generation_id, state.value), progress])


def _together(endings: Counter[State], total: int) -> Event:
    """Return the end of all: ``partial`` where some did not complete, a failure where none did."""
    completed = endings[State.COMPLETED]
    if completed:
        return Completed("stop" if completed == total else "partial")
    return Failed(UpstreamError.code, f"None of the {total} jobs of this batch completed.", retryable=True)
