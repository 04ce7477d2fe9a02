"""Subscribing, by command and by the server: permission, place, recovery, presence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from app.auth.grants import ChannelGrant, subscription_grant
from app.config import ChannelConfig
from app.errors import InvalidToken, NotFound, TidegateError, TokenExpired
from app.generations.channels import GENERATION_PREFIX
from app.streams.catchup import join
from app.streams.envelope import joined, plain
from app.streams.listener import Listener, Subscription
from app.streams.merge import NeverMerge, merge
from app.streams.position import Position
from app.streams.recovery import Recovery
from app.ws.centrifuge.access import Options, settings_of, subscribable
from app.ws.centrifuge.client import Client, info_of
from app.ws.centrifuge.delta_seat import DeltaSeat
from app.ws.centrifuge.filter_seat import passes
from app.ws.centrifuge.subscription import Joining, seat
from app.ws.protocols.centrifuge_codec import Publications
from app.ws.protocols.centrifuge_codes import (
    ALREADY_SUBSCRIBED,
    BAD_REQUEST,
    CLOSE_INVALID_TOKEN,
    EXPIRED,
    LIMIT_EXCEEDED,
    NOT_AVAILABLE,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    UNKNOWN_CHANNEL,
    UNRECOVERABLE,
    Disconnected,
    Refused,
)
from app.ws.protocols.centrifuge_commands import SubRefresh, Subscribe
from app.ws.protocols.centrifuge_state import Place

__all__ = ["appear", "enter", "read_grant", "seconds_left", "sub_refresh", "subscribe"]

_NEVER_MERGE = NeverMerge()
_MANY = 1000
"""Events of a generation that are recovered one by one; of more the texts are merged."""

_GENERATION = ChannelConfig(history_size=1, force_recovery=True)
"""The settings of every generation's channel; what is kept of it is settled elsewhere."""


async def subscribe(client: Client, command: Subscribe) -> None:
    """Answer a subscribe command. Raises :exc:`~app.errors.TidegateError`."""
    joining = await _joining(client, command)

    def send(result: dict[str, Any]) -> None:
        client.answer(command.id, "subscribe", result)

    await enter(client, joining, client.session, send)
    await appear(client, command.channel)


async def sub_refresh(client: Client, command: SubRefresh) -> None:
    """Answer a sub_refresh command: the subscription's new token."""
    channel = command.channel or await _named_channel(client, command.token)
    place = client.protocol.places.get(channel)
    if place is None:
        raise Refused(PERMISSION_DENIED)
    grant = await read_grant(client, channel, command.token)
    place.expires_at = grant.expires_at
    client.session.services.ticker.watch(client.session)
    client.answer(command.id, "sub_refresh", _expiry(client, grant.expires_at))


async def enter(client: Client, joining: Joining, listener: Listener, send: Callable[[dict[str, Any]], None]) -> None:
    """Join a channel; ``send`` writes the result, in the step in which its messages begin."""
    protocol, session = client.protocol, client.session
    if session.closed:
        return
    channel, options = joining.channel, joining.options
    protocol.places[channel] = Place(
        server_side=joining.server_side,
        positioned=joining.keeps_position,
        info=info_of(protocol, joining.grant.info),
        expires_at=joining.grant.expires_at,
        presence=options.presence,
        announces=options.join_leave,
    )
    if listener is session:
        listener = seat(client, joining)
    session.subscriptions[channel] = None
    try:
        subscription = await _attach(client, joining, listener, send)
    except BaseException:
        session.subscriptions.pop(channel, None)
        protocol.places.pop(channel, None)
        raise
    if channel in session.subscriptions:
        session.subscriptions[channel] = subscription
        session.services.ticker.watch(session)
    else:
        session.services.hub.drop(subscription)


async def appear(client: Client, channel: str) -> None:
    """Let others know that the client is in ``channel``, and itself."""
    place = client.protocol.places.get(channel)
    if place is None or client.session.closed:
        return
    try:
        if place.presence:
            place.present = True
            await client.presence.enter(channel, client.id, place.info)
            if client.protocol.places.get(channel) is not place:
                await client.presence.leave(channel, client.id)  # It left meanwhile, and may have been faster.
        if place.announces and client.protocol.places.get(channel) is place:
            place.announced = True
            await client.session.services.broker.publish(channel, joined(place.info))
    except TidegateError:
        pass  # The subscription stands; presence is renewed in a moment.


async def read_grant(client: Client, channel: str, token: str) -> ChannelGrant:
    """Read a subscription's token. Raises :exc:`Refused`, and :exc:`Disconnected` for somebody else's token."""
    now = client.session.services.clock()
    try:
        claims = await client.tokens.claims(token, now)
        grant = subscription_grant(claims, client.protocol.identity, channel, client.id)
    except TokenExpired:
        raise Refused(TOKEN_EXPIRED) from None
    except InvalidToken:
        raise Refused(PERMISSION_DENIED) from None
    if grant is None:
        raise Disconnected(CLOSE_INVALID_TOKEN)
    if grant.expires_at is not None and grant.expires_at <= now:
        raise Refused(EXPIRED)
    return grant


