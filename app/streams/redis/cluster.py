"""Who owns which slot of a Redis Cluster.

The map is asked of any node at the start, whenever a link or a command finds it wrong, and every few seconds; a MOVED
answer corrects it at once. Only masters are spoken to: what a replica of a master has may be old.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import structlog

from app.errors import BrokerUnavailable
from app.observe.tasks import TaskSet
from app.streams.redis.link import Link
from app.streams.redis.server import Access, Address, Master, dial

__all__ = ["Cluster", "address_in"]

_log = structlog.get_logger(__name__)
_INTERVAL = 10.0
"""Seconds between two questions when nothing happens."""
_PAUSE = 0.1
"""Seconds at least between two questions."""
_MOST_NODES = 1000


class Cluster:
    """:class:`~app.streams.redis.topology.Topology`; ``seeds`` are nodes that are asked first."""

    sharded = True

    def __init__(self, seeds: Sequence[Address], access: Access) -> None:
        self.watchers: list[Callable[[], None]] = []
        self._seeds = list(seeds)
        self._access = access
        self._by_address: dict[Address, Master] = {}
        self._slots: dict[int, Master] = {}
        self._doubt = asyncio.Event()
        self._tasks = TaskSet()

    @property
    def masters(self) -> Sequence[Master]:
        return list(self._by_address.values())

    def master_of(self, slot: int) -> Master | None:
        return self._slots.get(slot)

    def doubt(self) -> None:
        self._doubt.set()

    def moved(self, slot: int, address: Address) -> Master:
        master = self.at(address)
        if self._slots.get(slot) is not master:
            self._slots[slot] = master
            self._tell()
        self._doubt.set()
        return master

    def at(self, address: Address) -> Master:
        master = self._by_address.get(address)
        if master is None:
            master = self._by_address[address] = Master(address, self._access)
            self._tell()
        return master

    def start(self) -> None:
        if not self._tasks:
            self._tasks.start(self._follow(), "ask for the map of slots")

    async def close(self) -> None:
        await self._tasks.close()

    async def _follow(self) -> None:
        while True:
            self._doubt.clear()
            await self._refresh()
            await asyncio.sleep(_PAUSE)
            try:
                async with asyncio.timeout(_INTERVAL if self._slots else _PAUSE):
                    await self._doubt.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        nodes = list(self._by_address)
        random.shuffle(nodes)
        for address in [*nodes, *(seed for seed in self._seeds if seed not in self._by_address)]:
            ranges = await self._ask(address)
            if ranges:
                self._take(address, ranges)
                return
        _log.warning("no node of the cluster tells the map of slots")

    def _take(self, asked: Address, ranges: list[Any]) -> None:
        """Take the answer to CLUSTER SLOTS: ``[first, last, [host, port, …], replica, …]`` for each range."""
        before, known = self._slots, self._by_address
        self._slots, self._by_address = {}, {}
        for first, last, node, *_ in ranges[:_MOST_NODES]:
            address = Address((node[0] or b"").decode() or asked.host, int(node[1]))
            master = self._by_address.get(address) or known.get(address) or Master(address, self._access)
            self._by_address[address] = master
            self._slots.update(dict.fromkeys(range(int(first), int(last) + 1), master))
        if self._slots != before or self._by_address != known:
            _log.info("the cluster's map has changed", masters=[str(address) for address in self._by_address])
            self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()

    async def _ask(self, node: Address) -> list[Any] | None:
        try:
            async with asyncio.timeout(self._access.timeout):
                link = await dial(node, self._access, lambda: Link(lambda: None, None, lambda: None))
                try:
                    answer = await link.call("CLUSTER", "SLOTS")
                finally:
                    link.abort()
        except (OSError, TimeoutError, hiredis.ReplyError, BrokerUnavailable):
            return None
        return answer if isinstance(answer, list) else None


def address_in(error: str, asked: Address | None) -> tuple[int, Address] | None:
    """Return slot and address in ``MOVED 3999 host:port`` or ``ASK …``; None for other errors.

    An empty host is that of the node that was ``asked``.
    """
    kind, _, rest = error.partition(" ")
    if kind not in {"MOVED", "ASK"}:
        return None
    slot, _, place = rest.partition(" ")
    host, _, port = place.partition(" ")[0].rpartition(":")
    if not (slot.isdigit() and port.isdigit()):
        return None
    return int(slot), Address(host or (asked.host if asked is not None else ""), int(port))
