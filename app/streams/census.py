"""What all replicas together have: who they are, and how many listen to which channel.

Each counts its own when it is asked. Counting in Redis would be kept up by every subscribe and go wrong with every
crash; and the channels of Pub/Sub miss a generation's listeners on the replica that runs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any

from app.errors import TooManyRequests
from app.streams.control import Replicas

__all__ = ["Census"]

_MOST_CHANNELS = 10_000
"""Of one replica, in one answer."""
_CHANNELS = "channels"
_INFO = "info"


class Census:
    """Answers for this replica and asks all. ``listeners`` counts by channel; ``info`` describes this replica."""

    def __init__(
        self,
        replicas: Replicas,
        listeners: Callable[[], Iterable[tuple[str, int]]],
        info: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._replicas = replicas
        self._listeners = listeners
        replicas.on(_CHANNELS, self._count)
        replicas.on(_INFO, lambda body: dict(info()))

    async def channels(self, pattern: str = "") -> dict[str, int]:
        """Return how many listen to each channel that matches ``pattern``: ``*``, ``?``, ``[a-z]``, ``{a,b}``.

        Raises :exc:`~app.errors.BrokerUnavailable`, and :exc:`~app.errors.TooManyRequests` for too many channels.
        """
        total: dict[str, int] = {}
        for counts in (await self._replicas.ask(_CHANNELS, {"pattern": pattern})).values():
            if counts is None:
                raise TooManyRequests(f"A replica has more than {_MOST_CHANNELS} such channels. Ask for fewer.")
            for channel, count in counts.items():
                total[channel] = total.get(channel, 0) + count
        return total

    async def nodes(self) -> list[dict[str, Any]]:
        """Return all replicas' descriptions. Raises :exc:`~app.errors.BrokerUnavailable`."""
        answers = await self._replicas.ask(_INFO, {})
        return [{"uid": node, **answers[node]} for node in sorted(answers)]

    def _count(self, body: dict[str, Any]) -> dict[str, int] | None:
        matches = _matcher(body["pattern"])
        counts = {channel: count for channel, count in self._listeners() if matches(channel)}
        return counts if len(counts) <= _MOST_CHANNELS else None


def _matcher(pattern: str) -> Callable[[str], object]:
    if not pattern:
        return lambda channel: True
    return re.compile("|".join(translate(each) for each in _alternatives(pattern))).match


def _alternatives(pattern: str) -> list[str]:
    """Return the patterns that one with a ``{a,b}`` stands for; more than one of them, or a lone brace, is literal."""
    head, opening, rest = pattern.partition("{")
    middle, closing, tail = rest.partition("}")
    if not (opening and closing):
        return [pattern]
    return [head + choice + tail for choice in middle.split(",")]