def seconds_left(client: Client, expires_at: float | None) -> int:
    """Return a time to live in whole seconds, 0 for no end."""
    return 0 if expires_at is None else max(1, math.floor(expires_at - client.session.services.clock()))


async def _joining(client: Client, command: Subscribe) -> Joining:
    config, channel = client.config, command.channel
    if len(channel) > config.centrifuge.max_channel_length:
        raise Refused(BAD_REQUEST)
    if channel in client.protocol.places:
        raise Refused(ALREADY_SUBSCRIBED)
    if len(client.protocol.places) >= config.centrifuge.max_channels:
        raise Refused(LIMIT_EXCEEDED)
    grant = ChannelGrant()
    if channel.startswith(GENERATION_PREFIX):
        settings = _GENERATION
    elif command.token:
        settings = settings_of(config, channel)
        grant = await read_grant(client, channel, command.token)
    else:
        settings = subscribable(config, client.protocol.identity, channel)
    if command.tags is not None and not settings.allow_tags_filter:
        raise Refused(BAD_REQUEST)
    return Joining(
        channel,
        Options(settings, grant.override),
        grant,
        command.since,
        command.positioned,
        command.recoverable,
        command.join_leave,
        command.reject_unrecovered,
        delta=command.delta,
        tags=command.tags,
    )


async def _attach(
    client: Client, joining: Joining, listener: Listener, send: Callable[[dict[str, Any]], None]
) -> Subscription:
    services, channel = client.session.services, joining.channel
    since = joining.since if joining.recovers else None

    def sent(recovery: Recovery) -> None:
        result = _result(client, joining, since, recovery)
        send(result)
        if isinstance(listener, DeltaSeat) and result.get("publications"):
            listener.begin(plain(recovery.publications[-1].data))

    if joining.generation:
        watch = services.generations.watch
        generation_id = channel[len(GENERATION_PREFIX) :]
        try:
            return await watch(client.protocol.identity, generation_id, listener, since, sent, rule=_NEVER_MERGE)
        except NotFound:
            raise Refused(UNKNOWN_CHANNEL) from None
    known = services.hub.position(channel)
    if joining.keeps_position and (known is None or not known.epoch):
        # Its first message would name an epoch, too; but not every SDK reads it there, and a filter may hold it back.
        await services.broker.begin(channel, joining.options.settings.history_ttl)
    if since is not None and not since.epoch:
        history = await services.broker.history(channel, since.offset)
        since = Position(history.epoch, since.offset)
    attach = partial(join, services.hub, services.broker, channel, listener, since, replay=False)
    return await attach(rule=_NEVER_MERGE, send=sent)


def _result(client: Client, joining: Joining, since: Position | None, recovery: Recovery) -> dict[str, Any]:
    """Return the result of a subscription. Who recovered stands where he asked; others at the top of the log.

    A generation is begun from its first event by those who don't say where they stand.
    """
    publications, tags = recovery.publications, joining.tags
    if tags is not None:
        publications = [each for each in publications if passes(tags, each.data)]
    recovered = recovery.recovered and since is not None
    limit = joining.options.settings.recovery_max_publications
    if recovered and not joining.generation and len(publications) > limit:
        recovered = False
    if since is not None and not recovered and joining.reject_unrecovered:
        raise Refused(UNRECOVERABLE)
    offset = recovery.top
    if recovered or (joining.generation and since is None):
        offset = recovery.position.offset
        if len(publications) > _MANY:
            publications = merge(publications, client.session.services.rule)
    else:
        publications = []
    result: dict[str, Any] = {
        **_expiry(client, joining.grant.expires_at),
        "recoverable": joining.recovers,
        "positioned": joining.keeps_position,
        "recovered": recovered,
        "was_recovering": joining.since is not None,
        "delta": joining.deltas,
    }
    if joining.keeps_position:
        epoch = recovery.position.epoch
        result |= {"epoch": epoch, "offset": offset, "publications": Publications(epoch, publications, joining.deltas)}
    if joining.grant.data is not None:
        result["data"] = joining.grant.data
    return result


def _expiry(client: Client, expires_at: float | None) -> dict[str, Any]:
    return {} if expires_at is None else {"expires": True, "ttl": seconds_left(client, expires_at)}


async def _named_channel(client: Client, token: str) -> str:
    """Return the channel that a token names, for clients that leave it to the token."""
    try:
        channel = (await client.tokens.claims(token, client.session.services.clock())).get("channel")
    except TokenExpired:
        raise Refused(TOKEN_EXPIRED) from None
    except InvalidToken:
        raise Refused(PERMISSION_DENIED) from None
    if not isinstance(channel, str) or not channel:
        raise Refused(NOT_AVAILABLE)
    return channel
