"""Which servers take writes: one that is known, one that sentinels name, or those of a cluster, slot by slot.

Whoever keeps links asks a topology; whoever finds out that its picture is old tells it so. The picture is shared by all
links of a process, so that it is asked for once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from app.streams.redis.server import Access, Address, Master

__all__ = ["Standalone", "Topology"]


class Topology(Protocol):
    """The masters. What it calls in ``watchers`` it calls on the event loop, after its picture has changed."""

    watchers: list[Callable[[], None]]
    sharded: bool
    """Whether keys lie in slots, and channels are announced on the server that owns theirs."""

    @property
    def masters(self) -> Sequence[Master]: ...

    def master_of(self, slot: int) -> Master | None:
        """Return who owns ``slot``; None when nobody is known to."""

    def doubt(self) -> None:
        """Something went wrong that an old picture would explain: look again soon."""

    def moved(self, slot: int, address: Address) -> Master:
        """A server said that ``slot`` is at ``address``."""

    def at(self, address: Address) -> Master:
        """Return the master at ``address``, which need not own anything yet (a slot on its way to it)."""

    def start(self) -> None:
        """Begin to keep the picture up to date. Idempotent."""

    async def close(self) -> None: ...


class Standalone:
    """:class:`Topology` of one server that is always the same."""

    sharded = False

    def __init__(self, address: Address, access: Access) -> None:
        self.watchers: list[Callable[[], None]] = []
        self._master = Master(address, access)
        self.masters: Sequence[Master] = (self._master,)

    def master_of(self, slot: int) -> Master | None:
        return self._master

    def doubt(self) -> None:
        pass

    def moved(self, slot: int, address: Address) -> Master:
        return self._master

    def at(self, address: Address) -> Master:
        return self._master

    def start(self) -> None:
        pass

    async def close(self) -> None:
        pass
