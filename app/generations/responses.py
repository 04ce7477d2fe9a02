"""Responses that can be followed by others: what was asked is kept beside the generation, for as long as it.

A generation's own log has what was answered and nothing of the question. A response that follows another one
(``previous_response_id``) needs both, on any replica. What does not fit is not kept, and then nothing can follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from app.auth.identity import Identity
from app.errors import BadRequest, Gone, NotFound, PermissionDenied, PreviousNotFound
from app.generations.event_json import encode, encode_delta
from app.generations.formats.served.calls import calls_of
from app.generations.formats.served.response_request import (
    asked_of,
    chat_body,
    messages_of_input,
    partial_images_of,
    prompt_of,
)
from app.generations.formats.served.responses import ResponseStream
from app.generations.lifecycle import State
from app.generations.receipt import Snapshot
from app.generations.requests import Info
from app.generations.served import IMAGE_FORMATS, Served, Target
from app.generations.service import Generation, Generations
from app.limits.shares import Caller
from app.streams.broker import Keys

__all__ = ["Asked", "Responses", "generation_of", "response_id", "response_of"]

_PREFIX = "resp_"
_LONGEST = 256
_MOST = 1024 * 1024
"""Bytes of one conversation that is kept."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: the model by the client's name, what the response repeats, and the conversation up to here."""

    model: str
    repeated: Mapping[str, Any]
    messages: list[dict[str, Any]]

    def stream(self, generation_id: str, created: float) -> ResponseStream:
        """Return the encoder of the response."""
        return ResponseStream(response_id(generation_id), int(created), self.model, self.repeated)


def response_id(generation_id: str) -> str:
    return _PREFIX + generation_id.removeprefix("gen_")


def generation_of(response: Any) -> str:
    """Return the id of a response's generation; any other id may be a generation's own.

    Raises :exc:`~app.errors.NotFound` for what can be none.
    """
    if not isinstance(response, str) or not 0 < len(response) <= _LONGEST:
        raise NotFound("There is no such response.")
    return "gen_" + response.removeprefix(_PREFIX) if response.startswith(_PREFIX) else response


class Responses:
    """Starts them, and finds what was kept of them."""

    def __init__(self, generations: Generations, keys: Keys, served: Served) -> None:
        self._generations = generations
        self._keys = keys
        self._served = served

    async def start(
        self, caller: Caller, body: Mapping[str, Any], *, policy: str, key: str | None = None
    ) -> tuple[str, Asked, Target]:
        """Start a generation of ``caller`` for a request's body and return its id.

        Raises :exc:`~app.errors.BadRequest`, ``PreviousNotFound``, and what :meth:`Generations.start` raises.
        """
        identity, target = caller.identity, self._served.find(body.get("model"))
        messages = messages_of_input(body.get("input"))
        previous = body.get("previous_response_id")
        if previous is not None:
            messages = [*await self._conversation(identity, previous), *messages]
        keep = body.get("store", True) is not False
        asked = Asked(str(body["model"]), {**asked_of(body), "store": keep}, messages)
        background = body.get("background") is True
        if target.format in IMAGE_FORMATS:
            image = {"prompt": prompt_of(messages), "partial_images": partial_images_of(body)}
            start = self._served.image(target, image, policy=policy, key=key)
        else:
            policy = "continue" if background else policy
            start = self._served.chat(target, chat_body(body, messages), policy=policy, key=key)
        generation_id, _ = await self._generations.start(identity, replace(start, caller=caller))
        if keep:
            await self._keep(generation_id, asked, target.kept_for)
        return generation_id, asked, target

    async def find(self, identity: Identity, response: str) -> tuple[str, Asked]:
        """Return a response's generation and what was asked: ``response`` is its id, or any generation's own.

        Raises :exc:`~app.errors.NotFound` where that is not kept, and what :meth:`Generations.find` raises.
        """
        record = await self._generations.find(identity, generation_of(response))
        info = Info.decode(record.info)
        asked = await self.asked(info.id) if response.startswith(_PREFIX) else Asked(info.kind, {}, [])
        return info.id, asked

    async def asked(self, generation_id: str) -> Asked:
        """Return what was asked. Raises :exc:`~app.errors.NotFound` where that is not kept."""
        kept = await self._keys.read(_name(generation_id))
        if kept is None:
            raise NotFound("There is no such response, or it is no longer kept.")
        return Asked(**orjson.loads(kept))

    async def _keep(self, generation_id: str, asked: Asked, ttl: float) -> None:
        text = orjson.dumps(asked)
        if len(text) <= _MOST:
            await self._keys.reserve(_name(generation_id), text, ttl)

    async def _conversation(self, identity: Identity, previous: Any) -> list[dict[str, Any]]:
        try:
            generation_id = generation_of(previous)
            generation = await self._generations.read(identity, generation_id)
            asked = await self.asked(generation_id)
        except (NotFound, PermissionDenied, Gone) as error:
            raise PreviousNotFound from error
        if generation.snapshot.status is not State.COMPLETED:
            raise BadRequest("previous_response_id is of a response that is not completed.")
        return [*asked.messages, _answer(generation.snapshot)]


def response_of(asked: Asked, generation: Generation) -> dict[str, Any]:
    """Return a generation as one response, as far as it is."""
    snapshot = generation.snapshot
    stream = asked.stream(generation.info.id, generation.info.created)
    items = [encode_delta(snapshot.reasoning, "reasoning")] if snapshot.reasoning else []
    items += [encode_delta(snapshot.text)] if snapshot.text else []
    items += [encode_delta(snapshot.tools, "tool")] if snapshot.tools else []
    items += [orjson.dumps({"type": "artifact", **artifact}) for artifact in snapshot.artifacts]
    items += [encode(snapshot.usage)] if snapshot.usage is not None else []
    if snapshot.status is not State.QUEUED:
        items.insert(0, b'{"type":"started"}')
    if snapshot.terminal is not None:
        items.append(orjson.dumps(snapshot.terminal))
    for item in items:
        stream.read(item)
    return stream.response()


def _answer(snapshot: Snapshot) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": snapshot.text or None}
    calls = [call for call in calls_of(snapshot.tools) if call.kind == "function"]
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for call in calls
        ]
    elif not snapshot.text:
        message["content"] = ""
    return message


def _name(generation_id: str) -> str:
    return f"asked:{generation_id}"
