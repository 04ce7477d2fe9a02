"""Joining a channel without a gap: hold, read the log, merge, go live. And filling a gap of those who are live."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import BrokerUnavailable
from app.streams.broker import Broker, History, Sink
from app.streams.hub import Hub
from app.streams.listener import Listener, Subscription
from app.streams.merge import MergeRule, merge
from app.streams.position import Position
from app.streams.recovery import Recovery, recover

__all__ = ["fill", "join"]

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
            history = await _read(hub, broker, channel, since)
            if history is None:
                continue
            hub.advance(channel, history)
            hub.flush_channel(channel)
            assert subscription.held is not None
            recovery = recover(history, since, subscription.held, replay=replay)
            if recovery is not None and hub.position(channel) == (history.epoch, recovery.top):
                recovery.publications = merge(recovery.publications, rule)
                send(recovery)
                if since is not None and since.offset > 0:
                    hub.resumed[recovery.recovered] += 1
                hub.go_live(subscription, recovery.publications[-1].data if recovery.publications else None)
                return subscription
        raise BrokerUnavailable("The log of this stream does not fit its live messages. Try again.")
    except BaseException:
        hub.drop(subscription)
        raise


async def fill(sink: Sink, broker: Broker, channel: str) -> bool:
    """Read the log past the listeners' position and bring them to its top.

    False: they moved to another epoch while it was being read; nothing was done. Raises
    :exc:`~app.errors.BrokerUnavailable`.
    """
    position = sink.position(channel)
    if position is None:
        return True
    history = await _read(sink, broker, channel, position)
    if history is None:
        return False
    sink.advance(channel, history)
    return True


async def _read(sink: Sink, broker: Broker, channel: str, since: Position | None) -> History | None:
    """Return the log from ``since`` or from where the listeners here stand, whichever is earlier.

    A position that the log doesn't know gets all of it. None when the answer was overtaken: the listeners moved to
    another epoch while it was on its way.
    """
    known = sink.position(channel)
    start = max(0, since.offset) if since is not None else 0
    if known is not None:
        start = min(start, known.offset)
    history = await broker.history(channel, start)
    if since is not None and start > 0 and (not history.follows(since) or since.offset > history.top):
        start = 0
        history = await broker.history(channel)
    now = sink.position(channel)
    if now is not None and now != known and (now.epoch != history.epoch or now.offset < start):
        return None
    return history
