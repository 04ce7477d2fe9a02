"""Generations as other generations see them: when they end, and how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from app.auth.identity import Identity
from app.generations.channels import channel_of
from app.generations.lifecycle import State, end_named
from app.generations.merging import EventMergeRule
from app.generations.waiting import Waiter
from app.streams.broker import Broker, Ledger
from app.streams.catchup import join
from app.streams.hub import Hub

__all__ = ["Relatives"]

_RULE = EventMergeRule()


class Relatives:
    """:class:`~app.generations.sources.batch.Family` over the shared log."""

    def __init__(
        self, hub: Hub, broker: Broker, ledger: Ledger, cancel: Callable[[Identity, str], Awaitable[object]]
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._ledger = ledger
        self._cancel = cancel

    async def cancel(self, identity: Identity, generation_id: str) -> object:
        return await self._cancel(identity, generation_id)

    async def ending(self, generation_id: str) -> State:
        stream = channel_of(generation_id)
        while True:
            record = await self._ledger.record(stream)
            if record is None:
                return State.FAILED
            if record.closed:
                return await self._how(stream, record.top)
            waiter = Waiter()
            subscription = await join(
                self._hub, self._broker, stream, waiter, None, replay=False, rule=_RULE, send=lambda recovery: None
            )
            try:
                again = await self._ledger.record(stream)  # It may have ended before we listened.
                if again is not None and not again.closed:
                    await waiter.over.wait()
            finally:
                self._hub.drop(subscription)

    async def _how(self, stream: str, top: int) -> State:
        history = await self._broker.history(stream, max(0, top - 1))
        last = orjson.loads(history.batches[-1].items[-1]) if history.batches else {}
        return end_named(last.get("type")) or State.FAILED
