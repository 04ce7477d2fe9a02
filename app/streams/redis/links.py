"""A link to each master, under one name and prepared in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from app.observe.tasks import TaskSet
from app.streams.redis.link import Link, LinkKeeper
from app.streams.redis.server import Address, Master
from app.streams.redis.topology import Topology

__all__ = ["Links"]

Ready = Callable[[Master, Link], Awaitable[None]]


class Links:
    """Run :meth:`run` as a task.

    ``ready`` is awaited with each new link before it counts as up; ``push`` gets what a server sends without being
    asked, and errors that nobody waits for; ``changed`` is called when slots have other masters than before.
    """

    def __init__(
        self,
        name: str,
        topology: Topology,
        ready: Ready,
        *,
        timeout: float,
        push: Callable[[Master, Any], None] | None = None,
        writable: Callable[[], None] = lambda: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.topology = topology
        self._name = name
        self._ready = ready
        self._timeout = timeout
        self._push = push
        self._writable = writable
        self._changed = changed
        self._keepers: dict[Master, LinkKeeper] = {}
        self._running: dict[Master, tuple[Address | None, asyncio.Task[Any]]] = {}
        self._tasks = TaskSet()
        self._up = asyncio.Event()
        self.name = name
        self.connects = 0
        """How often a link has come up."""
        self.failures = 0
        """How often one was lost or could not be had."""

    async def run(self) -> None:
        """Keep the links, until cancelled."""
        topology = self.topology
        topology.watchers.append(self._reconcile)
        try:
            topology.start()
            self._reconcile()
            await asyncio.Event().wait()
        finally:
            topology.watchers.remove(self._reconcile)
            await self._tasks.close()

    @property
    def healthy(self) -> bool:
        """Whether the link to every master is up."""
        masters = self.topology.masters
        return bool(masters) and all(self.to(master) is not None for master in masters)

    def of(self, slot: int) -> Link | None:
        """Return the link to the master of ``slot`` if it is up."""
        keeper = self._keepers.get(self.topology.master_of(slot))  # type: ignore[arg-type]
        return None if keeper is None else keeper.link

    def to(self, master: Master | None) -> Link | None:
        """Return the link to ``master`` if it is up."""
        keeper = None if master is None else self._keepers.get(master)
        return None if keeper is None else keeper.link

    def all(self) -> list[Link]:
        """Return the links that are up."""
        return [keeper.link for keeper in self._keepers.values() if keeper.link is not None]

    async def wait(self) -> None:
        """Return when a link has come up that was not."""
        self._up.clear()
        await self._up.wait()

    def _reconcile(self) -> None:
        masters = self.topology.masters
        for gone in [master for master in self._running if master not in masters]:
            self._running.pop(gone)[1].cancel()
            del self._keepers[gone]
        for master in masters:
            running = self._running.get(master)
            if running is not None and running[0] == master.address:
                continue
            if running is not None:
                running[1].cancel()
            keeper = LinkKeeper(
                self._name,
                master,
                partial(self._prepare, master),
                timeout=self._timeout,
                push=None if self._push is None else partial(self._push, master),
                writable=self._writable,
                failed=self._failed,
                up=self._came_up,
            )
            self._keepers[master] = keeper
            self._running[master] = master.address, self._tasks.start(keeper.run(), f"link {self._name}")
        self._changed()

    def _failed(self) -> None:
        self.failures += 1
        self.topology.doubt()

    def _came_up(self) -> None:
        self.connects += 1
        self._up.set()

    async def _prepare(self, master: Master, link: Link) -> None:
        await self._ready(master, link)
