"""Who in this process listens to what; synchronous fan-out.

A message costs work once per message and once per batch, never more than a write per listener: batches of a channel
queue up during a loop turn; at its end each channel is encoded once per wire format, and the same bytes are handed to
every listener of that format. The hub knows no socket: a listener (:class:`~app.streams.listener.Listener`) is whatever
takes bytes.

What writing costs is one system call for each listener, however long the bytes. So a channel whose messages come faster
than they can be written *rests* a moment between two writes: then fewer writes carry more, and it leaves the loop to
others. One message at a time is never made to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from app.streams.broker import History
from app.streams.listener import LARGE, Encoder, Listener, Subscription
from app.streams.position import Position
from app.streams.publication import Batch

__all__ = ["Hub"]

_REST = 0.5
"""How long a busy channel rests, as a part of the time that its last write took: long enough for those who publish by
what they have received to have received it."""
_SHORTEST_REST = 0.001
"""Seconds. Event loops measure no shorter ones; so small channels never rest."""
_LONGEST_REST = 0.01


class _Channel:
    __slots__ = ("epoch", "groups", "held", "name", "pending", "rests_until", "sent", "top")

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch: str | None = None
        """None: not known yet. Empty: the channel is known to have no log, so that its first offset must be 1."""
        self.top = 0
        self.pending: list[Batch] = []
        self.rests_until = 0.0
        """By the hub's clock; 0 where it has no need to."""
        self.groups: dict[Encoder, dict[Listener, Subscription]] = {}
        self.held: dict[Subscription, None] = {}
        self.sent: dict[Encoder, int] = {}
        """Bytes so far, by wire format: what each listener got is a difference, and costs it nothing."""


