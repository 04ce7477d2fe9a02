"""Generations as the transports use them: start, watch, cancel, read; and what must happen when nobody asks.

Every call is safe on any replica: one that the generation does not run on reads the shared log, and passes a cancel on
to the one that it does run on.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Literal

import orjson
import structlog

from app.auth.identity import Identity
from app.config import GenerationConfig, GenerationsConfig
from app.errors import (
    BadRequest,
    BrokerUnavailable,
    Gone,
    IdempotencyConflict,
    Interrupted,
    NotFound,
    PermissionDenied,
    TooManyRequests,
)
from app.generations.events import is_terminal
from app.generations.formats import FORMATS
from app.generations.merging import EventMergeRule
from app.generations.receipt import Snapshot, fold
from app.generations.relay import Call, Relay
from app.generations.requests import Info, Policy, StartRequest, parse_policy
from app.generations.sources.port import Transport
from app.generations.watch import Watch
from app.observe.tasks import TaskSet
from app.streams.broker import Broker, Keys, Ledger, OwnedStream, Record
from app.streams.catchup import join
from app.streams.hub import Hub, Listener, Subscription
from app.streams.position import Position
from app.streams.recovery import Recovery

__all__ = ["CancelStatus", "Generation", "Generations", "channel_of", "ends_channel"]

_log = structlog.get_logger(__name__)
_PREFIX = "gen:"
_RULE = EventMergeRule()

_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between looks at a log that a reader is ahead of: its owner's appends are on their way, or he is gone."""

CancelStatus = Literal["cancelled", "cancelling", "finished"]


def channel_of(generation_id: str) -> str:
    return _PREFIX + generation_id


def ends_channel(channel: str, data: bytes) -> bool:
    """Tell the hub after which message a generation's channel has no more."""
    return channel.startswith(_PREFIX) and is_terminal(data)


