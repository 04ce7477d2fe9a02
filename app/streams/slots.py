"""How many sockets there are of each subject, over all replicas: the port, and its implementation in memory.

A subject is a text such as ``user:42``; a *slot* is one of the places that its limit leaves. Each process says what it
holds under its own name, with a time to live, so that the slots of a process that was killed are free when that has
passed, and nobody has to find out that it died. What a process holds is counted from its last :meth:`Slots.enter`,
whose *incarnation* every later step must name: a step that was long on its way, or one of a process that was frozen
until its entry was gone, changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Protocol

__all__ = ["Claim", "MemorySlotStore", "MemorySlots", "Slots"]

Claim = tuple[str, int]
"""A subject, and how many slots it has."""


class Slots(Protocol):
    """The slots of one process among others. Every method but memory's may raise
    :exc:`~app.errors.BrokerUnavailable`; whether the step was taken is then unknown, until the next ``enter``.
    """

    async def enter(self, incarnation: str, held: Mapping[str, int]) -> None:
        """Begin anew: this process holds ``held`` and nothing else, whatever the limits are."""

    async def trade(
        self, incarnation: str, freed: Mapping[str, int], wanted: Sequence[Sequence[Claim]]
    ) -> list[str] | None:
        """Free slots, then take for each of ``wanted`` in turn one slot of all its subjects, or none.

        Returns for each the subject that had none left, empty where they were taken; None when ``incarnation`` is not
        known any more, and nothing was done.
        """

    async def renew(self, incarnation: str, held: int) -> bool:
        """Keep what is held; False when it is not there, or is not ``held`` slots in all: then enter anew."""

    async def leave(self) -> None:
        """Free everything."""


class MemorySlotStore:
    """What :class:`MemorySlots` share. ``ttl`` is in seconds."""

    def __init__(self, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        self._ttl = ttl
        self._clock = clock
        self._entries: dict[str, tuple[float, str, Counter[str]]] = {}
        """By process: when it ends, its incarnation, and what it holds."""

    def put(self, node: str, incarnation: str, held: Mapping[str, int]) -> None:
        self._entries[node] = (self._clock() + self._ttl, incarnation, Counter(held))

    def get(self, node: str, incarnation: str) -> Counter[str] | None:
        """Return what ``node`` holds, and keep it."""
        self._drop_ended()
        entry = self._entries.get(node)
        if entry is None or entry[1] != incarnation:
            return None
        self._entries[node] = (self._clock() + self._ttl, incarnation, entry[2])
        return entry[2]

    def count(self, subject: str) -> int:
        return sum(held[subject] for _, _, held in self._entries.values())

    def remove(self, node: str) -> None:
        self._entries.pop(node, None)

    def _drop_ended(self) -> None:
        now = self._clock()
        for node in [node for node, (end, _, _) in self._entries.items() if end <= now]:
            del self._entries[node]


class MemorySlots:
    """:class:`Slots` in this process."""

    def __init__(self, node: str, store: MemorySlotStore) -> None:
        self._node = node
        self._store = store

    async def enter(self, incarnation: str, held: Mapping[str, int]) -> None:
        self._store.put(self._node, incarnation, held)

    async def trade(
        self, incarnation: str, freed: Mapping[str, int], wanted: Sequence[Sequence[Claim]]
    ) -> list[str] | None:
        held = self._store.get(self._node, incarnation)
        if held is None:
            return None
        held.subtract(freed)
        for subject in freed:
            if held[subject] <= 0:
                del held[subject]
        return [self._take(held, claims) for claims in wanted]

    async def renew(self, incarnation: str, held: int) -> bool:
        own = self._store.get(self._node, incarnation)
        return own is not None and own.total() == held

    async def leave(self) -> None:
        self._store.remove(self._node)

    def _take(self, held: Counter[str], claims: Sequence[Claim]) -> str:
        for subject, limit in claims:
            if self._store.count(subject) >= limit:
                return subject
        held.update(subject for subject, _ in claims)
        return ""
