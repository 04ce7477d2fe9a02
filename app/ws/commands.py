"""What the native protocol's commands do. Those that must ask the log answer by one reply each, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import structlog

from app.auth.identity import Identity
from app.auth.keys import UnknownKey
from app.errors import BadRequest, BrokerUnavailable, NotFound, PermissionDenied, TidegateError, TooManyRequests
from app.generations.channels import GENERATION_PREFIX
from app.streams.catchup import join
from app.streams.hub import Listener, Subscription
from app.streams.merge import NeverMerge
from app.streams.position import Position
from app.streams.recovery import Recovery
from app.ws.channels import authorise_subscribe
from app.ws.frames import text_frame
from app.ws.orders import Put, Remove
from app.ws.protocols.actions import End
from app.ws.protocols.native import NativeProtocol
from app.ws.protocols.native_commands import (
    Authenticate,
    Cancel,
    Close,
    Generate,
    Later,
    Options,
    Resume,
    Subscribe,
    Unsubscribe,
)
from app.ws.protocols.native_encoding import channel_fields, error_message, message
from app.ws.services import Services, SocketEncoder
from app.ws.ticker import Ticked

__all__ = ["Asker", "NativeCommander"]

_log = structlog.get_logger(__name__)
_NEVER_MERGE = NeverMerge()
_LEFT: Any = object()


class Asker(Listener, Ticked, Protocol):
    """The session, as its commands see it. ``subscriptions`` holds None for a channel that is being joined."""

    @property
    def encoder(self) -> SocketEncoder: ...
    @property
    def services(self) -> Services: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def subscriptions(self) -> dict[str, Subscription | None]: ...
    @property
    def closed(self) -> bool: ...
    async def admit(self, identity: Identity) -> None: ...
    def let_in(self) -> None: ...
    def run(self, actions: Sequence[Any]) -> None: ...
    def deliver_ready(self, block: bytes) -> None: ...
    def send(self, frame: bytes) -> None: ...
    def close(self, error: TidegateError) -> None: ...
    def roll_up(self, seconds: float) -> None: ...
    def unsubscribe(self, channel: str) -> bool: ...
    async def room(self) -> None: ...


class NativeCommander:
    """:class:`~app.ws.session.Commander` of one socket."""

    def __init__(self, protocol: NativeProtocol) -> None:
        self._protocol = protocol

    def at_once(self, asker: Asker, action: Any) -> bool:
        match action:
            case Authenticate():
                if asker.services.admission.counts_users and not action.refresh:
                    self._protocol.defer()
                    return False
                return self._authenticate(asker, action)
            case Close():
                error = action.error
                asker.run([End(error.close_code or 1011, error.code, error_message(error))])
            case Options():
                asker.roll_up(action.rollup)
                _reply(asker, action.id)
            case _:
                return False
        return True

    async def perform(self, asker: Asker, action: Any) -> None:
        """Carry out one command that must ask the log."""
        match action:
            case Authenticate():
                await self._admit(asker, action)
                asker.run(self._protocol.proceed())
            case Later():
                asker.run(self._protocol.proceed(action.data))
            case Generate():
                await _generate(asker, action)
            case Cancel():
                status = await asker.services.generations.cancel(asker.identity, action.generation_id)
                _reply(asker, action.id, generation_id=action.generation_id, status=status)
            case Subscribe() if action.wait and action.channel not in asker.subscriptions:
                _check_subscriptions(asker, 1)
                asker.subscriptions[action.channel] = None  # It counts, so that waiting is bounded, too.
                asker.services.tasks.start(self._subscribe_later(asker, action), "a subscription that waits")
            case Subscribe():
                await _subscribe(asker, action)
            case Unsubscribe():
                if not asker.unsubscribe(action.channel):
                    raise NotFound("This socket is not subscribed to it.")
                _reply(asker, action.id, **channel_fields(action.channel))
            case Put():
                await _put(asker, self._protocol, action)
            case Remove():
                _remove(asker, self._protocol, action)
            case Resume():
                await _resume(asker, action)
            case _:
                raise AssertionError(f"{type(action).__name__} is no command that asks the log")

    async def _subscribe_later(self, asker: Asker, action: Subscribe) -> None:
        """Subscribe when the generation is there. The commands behind this one go on meanwhile."""
        generation_id = action.channel[len(GENERATION_PREFIX) :]
        try:
            try:
                await asker.services.generations.find(asker.identity, generation_id, action.wait)
            finally:
                waiting = asker.subscriptions.pop(action.channel, _LEFT) is None
            if waiting and not asker.closed:
                await _subscribe(asker, action)
        except TidegateError as error:
            if not asker.closed:
                asker.run(self._protocol.failed(action, error))

    def left(self, asker: Asker, channel: str) -> None:
        """Nobody is told of it."""

    def _authenticate(self, asker: Asker, action: Authenticate) -> bool:
        """Verify a token by the keys that are known; False where that may have to wait for others."""
        try:
            identity = asker.services.verifier.verify(action.token)
        except UnknownKey:
            self._protocol.defer()
            return False
        except TidegateError as error:
            asker.run(self._protocol.refused(error, id_=action.id))
        else:
            self._accept(asker, action, identity)
        return True

    async def _admit(self, asker: Asker, action: Authenticate) -> None:
        """Let a user in if the token is good and he may have one more socket."""
        verifier = asker.services.verifier
        try:
            identity = await verifier.verified(action.token)
            if asker.identity.anonymous:
                await asker.admit(identity)
                identity = verifier.verify(action.token)  # It may be over, or revoked, since.
        except TidegateError as error:
            asker.run(self._protocol.refused(error, id_=action.id))
            return
        self._accept(asker, action, identity)

    def _accept(self, asker: Asker, action: Authenticate, identity: Identity) -> None:
        now = asker.services.clock()
        asker.run(self._protocol.authenticated(identity, now, id_=action.id, refresh=action.refresh))
        asker.let_in()


async def _generate(asker: Asker, action: Generate) -> None:
    _check_subscriptions(asker, 1)  # first: nobody would learn of a generation that was started and can't be watched
    generation_id, _ = await asker.services.generations.start(asker.identity, action.request)
    channel = GENERATION_PREFIX + generation_id
    if channel in asker.subscriptions:
        _reply(asker, action.id, generation_id=generation_id, channel=channel, **_standing(asker, channel))
        return

    def send(recovery: Recovery) -> None:
        position = recovery.position
        reply = {"generation_id": generation_id, "channel": channel, "epoch": position.epoch, "offset": position.offset}
        _send_recovery(asker, channel, recovery, message("reply", id=action.id, ok=True, **reply))

    await _watch(asker, channel, None, send)


async def _subscribe(asker: Asker, action: Subscribe) -> None:
    try:
        await _subscribe_to(asker, action, action.channel)
    except (NotFound, PermissionDenied):
        if not action.channel.startswith(GENERATION_PREFIX):
            raise
        generation_id = action.channel[len(GENERATION_PREFIX) :]
        alias = await asker.services.generations.alias(asker.identity, generation_id)
        if alias is None:
            raise
        await _subscribe_to(asker, action, GENERATION_PREFIX + alias)


async def _subscribe_to(asker: Asker, action: Subscribe, channel: str) -> None:
    if channel in asker.subscriptions:
        _reply(asker, action.id, **channel_fields(channel), **_standing(asker, channel))
        return

    def send(recovery: Recovery) -> None:
        position = recovery.position
        at = {"epoch": position.epoch, "offset": position.offset, "top": recovery.top}
        reply = message("reply", id=action.id, ok=True, **channel_fields(channel), **at, recovered=recovery.recovered)
        _send_recovery(asker, channel, recovery, reply)

    if channel.startswith(GENERATION_PREFIX):
        await _watch(asker, channel, action.since, send)
    else:
        await _listen(asker, action, send)


async def _listen(asker: Asker, action: Subscribe, send: Callable[[Recovery], None]) -> None:
    """Subscribe to a channel that is no generation's."""
    services, channel, since = asker.services, action.channel, action.since
    authorise_subscribe(services.config, asker.identity, channel)
    if since is not None and not since.epoch:
        raise BadRequest("offset needs the epoch that it belongs to.")
    hub, broker = services.hub, services.broker
    await _attach(
        asker, channel, partial(join, hub, broker, channel, asker, since, replay=False, rule=_NEVER_MERGE, send=send)
    )


