"""How a native session gets into channels: by a command, with a generation, by a back end's order, once more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from app.errors import BadRequest, BrokerUnavailable, NotFound, PermissionDenied, TidegateError, TooManyRequests
from app.generations.channels import GENERATION_PREFIX
from app.streams.catchup import join
from app.streams.listener import Subscription
from app.streams.merge import NeverMerge
from app.streams.position import Position
from app.streams.recovery import Recovery
from app.ws.channels import authorise_subscribe
from app.ws.commander import Asker
from app.ws.frames import text_frame
from app.ws.orders import Put, Remove
from app.ws.protocols.native import NativeProtocol
from app.ws.protocols.native_commands import Generate, Resume, Subscribe
from app.ws.protocols.native_encoding import channel_fields, message

__all__ = ["check_subscriptions", "generate", "put", "remove", "reply", "resume", "subscribe"]

_log = structlog.get_logger(__name__)
_NEVER_MERGE = NeverMerge()
_PATIENCE = (0.1, 0.5, 2.0)
"""Seconds between attempts to follow a stream again that was resumed while Redis was late."""


async def generate(asker: Asker, action: Generate) -> None:
    """Start a generation, or attach to the one that runs, and answer."""
    check_subscriptions(asker, 1)  # first: nobody would learn of a generation that was started and can't be watched
    request = replace(action.request, caller=asker.caller)
    generation_id, _ = await asker.services.generations.start(asker.identity, request)
    channel = GENERATION_PREFIX + generation_id
    if channel in asker.subscriptions:
        reply(asker, action.id, generation_id=generation_id, channel=channel, **_standing(asker, channel))
        return

    def send(recovery: Recovery) -> None:
        position = recovery.position
        reply = {"generation_id": generation_id, "channel": channel, "epoch": position.epoch, "offset": position.offset}
        _send_recovery(asker, channel, recovery, message("reply", id=action.id, ok=True, **reply))

    await _watch(asker, channel, None, send)


async def subscribe(asker: Asker, action: Subscribe) -> None:
    """Answer a subscribe command; a generation may be named by its upstream's id, too."""
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
        reply(asker, action.id, **channel_fields(channel), **_standing(asker, channel))
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


async def put(asker: Asker, protocol: NativeProtocol, order: Put) -> None:
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


def remove(asker: Asker, protocol: NativeProtocol, order: Remove) -> None:
    """End one subscription, or all, and tell the client."""
    for channel in [order.channel] if order.channel else list(asker.subscriptions):
        if channel in asker.subscriptions and not asker.closed:
            asker.run(protocol.removed(channel, order.code, order.reason))


async def resume(asker: Asker, action: Resume) -> None:
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
    check_subscriptions(asker, len(wanted))
    reply(asker, action.id, streams=answers)
    for channel, start in wanted.items():
        await asker.room()
        await _follow(asker, channel, start)


async def _follow(asker: Asker, channel: str, start: Position) -> None:
    """Send what a resumed stream has missed. The reply is out: what goes wrong now is told as a gap.

    Where only Redis was late nothing is lost, and it is tried again before he is sent back to the beginning.
    """

    def gap(text: str, **fields: Any) -> None:
        asker.send(text_frame(message("gap", **channel_fields(channel), **fields, message=text)))

    def send(recovery: Recovery) -> None:
        if not recovery.recovered:
            at = recovery.position
            gap("It begins again after this offset.", subscribed=True, epoch=at.epoch, offset=at.offset)
        _send_recovery(asker, channel, recovery, None)

    for pause in (*_PATIENCE, None):
        try:
            return await _watch(asker, channel, start, send)
        except TidegateError as error:
            if pause is None or not isinstance(error, BrokerUnavailable):
                return gap(error.message, subscribed=False, code=error.code)
        await asyncio.sleep(pause)


async def _watch(asker: Asker, channel: str, since: Position | None, send: Callable[[Recovery], None]) -> None:
    generation_id = channel[len(GENERATION_PREFIX) :]
    watch = partial(asker.services.generations.watch, asker.identity, generation_id, asker, since, send)
    await _attach(asker, channel, watch)


async def _attach(asker: Asker, channel: str, attach: Callable[[], Awaitable[Subscription]]) -> None:
    """Join and remember the subscription, unless it ended or the socket closed meanwhile."""
    if asker.closed:
        return
    check_subscriptions(asker, 1)
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


def check_subscriptions(asker: Asker, more: int) -> None:
    """Raise :exc:`~app.errors.TooManyRequests` where the socket may not have so many more."""
    limit = asker.services.config.max_subscriptions
    if len(asker.subscriptions) + more > limit:
        raise TooManyRequests(f"A socket may have {limit} subscriptions.")


def reply(asker: Asker, id_: Any, **fields: Any) -> None:
    """Answer a command that was carried out."""
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
