"""Slots in Redis: a hash for each process of what it holds, and an index of when each hash ends.

All keys of a deployment share one hash tag, and every step is one script. So a decision over several subjects is exact,
in Redis Cluster too, with nothing to roll back; the price is that one node of a cluster takes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout
from app.streams.slots import Claim

__all__ = ["RedisSlots"]

_AT_ONCE = 5000
"""Subjects that one call enters: Redis does nothing else meanwhile."""


class RedisSlots:
    """:class:`~app.streams.slots.Slots`; ``ttl`` is in seconds."""

    def __init__(self, node: str, client: Client, layout: Layout, *, ttl: float) -> None:
        self._node = node
        self._client = client
        self._keys = (layout.slot_holders, layout.slots_of(node))
        self._prefix = layout.slots_of("")
        self._ttl_ms = round(ttl * 1000)

    async def enter(self, incarnation: str, held: Mapping[str, int]) -> None:
        items = list(held.items())
        for start in range(0, len(items) or 1, _AT_ONCE):
            flat = [part for item in items[start : start + _AT_ONCE] for part in item]
            anew = int(start == 0)
            await self._client.script(
                Script.SLOTS_ENTER, self._keys, self._node, incarnation, self._ttl_ms, anew, *flat
            )

    async def trade(
        self, incarnation: str, freed: Mapping[str, int], wanted: Sequence[Sequence[Claim]]
    ) -> list[str] | None:
        arguments: list[str | int] = [self._prefix, self._node, incarnation, self._ttl_ms, len(freed)]
        for item in freed.items():
            arguments += item
        for claims in wanted:
            arguments.append(len(claims))
            for claim in claims:
                arguments += claim
        answer = await self._client.script(Script.SLOTS_TRADE, self._keys, *arguments)
        return None if answer is None else [subject.decode() for subject in answer]

    async def renew(self, incarnation: str, held: int) -> bool:
        done = await self._client.script(Script.SLOTS_RENEW, self._keys, self._node, incarnation, self._ttl_ms, held)
        return bool(done)

    async def leave(self) -> None:
        await self._client.pipeline([("DEL", self._keys[1]), ("ZREM", self._keys[0], self._node)])
