"""The master that sentinels name.

They are asked at the start, whenever a link fails, every few seconds, and at once when one of them announces a
failover. What most of them answer counts: one that was cut off may name the old master for a while. A server is used
only after it said itself that it is a master, and a link to one that is not named any more is given up.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import structlog

from app.errors import BrokerUnavailable
from app.observe.tasks import TaskSet
from app.streams.redis.link import Link, LinkKeeper, pack
from app.streams.redis.server import Access, Address, Build, Master, dial

__all__ = ["Sentinels"]

_log = structlog.get_logger(__name__)
_INTERVAL = 5.0
"""Seconds between two questions when nothing happens."""
_PAUSE = 0.1
"""Seconds at least between two questions."""


class Sentinels:
    """:class:`~app.streams.redis.topology.Topology`; ``access`` is to the servers, ``asking`` to the sentinels."""

    sharded = False

    def __init__(self, addresses: Sequence[Address], name: str, access: Access, asking: Access) -> None:
        self.watchers: list[Callable[[], None]] = []
        self._addresses = list(addresses)
        self._name = name
        self._asking = asking
        self._master = Master(None, access, confirmed=True)
        self.masters: Sequence[Master] = (self._master,)
        self._doubt = asyncio.Event()
        self._tasks = TaskSet()
        self._keeper = LinkKeeper("sentinel", self, self._listen, timeout=asking.timeout, push=self._announced)

    def master_of(self, slot: int) -> Master | None:
        return self._master

    def doubt(self) -> None:
        self._doubt.set()

    def moved(self, slot: int, address: Address) -> Master:
        return self._master

    def at(self, address: Address) -> Master:
        return self._master

    def start(self) -> None:
        if not self._tasks:
            self._tasks.start(self._follow(), "ask sentinels for the master")
            self._tasks.start(self._keeper.run(), "listen to a sentinel")

    async def close(self) -> None:
        await self._tasks.close()

    async def dial(self, build: Build) -> Link:
        """Open a link to any sentinel, for its announcements."""
        return await dial(random.choice(self._addresses), self._asking, build)

    async def _listen(self, link: Link) -> None:
        link.send(pack("SUBSCRIBE", "+switch-master"), [])

    def _announced(self, push: Any) -> None:
        self._doubt.set()

    async def _follow(self) -> None:
        while True:
            self._doubt.clear()
            self._take(await self._ask_all())
            await asyncio.sleep(_PAUSE)
            try:
                async with asyncio.timeout(_INTERVAL):
                    await self._doubt.wait()
            except TimeoutError:
                continue

    def _take(self, address: Address | None) -> None:
        if address is None or address == self._master.address:
            return
        _log.info("the sentinels name a master", master=str(address), before=str(self._master.address))
        self._master.address = address
        for watcher in self.watchers:
            watcher()

    async def _ask_all(self) -> Address | None:
        answers = await asyncio.gather(*[self._ask(address) for address in self._addresses])
        votes = Counter(answer for answer in answers if answer is not None)
        if not votes:
            _log.warning("no sentinel names the master", name=self._name)
            return None
        return votes.most_common(1)[0][0]

    async def _ask(self, sentinel: Address) -> Address | None:
        try:
            async with asyncio.timeout(self._asking.timeout):
                link = await dial(sentinel, self._asking, lambda: Link(lambda: None, None, lambda: None))
                try:
                    answer = await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
                finally:
                    link.abort()
        except (OSError, TimeoutError, hiredis.ReplyError, BrokerUnavailable):
            return None
        return Address(answer[0].decode(), int(answer[1])) if answer else None