async def _put(asker: Asker, protocol: NativeProtocol, order: Put) -> None:
    """Subscribe the socket from the server's side. One that is in the channel already stays as it is."""
    services, channel, since = asker.services, order.channel, order.since
    if not protocol.admitted or channel in asker.subscriptions:
        return
    if since is not None and not since.epoch:
        since = Position((await services.broker.history(channel, since.offset)).epoch, since.offset)

    def send(recovery: Recovery) -> None:
        told = protocol.placed(channel, recovery.position, recovery.recovered, order.data)
        _send_recovery(asker, channel, recovery, told)

    joining = partial(join, services.hub, services.broker, channel, asker, since)
    try:
        await _attach(asker, channel, partial(joining, replay=False, rule=_NEVER_MERGE, send=send))
    except TidegateError as error:
        _log.warning("a session was not subscribed", connection_id=protocol.connection_id, code=error.code)


def _remove(asker: Asker, protocol: NativeProtocol, order: Remove) -> None:
    """End one subscription, or all, and tell the client."""
    for channel in [order.channel] if order.channel else list(asker.subscriptions):
        if channel in asker.subscriptions and not asker.closed:
            asker.run(protocol.removed(channel, order.code, order.reason))


async def _resume(asker: Asker, action: Resume) -> None:
    """Answer for all streams in one reply; what each has missed follows it."""
    generations = asker.services.generations
    answers: dict[str, dict[str, Any]] = {}
    wanted: dict[str, Position] = {}
    for generation_id, since in action.streams.items():
        channel = GENERATION_PREFIX + generation_id
        try:
            record = await generations.record(asker.identity, generation_id)
        except (NotFound, PermissionDenied) as error:
            answers[generation_id] = {"status": "gone", "code": error.code}
            continue
        status = "finished" if record.closed else "resumed" if record.top else "pending"
        if channel in asker.subscriptions:
            answers[generation_id] = {"status": status, **_standing(asker, channel)}
            continue
        place = await generations.place(record, since)
        start = place or Position(record.epoch, 0)
        at = {"epoch": start.epoch, "offset": start.offset, "top": max(record.top, start.offset)}
        answers[generation_id] = {"status": status, **at, "recovered": place is not None}
        wanted[channel] = start
    _check_subscriptions(asker, len(wanted))
    _reply(asker, action.id, streams=answers)
    for channel, start in wanted.items():
        await asker.room()
        await _follow(asker, channel, start)