class Hub:
    """The registry.

    ``schedule`` runs a callback at the end of the current loop turn (``loop.call_soon``). ``is_last`` knows from
    a channel and its message whether the channel has no more after it: its listeners are let go with it. ``clock`` and
    ``later`` (``loop.call_later``) are in seconds; without them no channel rests.
    """

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], Any],
        is_last: Callable[[str, bytes], bool] = lambda channel, data: False,
        clock: Callable[[], float] = lambda: 0.0,
        later: Callable[[float, Callable[[], None]], Any] = lambda seconds, callback: callback(),
    ) -> None:
        self._schedule = schedule
        self._is_last = is_last
        self._clock = clock
        self._later = later
        self.on_empty: Callable[[str], None] = lambda channel: None
        """Called when a channel's last listener here is gone; the composition root sets it."""
        self.on_signal: Callable[[bytes], None] = lambda message: None
        """Gets messages of other replicas to this one; the composition root sets it."""
        self._channels: dict[str, _Channel] = {}
        self._dirty: list[_Channel] = []
        self.messages = 0
        """Messages so far that came to channels with listeners, each counted once."""
        self.delivered = 0
        """Messages handed to listeners so far: each as often as there were listeners."""
        self.delivered_bytes = 0
        self.gaps = 0
        """How often listeners were told of a gap that can't be repaired."""
        self.resumed = {True: 0, False: 0}
        """Readers who named a position: whether they went on from it, or had to begin again."""

    def channels(self) -> int:
        return len(self._channels)

    def count(self, channel: str) -> int:
        """How many listen to ``channel`` in this process, those still catching up included."""
        found = self._channels.get(channel)
        return 0 if found is None else len(found.held) + sum(len(group) for group in found.groups.values())

    def counts(self) -> Iterator[tuple[str, int]]:
        """Yield each channel and how many listen to it in this process."""
        for name in self._channels:
            yield name, self.count(name)

    def hold(self, channel: str, listener: Listener) -> Subscription:
        """Register ``listener``; what arrives is kept in ``held`` until :meth:`go_live`."""
        found = self._channels.get(channel)
        if found is None:
            found = self._channels[channel] = _Channel(channel)
        subscription = Subscription(channel, listener)
        found.held[subscription] = None
        return subscription

    def go_live(self, subscription: Subscription, last: bytes | None = None) -> None:
        """From now on deliver. Call it in the step in which the catch-up was sent; ``last`` is its last message."""
        found = self._channels[subscription.channel]
        assert not found.pending, "flush the channel before the catch-up is computed, or its batches go out twice"
        del found.held[subscription]
        subscription.held = None
        encoder = subscription.listener.encoder
        found.groups.setdefault(encoder, {})[subscription.listener] = subscription
        subscription.base = found.sent.setdefault(encoder, 0)
        if last is not None and self._is_last(found.name, last):
            self._end(subscription)

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription, live or not. Idempotent."""
        found = self._channels.get(subscription.channel)
        if found is None:
            return
        if subscription in found.held:
            del found.held[subscription]
        else:
            encoder = subscription.listener.encoder
            group = found.groups.get(encoder)
            if group is None or group.get(subscription.listener) is not subscription:
                return
            del group[subscription.listener]
            subscription.taken = found.sent[encoder] - subscription.base
            if not group:
                del found.groups[encoder]
        if not found.groups and not found.held:
            del self._channels[subscription.channel]
            self.on_empty(subscription.channel)

    def broadcast(self, channel: str, batch: Batch) -> bool:
        """Queue ``batch`` for the channel's listeners. What they were given already is dropped by its offset.

        False when the batch does not follow what they have: it is not taken, and :meth:`advance` must fill the gap.
        Where nobody listens there is nothing to follow. A batch without an epoch (a channel that keeps no history) has
        no offsets and is always taken.
        """
        found = self._channels.get(channel)
        if found is None:
            return True
        if batch.epoch:
            if batch.epoch == found.epoch:
                if batch.first != found.top + 1:
                    if batch.first > found.top:
                        return False
                    batch = batch.after(found.top)
                    if not batch.items:
                        return True
            elif found.epoch is not None and (found.epoch or batch.first != 1):
                return False
            found.epoch, found.top = batch.epoch, batch.last
        if not found.pending:
            if not self._dirty:
                self._schedule(self.flush)
            self._dirty.append(found)
        found.pending.append(batch)
        return True

    def advance(self, channel: str, history: History) -> None:
        """Bring the channel's listeners to the log's top, as ``history`` (read from their position or before) says.

        When it does not follow what they have, they are told so by a reset; when it goes on with it under another
        epoch, of that, before what comes next. The caller makes sure that the listeners
        did not move to another epoch while ``history`` was being read: an old answer would look like a lost log.
        """
        found = self._channels.get(channel)
        if found is None:
            return
        if found.epoch and found.epoch != history.epoch and history.follows(Position(found.epoch, found.top)):
            self._move(found, history.epoch)
        follows = True
        for batch in history.batches:
            follows = self.broadcast(channel, batch) and follows
        if found.epoch is None or (found.epoch == "" and history.top == 0):
            found.epoch, found.top = history.epoch, history.top
        elif not follows or history.epoch != found.epoch or history.top > found.top:
            self.reset(channel)
            found.epoch, found.top = history.epoch, history.top

    def reset(self, channel: str) -> None:
        """Tell the channel's listeners of a gap that can't be repaired."""
        found = self._channels.get(channel)
        if found is None:
            return
        self._flush(found)
        found.epoch, found.top = None, 0
        self.gaps += 1
        for subscription in found.held:
            subscription.held = []
        for group in list(found.groups.values()):
            for listener in list(group):
                listener.reset(channel)

    def _move(self, channel: _Channel, epoch: str) -> None:
        self._flush(channel)
        channel.epoch = epoch
        position = Position(epoch, channel.top)
        for subscription in channel.held:
            subscription.held = []  # It is in the log, which they read again.
        for group in list(channel.groups.values()):
            for listener in list(group):
                listener.moved(channel.name, position)

    def signal(self, message: bytes) -> None:
        self.on_signal(message)

    def flush(self) -> None:
        """Deliver all that is queued, but for channels that rest: what they have is delivered after it."""
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            rest = channel.rests_until - self._clock() if channel.rests_until else 0.0
            if rest > 0:
                self._later(rest, partial(self._flush, channel))
            else:
                self._flush(channel)

    def flush_channel(self, channel: str) -> None:
        """Deliver what is queued on one channel, so that a catch-up computed next repeats nothing of it."""
        found = self._channels.get(channel)
        if found is not None:
            self._flush(found)

    def position(self, channel: str) -> Position | None:
        """Return where the listeners of ``channel`` stand; None when nobody listens or nothing is known yet.

        The epoch is empty where the log was read and there was none.
        """
        found = self._channels.get(channel)
        return None if found is None or found.epoch is None else Position(found.epoch, found.top)

    def _flush(self, channel: _Channel) -> None:
        batches = channel.pending
        if not batches:
            return
        channel.pending = []
        began, name, sent = self._clock(), channel.name, channel.sent
        count = len(batches[0].items) if len(batches) == 1 else sum([len(batch.items) for batch in batches])
        self.messages += count
        for encoder, group in channel.groups.items():
            block = encoder.batches(name, batches)
            listeners, size = len(group), len(block)
            small = size < LARGE
            sent[encoder] += size
            self.delivered += listeners * count
            self.delivered_bytes += listeners * size
            for listener in group:
                writer = listener.direct
                if writer is not None and small:
                    writer.write(block)
                else:
                    listener.deliver(name, batches, block)
        ended = self._clock()
        rest = _rest(ended - began) if count > 1 else 0.0
        channel.rests_until = ended + rest if rest else 0.0
        for subscription in channel.held:
            assert subscription.held is not None
            subscription.held += batches
        if self._is_last(name, batches[-1].items[-1]):
            for group in list(channel.groups.values()):
                for subscription in list(group.values()):
                    self._end(subscription)

    def _end(self, subscription: Subscription) -> None:
        self.drop(subscription)
        subscription.listener.ended(subscription.channel)


def _rest(took: float) -> float:
    """Return for how many seconds a busy channel rests whose last write took so many."""
    rest = min(took * _REST, _LONGEST_REST)
    return rest if rest >= _SHORTEST_REST else 0.0
