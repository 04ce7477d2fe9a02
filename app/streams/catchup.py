"""Joining a channel without a gap: hold, read the log, merge, go live."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import BrokerUnavailable
from app.streams.broker import Broker
from app.streams.hub import Hub, Listener, Subscription
from app.streams.merge import MergeRule, merge
from app.streams.position import Position
from app.streams.recovery import Recovery, recover

__all__ = ["join"]

_ATTEMPTS = 5
"""A hole between the log and the held batches closes as soon as the log is read again; more reads mean it is broken."""


async def join(
    hub: Hub,
    broker: Broker,
    channel: str,
    listener: Listener,
    since: Position | None,
    *,
    replay: bool,
    rule: MergeRule,
    send: Callable[[Recovery], None],
) -> Subscription:
    """Attach ``listener`` to ``channel`` and bring it up to date from ``since``.

    ``send`` is called once, with the merged catch-up, in the same step in which the subscription goes live: nothing can
    come between. ``replay`` is as in :func:`~app.streams.recovery.recover`. Raises
    :exc:`~app.errors.BrokerUnavailable`; the listener is then not attached. The caller drops the subscription.
    """
    subscription = hub.hold(channel, listener)
    try:
        await broker.subscribe(channel)
        for _ in range(_ATTEMPTS):
            known = hub.position(channel)
            start = since.offset if since is not None else 0
            history = await broker.history(channel, min(start, known.offset) if known is not None else start)
            if since is not None and start > 0 and since.epoch != history.epoch:
                history = await broker.history(channel)
            hub.advance(channel, history)
            hub.flush_channel(channel)
            assert subscription.held is not None
            recovery = recover(history, since, subscription.held, replay=replay)
            position = hub.position(channel)
            if recovery is not None and (position is None or position == (history.epoch, recovery.top)):
                recovery.publications = merge(recovery.publications, rule)
                send(recovery)
                hub.go_live(subscription, recovery.publications[-1].data if recovery.publications else None)
                return subscription
        raise BrokerUnavailable("The log of this stream does not fit its live messages. Try again.")
    except BaseException:
        hub.drop(subscription)
        raise