async def _follow(asker: Asker, channel: str, start: Position) -> None:
    """Send what a resumed stream has missed. The reply is out: what goes wrong now is told as a gap."""

    def gap(text: str, **fields: Any) -> None:
        asker.send(text_frame(message("gap", **channel_fields(channel), **fields, message=text)))

    def send(recovery: Recovery) -> None:
        if not recovery.recovered:
            at = recovery.position
            gap("It begins again after this offset.", subscribed=True, epoch=at.epoch, offset=at.offset)
        _send_recovery(asker, channel, recovery, None)

    try:
        await _watch(asker, channel, start, send)
    except TidegateError as error:
        gap(error.message, subscribed=False, code=error.code)


async def _watch(asker: Asker, channel: str, since: Position | None, send: Callable[[Recovery], None]) -> None:
    generation_id = channel[len(GENERATION_PREFIX) :]
    watch = partial(asker.services.generations.watch, asker.identity, generation_id, asker, since, send)
    await _attach(asker, channel, watch)


async def _attach(asker: Asker, channel: str, attach: Callable[[], Awaitable[Subscription]]) -> None:
    """Join and remember the subscription, unless it ended or the socket closed meanwhile."""
    if asker.closed:
        return
    _check_subscriptions(asker, 1)
    asker.subscriptions[channel] = None
    try:
        subscription = await attach()
    except BaseException:
        asker.subscriptions.pop(channel, None)
        raise
    if channel in asker.subscriptions:
        asker.subscriptions[channel] = subscription
    else:
        asker.services.hub.drop(subscription)


def _check_subscriptions(asker: Asker, more: int) -> None:
    limit = asker.services.config.max_subscriptions
    if len(asker.subscriptions) + more > limit:
        raise TooManyRequests(f"A socket may have {limit} subscriptions.")


def _reply(asker: Asker, id_: Any, **fields: Any) -> None:
    asker.send(text_frame(message("reply", id=id_, ok=True, **fields)))


def _standing(asker: Asker, channel: str) -> dict[str, Any]:
    """Return where a subscription stands that the socket has already: nothing is sent twice."""
    hub = asker.services.hub
    hub.flush_channel(channel)
    position = hub.position(channel)
    if position is None:
        raise BrokerUnavailable("Its position is being looked up. Ask again.")
    return {"epoch": position.epoch, "offset": position.offset, "recovered": True, "already": True}


def _send_recovery(asker: Asker, channel: str, recovery: Recovery, reply: bytes | None) -> None:
    """Send ``reply`` and what was missed in one write."""
    block = asker.encoder.publications(channel, recovery.position.epoch, recovery.publications)
    if reply is not None:
        block = text_frame(reply) + block
    if block:
        asker.send(block)