def _is_interrupted(data: bytes) -> bool:
    event = orjson.loads(data) if data else {}
    return event.get("type") == "failed" and event.get("code") == Interrupted.code


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation as it stands: where its stream is, and what its events have said so far."""

    info: Info
    position: Position
    snapshot: Snapshot


class Generations:
    """The service. Run :meth:`run` as a task; :meth:`close` ends what still runs."""

    def __init__(
        self, config: GenerationsConfig, hub: Hub, broker: Broker, ledger: Ledger, keys: Keys, transport: Transport
    ) -> None:
        self._config = config
        self._hub = hub
        self._broker = broker
        self._ledger = ledger
        self._keys = keys
        self._transport = transport
        self._relays: dict[str, Relay] = {}
        self._tasks = TaskSet()
        self._watch = Watch(config, hub, broker, ledger, self._relays)
        self._closing = False

    async def run(self) -> None:
        """Keep leases, end orphans, and cancel what nobody listens to any more, until cancelled."""
        await self._watch.run()

    @property
    def running(self) -> int:
        return len(self._relays)

    async def start(self, identity: Identity, request: StartRequest) -> tuple[str, Position]:
        """Start a generation, or attach to the one that the same idempotency key has started.

        Returns its id and its beginning. Raises :exc:`~app.errors.BadRequest`, ``IdempotencyConflict``,
        ``TooManyRequests``, ``BrokerUnavailable``.
        """
        call = self._call(request)
        policy = parse_policy(request.on_last_disconnect or self._config.on_last_disconnect)
        generation_id = f"gen_{secrets.token_urlsafe(12)}"
        if request.idempotency_key is not None:
            generation_id = await self._reserve(identity, request, generation_id)
            record = await self._ledger.record(channel_of(generation_id))
            if record is not None:
                return generation_id, Position(record.epoch, 0)
        self._check_room(identity)
        info = Info(generation_id, request.kind, identity.user_id, identity.company_id, call.upstream, time())
        owned = await self._ledger.claim(channel_of(generation_id), info.encode())
        if isinstance(owned, OwnedStream):
            self._launch(owned, call, policy, identity, request.attended)
        return generation_id, Position(owned.epoch, 0)

    async def watch(
        self,
        identity: Identity,
        generation_id: str,
        listener: Listener,
        since: Position | None,
        send: Callable[[Recovery], None],
    ) -> Subscription:
        """Attach ``listener``, as :func:`~app.streams.catchup.join` does, until the generation's end.

        Where he can't go on from ``since`` he begins again, and ``recovered`` is False. Raises what :meth:`record`
        raises.
        """
        record = await self.record(identity, generation_id)
        place = None if since is None else await self.place(record, since)

        def sent(recovery: Recovery) -> None:
            recovery.recovered = recovery.recovered and (since is None or place is not None)
            send(recovery)

        subscription = await join(
            self._hub, self._broker, record.stream, listener, place, replay=True, rule=_RULE, send=sent
        )
        if record.closed:
            self._hub.drop(subscription)
            listener.ended(record.stream)
        return subscription

    async def record(self, identity: Identity, generation_id: str) -> Record:
        """Return the record, if it is the caller's.

        Raises :exc:`~app.errors.NotFound`, ``PermissionDenied``, ``BrokerUnavailable``.
        """
        record = await self._ledger.record(channel_of(generation_id))
        if record is None:
            raise NotFound("There is no such generation, or it is no longer kept.")
        if not Info.decode(record.info).belongs_to(identity):
            raise PermissionDenied("This generation is somebody else's.")
        return record

    async def place(self, record: Record, since: Position) -> Position | None:
        """Return where a reader who says ``since`` can go on; None when he must begin again.

        Without an epoch his offset counts in the generation's only one. While the generation runs he may be ahead of
        the log, for its owner delivers before the log has it: a moment is waited for the log to come. Once it is closed
        he may not; and if it was closed in place of its owner, then what he has at the terminal's offset can be a text
        that the log never got.
        """
        if since.epoch not in {"", record.epoch}:
            return None
        for pause in _PAUSES:
            if record.closed or since.offset <= record.top:
                break
            await asyncio.sleep(pause)
            record = await self._ledger.record(record.stream) or record
        else:
            return None
        if record.closed and since.offset >= record.top:
            history = await self._broker.history(record.stream, record.top - 1)
            last = history.batches[-1].items[-1] if history.batches else b""
            if since.offset > record.top or _is_interrupted(last):
                return None
        return Position(record.epoch, since.offset)

    async def read(self, identity: Identity, generation_id: str) -> Generation:
        """Return all that is known of a generation. Raises what :meth:`record` raises, and ``Gone``."""
        record = await self.record(identity, generation_id)
        history = await self._broker.history(record.stream)
        if history.top and (not history.batches or history.batches[0].first > 1):
            raise Gone("The events of this generation are no longer kept.")
        items = [item for batch in history.batches for item in batch.items]
        return Generation(Info.decode(record.info), Position(record.epoch, history.top), fold(items))

    async def cancel(self, identity: Identity, generation_id: str) -> CancelStatus:
        """Cancel, wherever it runs; a second time changes nothing. Raises what :meth:`record` raises."""
        record = await self.record(identity, generation_id)
        relay = self._relays.get(record.stream)
        if relay is not None:
            return "cancelled" if relay.cancel("user") else "finished"
        if record.closed:
            return "finished"
        if not await self._broker.signal(record.node, orjson.dumps({"cancel": record.stream, "by": "user"})):
            _log.warning("the replica of a generation is gone; it ends with its lease", stream=record.stream)
        return "cancelling"

    def receive_signal(self, message: bytes) -> None:
        """Take a message of another replica."""
        try:
            command = orjson.loads(message)
            relay = self._relays.get(command["cancel"])
            by = str(command["by"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            _log.warning("a signal that is not understood; another version?")
            return
        if relay is not None:
            relay.cancel(by)

    async def close(self, grace: float) -> None:
        """Let what runs finish for ``grace`` seconds, then end it as interrupted."""
        self._closing = True
        if self._relays and grace > 0:
            relays = [relay.upstream_closed.wait() for relay in self._relays.values()]
            try:
                async with asyncio.timeout(grace):
                    await asyncio.gather(*relays)
            except TimeoutError:
                pass
        for relay in list(self._relays.values()):
            relay.interrupt()
        await self._tasks.close()

    def _launch(self, owned: OwnedStream, call: Call, policy: Policy, identity: Identity, attended: bool) -> None:
        relay = Relay(owned, self._ledger, call, user=identity.user_id, max_bytes=self._config.max_bytes)
        self._relays[owned.stream] = relay
        if policy.cancel_after is not None:
            self._watch.add(relay, policy.cancel_after, attended=attended)
        task = self._tasks.start(relay.run(self._transport), f"relay {owned.stream}")
        task.add_done_callback(lambda _: self._relays.pop(owned.stream, None))

    def _call(self, request: StartRequest) -> Call:
        kind = self._config.kinds.get(request.kind)
        if kind is None:
            known = ", ".join(sorted(self._config.kinds)) or "none"
            raise BadRequest(f"kind {request.kind[:64]!r} is not served here. Served: {known}.")
        if request.upstream is not None and request.upstream != kind.upstream:
            raise BadRequest(f"upstream {request.upstream[:64]!r} does not serve kind {request.kind!r}.")
        return _call(kind, request)

    async def _reserve(self, identity: Identity, request: StartRequest, generation_id: str) -> str:
        """Return the id that stands for the request's idempotency key: ``generation_id``, or an earlier one."""
        if identity.anonymous:
            raise BadRequest("idempotency_key needs a signed-in user: it is remembered for him alone.")
        key = orjson.dumps([identity.user_id, identity.company_id, request.idempotency_key]).decode()
        digest = request.digest()
        ttl = self._config.retention + self._config.kinds[request.kind].total_timeout
        standing = await self._keys.reserve(f"start:{key}", generation_id.encode() + b" " + digest, ttl)
        if standing is None:
            return generation_id
        earlier, _, asked = standing.partition(b" ")
        if asked != digest:
            raise IdempotencyConflict
        return earlier.decode()

    def _check_room(self, identity: Identity) -> None:
        if self._closing:
            raise BrokerUnavailable("This replica is going away. Connect again.")
        if len(self._relays) >= self._config.max_running:
            raise TooManyRequests("This replica runs as many generations as it may. Try again in a moment.")
        limit = self._config.max_running_per_user
        if len(self._relays) >= limit and not identity.anonymous:
            running = sum(relay.user == identity.user_id for relay in self._relays.values())
            if running >= limit:
                raise TooManyRequests(f"{running} of your generations run already. Wait for one, or cancel one.")


def _call(kind: GenerationConfig, request: StartRequest) -> Call:
    wire = FORMATS[kind.format]
    body = wire.request_body(request.input, kind.model)
    return Call(
        kind.upstream,
        kind.path,
        wire.headers,
        body,
        wire,
        kind.first_event_timeout,
        kind.idle_timeout,
        kind.total_timeout,
    )
