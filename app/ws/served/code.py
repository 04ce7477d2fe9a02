"""``/generate-code``: the WebSocket of screenshot-to-code, a generation for each variant.

The client sends one message, its parameters, and reads until the close: 1000 when all is done, 4332 after ``error``. A
client that leaves cancels.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson

from app.errors import BadRequest, TidegateError
from app.generations.formats.served.code_request import code_body
from app.generations.formats.served.screenshots import VariantFrames, frame
from app.generations.merging import EventMergeRule
from app.generations.requests import StartRequest
from app.generations.served import Served
from app.generations.service import Generations
from app.streams.hub import Hub
from app.ws.served.reader import Reader
from app.ws.served.socket import ServedSocket

__all__ = ["CodeSockets"]

_FAILED = 4332
_FIRST_MESSAGE = 30.0
"""Seconds that a client has for its one message."""
_STATUS = "Generating code..."
_RULE = EventMergeRule()


class CodeSockets:
    """Serves each socket."""

    def __init__(self, generations: Generations, hub: Hub, served: Served) -> None:
        self._generations = generations
        self._hub = hub
        self._served = served

    async def serve(self, socket: ServedSocket) -> None:
        """Serve one connection from its first message to its close."""
        try:
            async with asyncio.timeout(_FIRST_MESSAGE):
                message = await socket.receive()
            if message is None:
                return
            failures = await self._generate(socket, message)
        except TimeoutError:
            await _fail(socket, "No parameters came.")
        except TidegateError as error:
            await _fail(socket, error.message)
        else:
            if all(failures):
                await _fail(socket, failures[0] or "")
            else:
                socket.close(1000, "Done.")

    async def _generate(self, socket: ServedSocket, message: bytes) -> list[str | None]:
        """Run all variants and return why each failed, None for those that did not."""
        params = _params(message)
        kinds = self._served.config.code.kinds
        targets = [self._served.kind(kind) for kind in kinds]
        asked = [
            self._served.chat(target, code_body(params, variant, own=target.format == "json-lines"), policy="cancel")
            for variant, target in enumerate(targets)
        ]
        begun: list[str] = []
        try:
            started = [await self._start(socket, each, begun) for each in asked]
            await socket.send(frame("variantCount", 0, str(len(kinds))))
            for variant in range(len(kinds)):
                await socket.send(frame("status", variant, _STATUS))
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._variant(socket, each, variant, 2 * targets[variant].max_bytes))
                    for variant, each in enumerate(started)
                ]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            if socket.gone:
                cancels = [self._generations.cancel(socket.identity, each) for each in begun]
                await asyncio.gather(*cancels, return_exceptions=True)
        return [task.result() for task in tasks]

    async def _start(self, socket: ServedSocket, asked: StartRequest, begun: list[str]) -> str | TidegateError:
        """Start a variant, and note its id in ``begun``. Return why it is refused where another one runs already.

        Raises :exc:`~app.errors.TidegateError` where none does.
        """
        try:
            generation_id, _ = await self._generations.start(socket.identity, replace(asked, caller=socket.caller))
        except TidegateError as error:
            if not begun:
                raise
            return error
        begun.append(generation_id)
        return generation_id

    async def _variant(
        self, socket: ServedSocket, generation_id: str | TidegateError, variant: int, limit: int
    ) -> str | None:
        if isinstance(generation_id, TidegateError):
            await socket.send(frame("variantError", variant, generation_id.message))
            return generation_id.message
        reader, frames = Reader(_RULE, limit), VariantFrames(variant)
        watch = self._generations.watch
        subscription = await watch(socket.identity, generation_id, reader, None, reader.recovered)
        try:
            while items := await reader.next():
                for told in [each for item in items for each in frames.take(item)]:
                    if not await socket.send(told):
                        return "gone"
        finally:
            self._hub.drop(subscription)
        if not frames.over:
            message = "This reader was too slow. Ask again."
            await socket.send(frame("variantError", variant, message))
            return message
        return frames.failed


def _params(message: bytes) -> dict[str, object]:
    try:
        params = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise BadRequest("The message must be JSON.") from None
    if not isinstance(params, dict):
        raise BadRequest("The message must be a JSON object.")
    return params


async def _fail(socket: ServedSocket, message: str) -> None:
    await socket.send(orjson.dumps({"type": "error", "variantIndex": 0, "value": message}))
    socket.close(_FAILED, message.encode()[:120].decode(errors="ignore") or "Failed.")
