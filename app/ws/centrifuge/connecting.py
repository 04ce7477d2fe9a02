"""The connect command, the refresh of its token, and the subscriptions that the server makes by itself."""

from __future__ import annotations

from functools import partial
from typing import Any

from app.auth.grants import ChannelGrant, ConnectionGrant
from app.auth.identity import ANONYMOUS
from app.config import ChannelConfig
from app.errors import InvalidToken, SlowConsumer, TokenExpired, TooManySockets
from app.streams.position import Position
from app.ws.centrifuge.access import Options, settings_of
from app.ws.centrifuge.client import Client
from app.ws.centrifuge.joining import appear, enter, seconds_left
from app.ws.centrifuge.seat import Seat
from app.ws.centrifuge.subscription import Joining
from app.ws.protocols.centrifuge_codes import (
    CLOSE_BAD_REQUEST,
    CLOSE_CHANNEL_LIMIT,
    CLOSE_CONNECTION_LIMIT,
    CLOSE_EXPIRED,
    CLOSE_INVALID_TOKEN,
    CLOSE_PERMISSION_DENIED,
    EXPIRED,
    TOKEN_EXPIRED,
    Disconnected,
    Refused,
)
from app.ws.protocols.centrifuge_commands import Connect, Refresh

__all__ = ["connect", "refresh", "server_side"]

_NAME = "tidegate"


async def connect(client: Client, command: Connect) -> None:
    """Let a client in, subscribe it to what its token says, and answer."""
    grant = await _granted(client, command.token)
    now = client.session.services.clock()
    if grant.expires_at is not None and grant.expires_at <= now:
        raise Refused(EXPIRED)
    channels = _channels(client, grant)
    if len(channels) > client.config.centrifuge.max_channels:
        raise Disconnected(CLOSE_CHANNEL_LIMIT)
    await _admit(client, grant)
    client.protocol.identity, client.protocol.info = grant.identity, grant.info
    results: dict[str, Any] = {}
    seats = []
    room = client.session.services.config.send_queue
    for channel, channel_grant in channels.items():
        joining = server_side(client, channel, channel_grant, command.subs.get(channel))
        seat = Seat(client.session, client.codec, quiet=not joining.options.pushes_join_leave(asked=True), room=room)
        seats.append(seat)
        await enter(client, joining, seat, partial(results.__setitem__, channel))
    if client.session.closed:
        return
    client.protocol.opened(grant.expires_at)
    client.session.let_in()
    result = {**_life(client, grant.expires_at), **client.told}
    if client.protocol.pings:
        result |= {"ping": max(1, round(client.config.ping_interval)), "pong": True}
    client.answer(command.id, "connect", {**result, "subs": results} if results else result)
    for seat in seats:
        if not seat.open():
            client.session.close(SlowConsumer())
            return
    for channel in channels:
        await appear(client, channel)


async def refresh(client: Client, command: Refresh) -> None:
    """Take a fresh token of the same user."""
    try:
        grant = await _verified(client, command.token)
    except TokenExpired:
        raise Disconnected(CLOSE_EXPIRED) from None
    if grant.identity.user_id != client.protocol.identity.user_id:
        raise Disconnected(CLOSE_INVALID_TOKEN)
    if grant.expires_at is not None and grant.expires_at <= client.session.services.clock():
        raise Refused(EXPIRED)
    client.protocol.identity, client.protocol.expires_at = grant.identity, grant.expires_at
    client.session.services.ticker.watch(client.session)
    client.answer(command.id, "refresh", _life(client, grant.expires_at))


def server_side(client: Client, channel: str, grant: ChannelGrant, since: Position | None) -> Joining:
    """Return a subscription that the server makes. It is recovered wherever its channel keeps a history."""
    options = Options(settings_of(client.config, channel), grant.override)
    return Joining(channel, options, grant, since, recoverable=True, join_leave=True, server_side=True)


async def _granted(client: Client, token: str) -> ConnectionGrant:
    """Return what the client may be let in with. Raises :exc:`Refused`, :exc:`Disconnected`."""
    config = client.config
    anonymous = config.centrifuge.anonymous or config.insecure
    if not token:
        identity = client.handshake
        if identity is None or identity.anonymous:
            if not anonymous:
                raise Disconnected(CLOSE_BAD_REQUEST)
            identity = ANONYMOUS
        try:
            client.tokens.check(identity)
        except InvalidToken:
            raise Disconnected(CLOSE_INVALID_TOKEN) from None  # Since the handshake.
        return ConnectionGrant(identity, None, identity.expires_at)
    try:
        grant = await _verified(client, token)
    except TokenExpired:
        raise Refused(TOKEN_EXPIRED) from None
    if grant.identity.anonymous and not anonymous:
        raise Disconnected(CLOSE_PERMISSION_DENIED)
    return grant


async def _admit(client: Client, grant: ConnectionGrant) -> None:
    """Count the socket for its user. Raises :exc:`Disconnected`; ``BrokerUnavailable``, which is temporary."""
    try:
        await client.session.admit(grant.identity)
    except TooManySockets:
        raise Disconnected(CLOSE_CONNECTION_LIMIT) from None


async def _verified(client: Client, token: str) -> ConnectionGrant:
    try:
        return await client.tokens.connection(token, client.session.services.clock())
    except InvalidToken:
        raise Disconnected(CLOSE_INVALID_TOKEN) from None


def _channels(client: Client, grant: ConnectionGrant) -> dict[str, ChannelGrant]:
    """Return the channels to subscribe to: those of the token that exist, and the user's own."""
    channels = {}
    for channel, channel_grant in grant.channels.items():
        if len(channel) <= client.config.centrifuge.max_channel_length and _exists(client, channel):
            channels[channel] = channel_grant
    prefix = client.config.centrifuge.personal_channel
    if prefix != "none" and not grant.identity.anonymous:
        channels.setdefault(f"{prefix}{grant.identity.user_id}", ChannelGrant())
    return channels


def _exists(client: Client, channel: str) -> ChannelConfig | None:
    try:
        return settings_of(client.config, channel)
    except Refused:
        return None


def _life(client: Client, expires_at: float | None) -> dict[str, Any]:
    result: dict[str, Any] = {"client": client.id, "version": _NAME}
    if expires_at is not None:
        result |= {"expires": True, "ttl": seconds_left(client, expires_at)}
    return result
