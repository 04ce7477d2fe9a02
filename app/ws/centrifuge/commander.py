"""What the Centrifuge protocol's commands do, in the order in which they came."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import orjson

from app.config import ChannelConfig
from app.errors import NotFound, TidegateError
from app.generations.channels import GENERATION_PREFIX
from app.streams.broker import Archive
from app.streams.envelope import enveloped, left
from app.ws.centrifuge.access import settings_of, subscribable
from app.ws.centrifuge.calls import call
from app.ws.centrifuge.client import Client, info_of
from app.ws.centrifuge.connecting import connect, refresh
from app.ws.centrifuge.joining import sub_refresh, subscribe
from app.ws.centrifuge.ordered import obey
from app.ws.commander import Asker
from app.ws.protocols.centrifuge_codec import Publications
from app.ws.protocols.centrifuge_codes import (
    BAD_REQUEST,
    NOT_AVAILABLE,
    PERMISSION_DENIED,
    UNKNOWN_CHANNEL,
    UNRECOVERABLE,
    Refused,
)
from app.ws.protocols.centrifuge_commands import (
    Connect,
    History,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Refuse,
    Rpc,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from app.ws.protocols.centrifuge_state import Place, State

__all__ = ["CentrifugeCommander"]


class CentrifugeCommander:
    """:class:`~app.ws.session.Commander` of one socket. ``client`` is set as soon as there is a session."""

    client: Client

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def at_once(self, asker: Asker, action: Any) -> bool:
        return False  # Every answer keeps its place behind that of the connect command.

    async def perform(self, asker: Asker, action: Any) -> None:
        if self.client.protocol.state is not State.UNUSABLE:  # What came with a connect that failed is nobody's.
            await self._carry_out(asker, action)

    def left(self, asker: Asker, channel: str) -> None:
        place = self.client.protocol.places.pop(channel, None)
        if place is not None and (place.present or place.announced):
            asker.services.tasks.start(self._disappear(channel, place), "leave a channel")

    async def _carry_out(self, asker: Asker, action: Any) -> None:
        client = self.client
        match action:
            case Refuse():
                raise Refused(action.fault)
            case Connect():
                await connect(client, action)
            case Refresh():
                await refresh(client, action)
            case Subscribe():
                await subscribe(client, action)
            case SubRefresh():
                await sub_refresh(client, action)
            case Unsubscribe():
                asker.unsubscribe(action.channel)
                client.answer(action.id, "unsubscribe")
            case Publish():
                await self._publish(action)
            case Presence():
                await self._presence(action)
            case PresenceStats():
                await self._presence_stats(action)
            case History():
                await self._history(action)
            case Rpc():
                data = await call(client, action.method, action.data)
                client.answer(action.id, "rpc", {"data": orjson.dumps(data)})
            case _:
                await obey(client, action)

    async def _disappear(self, channel: str, place: Place) -> None:
        client = self.client
        try:
            if place.present:
                await client.presence.leave(channel, client.id)
            if place.announced:
                await client.session.services.broker.publish(channel, left(place.info))
        except TidegateError:
            pass  # What can't be told is forgotten after a while.

    async def _publish(self, command: Publish) -> None:
        client, channel = self.client, command.channel
        if channel.startswith(GENERATION_PREFIX):
            raise Refused(PERMISSION_DENIED)
        settings = self._allowed(channel, "allow_publish")
        place = client.protocol.places.get(channel)
        item = enveloped(command.data, info=info_of(client.protocol) if place is None else place.info)
        broker = client.session.services.broker
        tracing, trace = client.session.services.tracing, client.session.account.trace
        with nullcontext() if tracing is None or trace is None else tracing.publishing(channel, trace):
            await broker.publish(channel, item, size=settings.history_size, ttl=settings.history_ttl)
        client.answer(command.id, "publish")

    async def _presence(self, command: Presence) -> None:
        self._present(command.channel)
        present = await self.client.presence.present(command.channel)
        self.client.answer(command.id, "presence", {"presence": present})

    async def _presence_stats(self, command: PresenceStats) -> None:
        self._present(command.channel)
        clients, users = await self.client.presence.count(command.channel)
        self.client.answer(command.id, "presence_stats", {"num_clients": clients, "num_users": users})

    async def _history(self, command: History) -> None:
        client, channel, since = self.client, command.channel, command.since
        limit: int | None = command.limit if command.limit >= 0 else None
        if channel.startswith(GENERATION_PREFIX):
            try:
                await client.session.services.generations.record(
                    client.protocol.identity, channel[len(GENERATION_PREFIX) :]
                )
            except NotFound:
                raise Refused(UNKNOWN_CHANNEL) from None
        else:
            settings = settings_of(client.config, channel)
            if not settings.history_size:
                raise Refused(NOT_AVAILABLE)
            self._allowed(channel, "allow_history")
            most = settings.recovery_max_publications
            limit = most if limit is None else min(limit, most)
        offset = None if since is None else since.offset
        page = await self._archive.page(channel, since=offset, limit=limit, reverse=command.reverse)
        if since is not None and not page.follows(since):
            raise Refused(UNRECOVERABLE)
        publications = Publications(page.epoch, page.publications)
        client.answer(command.id, "history", {"publications": publications, "epoch": page.epoch, "offset": page.top})

    def _present(self, channel: str) -> None:
        if channel.startswith(GENERATION_PREFIX) or not settings_of(self.client.config, channel).presence:
            raise Refused(NOT_AVAILABLE)
        self._allowed(channel, "allow_presence")

    def _allowed(self, channel: str, what: str) -> ChannelConfig:
        """Return the channel's settings if the client may do ``what`` there: who is in it, or may be."""
        client = self.client
        if len(channel) > client.config.centrifuge.max_channel_length:
            raise Refused(BAD_REQUEST)
        settings = settings_of(client.config, channel)
        if not getattr(settings, what):
            raise Refused(PERMISSION_DENIED)
        if channel not in client.protocol.places:
            subscribable(client.config, client.protocol.identity, channel)
        return settings
