"""Remote procedure calls: what the native protocol's commands for generations do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from app.errors import BadRequest, NotFound, PermissionDenied
from app.generations.channels import GENERATION_PREFIX
from app.generations.requests import StartRequest
from app.streams.position import Position
from app.ws.centrifuge.client import Client
from app.ws.protocols.centrifuge_codes import METHOD_NOT_FOUND, Refused
from app.ws.protocols.native_commands import Resume, read_command

__all__ = ["call"]


async def call(client: Client, method: str, data: Any) -> dict[str, Any]:
    """Return the result's data. Raises :exc:`~app.errors.TidegateError`."""
    calls: dict[str, Callable[[Client, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
        "generate": _generate,
        "cancel": _cancel,
        "resume": _resume,
    }
    if method not in calls:
        raise Refused(METHOD_NOT_FOUND)
    if not isinstance(data, dict):
        raise BadRequest("data must be an object.")
    return await calls[method](client, data)


async def _generate(client: Client, data: dict[str, Any]) -> dict[str, Any]:
    """The asker subscribes to the channel next, from the position that he gets."""
    request = replace(StartRequest.parse(data, attended=False), caller=client.session.caller)
    generation_id, position = await client.session.services.generations.start(client.protocol.identity, request)
    return {"generation_id": generation_id, "channel": GENERATION_PREFIX + generation_id, **position._asdict()}


async def _cancel(client: Client, data: dict[str, Any]) -> dict[str, Any]:
    generation_id = data.get("generation_id")
    if not isinstance(generation_id, str) or not generation_id:
        raise BadRequest("generation_id must be a text.")
    status = await client.session.services.generations.cancel(client.protocol.identity, generation_id)
    return {"generation_id": generation_id, "status": status}


async def _resume(client: Client, data: dict[str, Any]) -> dict[str, Any]:
    """Say how each generation stands, and from where its channel can be subscribed to."""
    command = read_command({**data, "type": "resume"}, None)
    assert isinstance(command, Resume)
    generations, identity = client.session.services.generations, client.protocol.identity
    streams: dict[str, dict[str, Any]] = {}
    for generation_id, since in command.streams.items():
        try:
            record = await generations.record(identity, generation_id)
        except (NotFound, PermissionDenied) as error:
            streams[generation_id] = {"status": "gone", "code": error.code}
            continue
        place = await generations.place(record, since)
        start = place or Position(record.epoch, 0)
        status = "finished" if record.closed else "resumed" if record.top else "pending"
        streams[generation_id] = {
            "status": status,
            "channel": record.stream,
            **start._asdict(),
            "recovered": place is not None,
        }
    return {"streams": streams}
