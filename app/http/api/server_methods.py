"""What the server API's methods do, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from app.config import RealtimeConfig
from app.errors import TidegateError, TooManyRequests
from app.generations.channels import GENERATION_PREFIX
from app.http.api.server_channels import channel_settings
from app.http.api.server_requests import (
    BAD_REQUEST,
    BatchRequest,
    BroadcastRequest,
    ChannelRequest,
    ChannelsRequest,
    Fault,
    HistoryRequest,
    InfoRequest,
    PublishRequest,
    parse,
)
from app.streams.broker import Archive, Broker, Version
from app.streams.census import Census
from app.streams.envelope import enveloped, members
from app.streams.position import Position
from app.streams.presence import Presence
from app.streams.publication import Publication

__all__ = ["Method", "ServerMethods"]

Result = dict[str, Any]
Method = Callable[[Any], Awaitable[Result]]
"""Takes a request's body. Raises :exc:`Fault` and :exc:`~app.errors.TidegateError`."""
_AT_ONCE = 16
"""Publications of one request that are on their way to the broker together."""
INTERNAL, PERMISSION_DENIED = 100, 103
METHOD_NOT_FOUND, LIMIT_EXCEEDED, NOT_AVAILABLE, UNRECOVERABLE = 104, 106, 108, 112


class ServerMethods:
    """The methods, by name. Results are what :func:`orjson.dumps` takes."""

    def __init__(
        self,
        config: RealtimeConfig,
        broker: Broker,
        archive: Archive,
        presence: Presence,
        census: Census,
        more: Mapping[str, Method] = MappingProxyType({}),
    ) -> None:
        """``more`` are methods beside those that are here."""
        self._config = config
        self._broker = broker
        self._archive = archive
        self._presence = presence
        self._census = census
        self._methods: dict[str, Method] = {
            "publish": self._publish,
            "broadcast": self._broadcast,
            "presence": self._present,
            "presence_stats": self._presence_stats,
            "history": self._history,
            "history_remove": self._history_remove,
            "channels": self._channels,
            "info": self._info,
            **more,
        }

    @property
    def names(self) -> Sequence[str]:
        return [*self._methods, "batch"]

    async def call(self, name: str, body: Any) -> Result:
        """Return the whole answer: ``{"result": …}``, ``{"error": …}``, of a batch ``{"replies": […]}``."""
        if name == "batch":
            try:
                return {"replies": await self._batch(parse(BatchRequest, body))}
            except Fault as fault:
                return {"error": {"code": fault.code, "message": fault.message}}
        return await _answered(self._perform(name, body))

    async def _perform(self, name: str, body: Any) -> Result:
        method = self._methods.get(name)
        if method is None:
            raise Fault(METHOD_NOT_FOUND, "method not found")
        return await method(body)

    async def _batch(self, request: BatchRequest) -> list[Result]:
        if request.parallel:
            return await _together([self._command(command) for command in request.commands])
        return [await self._command(command) for command in request.commands]

    async def _command(self, command: dict[str, Any]) -> Result:
        """A reply names the method in place of ``result``."""
        given = [name for name, body in command.items() if body is not None and name in self._methods]
        if len(given) != 1:
            return {"error": {"code": METHOD_NOT_FOUND, "message": "method not found"}}
        (name,) = given
        answer = await self.call(name, command[name])
        return {name: answer["result"]} if "result" in answer else answer

    async def _publish(self, body: Any) -> Result:
        request = parse(PublishRequest, body)
        return await self._publish_to(request.channel, request, request.payload())

    async def _broadcast(self, body: Any) -> Result:
        request = parse(BroadcastRequest, body)
        data = request.payload()
        publish = [_answered(self._publish_to(channel, request, data)) for channel in request.channels]
        return {"responses": await _together(publish)}

    async def _publish_to(self, channel: str, request: PublishRequest | BroadcastRequest, data: bytes) -> Result:
        settings = channel_settings(self._config, channel)
        if channel.startswith(GENERATION_PREFIX):
            raise Fault(PERMISSION_DENIED, "permission denied: a generation's channel has one writer")
        published = await self._broker.publish(
            channel,
            enveloped(data, tags=request.tags),
            size=0 if request.skip_history else settings.history_size,
            ttl=settings.history_ttl,
            idempotency_key=request.idempotency_key or None,
            version=Version(request.version, request.version_epoch) if request.version else None,
        )
        return {"offset": published.offset, "epoch": published.epoch} if published.epoch else {}

    async def _present(self, body: Any) -> Result:
        channel = self._with_presence(body)
        present = await self._presence.present(channel)
        return {"presence": {client: orjson.Fragment(info) for client, info in present.items()}}

    async def _presence_stats(self, body: Any) -> Result:
        clients, users = await self._presence.count(self._with_presence(body))
        return {"num_clients": clients, "num_users": users}

    async def _history(self, body: Any) -> Result:
        request = parse(HistoryRequest, body)
        self._need_history(request.channel)
        since = request.since
        if request.reverse and since is not None and since.offset == 0:
            raise Fault(BAD_REQUEST, "bad request: nothing is before offset 0")
        page = await self._archive.page(
            request.channel,
            since=None if since is None else since.offset,
            limit=request.limit if request.limit >= 0 else None,
            reverse=request.reverse,
        )
        if since is not None and not page.follows(Position(since.epoch, since.offset)):
            raise Fault(UNRECOVERABLE, "unrecoverable position")
        publications = [_publication(each) for each in page.publications]
        return {"publications": publications, "offset": page.top, "epoch": page.epoch}

    async def _history_remove(self, body: Any) -> Result:
        channel = parse(ChannelRequest, body).channel
        self._need_history(channel)
        if channel.startswith(GENERATION_PREFIX):
            raise Fault(PERMISSION_DENIED, "permission denied: a generation's log is kept whole")
        await self._archive.remove(channel)
        return {}

    async def _channels(self, body: Any) -> Result:
        counts = await self._census.channels(parse(ChannelsRequest, body).pattern)
        return {"channels": {channel: {"num_clients": count} for channel, count in counts.items()}}

    async def _info(self, body: Any) -> Result:
        parse(InfoRequest, body)
        return {"nodes": await self._census.nodes()}

    def _need_history(self, channel: str) -> None:
        if not channel_settings(self._config, channel).history_size and not channel.startswith(GENERATION_PREFIX):
            raise Fault(NOT_AVAILABLE, "not available")

    def _with_presence(self, body: Any) -> str:
        channel = parse(ChannelRequest, body).channel
        if channel.startswith(GENERATION_PREFIX) or not channel_settings(self._config, channel).presence:
            raise Fault(NOT_AVAILABLE, "not available")
        return channel


async def _answered(result: Awaitable[Result]) -> Result:
    try:
        return {"result": await result}
    except Fault as fault:
        return {"error": {"code": fault.code, "message": fault.message}}
    except TidegateError as error:
        code = LIMIT_EXCEEDED if isinstance(error, TooManyRequests) else INTERNAL
        return {"error": {"code": code, "message": error.message}}


async def _together(calls: Sequence[Awaitable[Result]]) -> list[Result]:
    """Run ``calls``, some at once, and return their results in order."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def bounded(call: Awaitable[Result]) -> Result:
        async with limit:
            return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bounded(call)) for call in calls]
    return [task.result() for task in tasks]


def _publication(each: Publication) -> orjson.Fragment:
    more, data = members(each.data)
    parts = [b'{"data":' + data, b'"offset":%d' % each.offset]
    if more:
        parts.append(more)
    return orjson.Fragment(b",".join(parts) + b"}")
