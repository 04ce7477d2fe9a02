"""What this process is subscribed to, over one link to each master, through lost links and slots that move.

It hands on messages as they come; whatever may have got lost, it says, must be compared with the log: all of a link's
channels when that is new, those of a slot when it moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hiredis
import structlog

from app.errors import BrokerUnavailable
from app.streams.redis.cluster import address_in
from app.streams.redis.layout import slot_of
from app.streams.redis.link import Link, pack
from app.streams.redis.links import Links
from app.streams.redis.server import Master
from app.streams.redis.topology import Topology

__all__ = ["Subscriptions"]

_log = structlog.get_logger(__name__)
_AGAIN_AFTER = 0.05
"""Seconds before a subscription that was refused is tried where its slot now is."""


class _Wanted:
    """One Pub/Sub channel: where it was subscribed to last, and how many answers are owed for that."""

    __slots__ = ("master", "name", "owed", "slot", "waiting")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.slot = slot_of(name)
        self.master: Master | None = None
        self.owed = 0
        self.waiting: list[asyncio.Future[None]] = []


class Subscriptions:
    """Run :meth:`run` as a task.

    ``permanent`` are subscribed to as long as it runs. ``message`` gets what arrives, as (Pub/Sub channel, payload).
    ``missed`` gets channels that may have had messages which did not arrive. ``timeout`` is in seconds.
    """

    def __init__(
        self,
        topology: Topology,
        permanent: Sequence[str],
        *,
        message: Callable[[bytes, bytes], None],
        missed: Callable[[list[bytes]], None],
        timeout: float,
    ) -> None:
        self._topology = topology
        self._message = message
        self._missed = missed
        self._timeout = timeout
        self._permanent = {name.encode() for name in permanent}
        self._wanted = {name: _Wanted(name) for name in self._permanent}
        self._leaving: dict[bytes, int] = {}
        """Answers owed for channels that are wanted no more."""
        kind = "S" if topology.sharded else ""
        self._subscribe, self._unsubscribe = f"{kind}SUBSCRIBE", f"{kind}UNSUBSCRIBE"
        self._links = Links(
            "broker", topology, self._linked, timeout=timeout, push=self._push, changed=self._masters_changed
        )

    async def run(self) -> None:
        await self._links.run()

    @property
    def healthy(self) -> bool:
        return self._links.healthy

    @property
    def links(self) -> Links:
        return self._links

    def __contains__(self, name: bytes) -> bool:
        return name in self._wanted

    def want(self, name: bytes) -> None:
        """Subscribe to ``name``."""
        if name in self._wanted:
            return
        wanted = self._wanted[name] = _Wanted(name)
        wanted.owed = self._leaving.pop(name, 0)
        self._ask(wanted)

    async def confirmed(self, name: bytes) -> None:
        """Wait until the subscription is in force. Raises :exc:`~app.errors.BrokerUnavailable`."""
        wanted = self._wanted[name]
        if self.in_force(name):
            return
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted.waiting.append(answered)
        try:
            async with asyncio.timeout(self._timeout):
                await answered
        except TimeoutError:
            raise BrokerUnavailable from None

    def in_force(self, name: bytes) -> bool:
        """Whether the server surely counts this process among the channel's subscribers."""
        wanted = self._wanted.get(name)
        return wanted is not None and not wanted.owed and self._links.to(wanted.master) is not None

    def drop(self, name: bytes) -> None:
        """Unsubscribe from ``name``. Who still waits for its confirmation gets an error."""
        wanted = self._wanted.pop(name, None)
        if wanted is None:
            return
        for answered in wanted.waiting:
            if not answered.done():
                answered.set_exception(BrokerUnavailable())
        link = self._links.to(wanted.master)
        if link is not None:
            link.send(pack(self._unsubscribe, name), [])
            if wanted.owed:
                self._leaving[name] = wanted.owed

    # Private.

    def _ask(self, wanted: _Wanted) -> None:
        """Subscribe at the channel's master; without a link to it the next one will do that."""
        master = self._topology.master_of(wanted.slot)
        link = self._links.to(master)
        if wanted.master is not master:
            wanted.master, wanted.owed = master, 0
        if link is not None:
            wanted.owed += 1
            link.send(pack(self._subscribe, wanted.name), [])

    async def _linked(self, master: Master, link: Link) -> None:
        here = [wanted for wanted in self._wanted.values() if self._topology.master_of(wanted.slot) is master]
        for wanted in here:
            wanted.master, wanted.owed = master, 1
        if not self._topology.sharded:
            self._leaving.clear()
        link.send(self._packed(here), [])
        self._compare_after(link, here)

    def _packed(self, some: Iterable[_Wanted]) -> bytes:
        """Return the commands that subscribe to ``some``: in slots one for each, for they may lie in several."""
        names = [wanted.name for wanted in some]
        if self._topology.sharded:
            return b"".join([pack(self._subscribe, name) for name in names])
        return pack(self._subscribe, *names)

    def _compare_after(self, link: Link, some: Iterable[_Wanted]) -> None:
        """When what was subscribed to is in force, see what was missed before it was."""
        names = [wanted.name for wanted in some if wanted.name not in self._permanent]

        def subscribed(pong: Any) -> None:
            if not isinstance(pong, BrokerUnavailable):
                self._missed(names)

        link.send(pack("PING"), [subscribed])

    def _push(self, master: Master, push: Any) -> None:
        if isinstance(push, hiredis.ReplyError):
            self._refused(master, str(push))
            return
        kind, name, payload = push
        if kind in (b"message", b"smessage"):
            self._message(name, payload)
        elif kind in (b"subscribe", b"ssubscribe"):
            self._confirm(master, name)
        elif name in self._wanted and self._wanted[name].master is master and self._topology.sharded:
            self._topology.doubt()  # The server let us go by itself: the slot is another's.
            asyncio.get_running_loop().call_later(_AGAIN_AFTER, self._again, self._wanted[name].slot)

    def _confirm(self, master: Master, name: bytes) -> None:
        wanted = self._wanted.get(name)
        if wanted is None:
            left = self._leaving.pop(name, 1) - 1
            if left > 0:
                self._leaving[name] = left
            return
        if wanted.master is not master:
            return
        wanted.owed = max(0, wanted.owed - 1)
        if not wanted.owed:
            waiting, wanted.waiting = wanted.waiting, []
            for answered in waiting:
                if not answered.done():
                    answered.set_result(None)

    def _refused(self, master: Master, error: str) -> None:
        place = address_in(error, master.address)
        link = self._links.to(master)
        if place is not None:
            slot, address = place
            self._topology.moved(slot, address)
            asyncio.get_running_loop().call_later(_AGAIN_AFTER, self._again, slot)
        elif link is not None:
            _log.warning("redis refused a subscription", server=str(master), error=error)
            link.abort()

    def _again(self, slot: int) -> None:
        """Subscribe once more to the channels of a slot, wherever it is."""
        some = [wanted for wanted in self._wanted.values() if wanted.slot == slot]
        for wanted in some:
            wanted.owed = 0
            self._ask(wanted)
        link = self._links.of(slot)
        if link is not None and some:
            self._compare_after(link, some)

    def _masters_changed(self) -> None:
        """Follow the channels whose slots have another master now."""
        moved: dict[Link, list[_Wanted]] = {}
        for wanted in self._wanted.values():
            master = self._topology.master_of(wanted.slot)
            if master is wanted.master or not self._topology.sharded:
                continue
            old, new = self._links.to(wanted.master), self._links.to(master)
            if old is not None:
                old.send(pack(self._unsubscribe, wanted.name), [])
            self._ask(wanted)
            if new is not None:
                moved.setdefault(new, []).append(wanted)
        for link, some in moved.items():
            self._compare_after(link, some)
