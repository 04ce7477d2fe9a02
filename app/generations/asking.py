"""Questions to the relay of a generation, wherever it runs.

A replica that the record names may have left its generation to another one just now. So what counts is what the relay
itself answers, not that a replica has heard the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.errors import NotFound
from app.generations.relay import Relay
from app.streams.broker import Record
from app.streams.control import Replicas

__all__ = ["Relays"]


class Relays:
    """``here`` are this replica's relays, by stream."""

    def __init__(self, here: Mapping[str, Relay], replicas: Replicas) -> None:
        self._here = here
        self._replicas = replicas

    def on(self, kind: str, act: Callable[[Relay, dict[str, Any]], Any]) -> None:
        """Let ``act`` answer what is asked under the name ``kind``, with JSON. It must not block."""

        def handle(body: dict[str, Any]) -> Any:
            relay = self._here.get(body["stream"])
            return None if relay is None or relay.left else act(relay, body)

        self._replicas.on(kind, handle)

    async def ask(self, record: Record, kind: str, **said: Any) -> Any:
        """Return the answer; None where its replica has left it, or is gone.

        Raises :exc:`~app.errors.BrokerUnavailable` where nobody answers.
        """
        relay = self._here.get(record.stream)
        node = record.node if relay is None or relay.left else self._replicas.node
        try:
            return await self._replicas.ask_one(node, kind, {"stream": record.stream, **said})
        except NotFound:
            return None
