"""The WebSocket protocol of the screenshot-to-code project: ``/generate-code``.

The client sends one JSON object. The service sends ``variantCount``, ``status``, then for each variant ``chunk`` (text
to append) and at its end ``setCode`` (the whole), ``variantComplete``; at last it closes with 1000, or, after
``error``, with 4332. A client that leaves cancels.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from services.code.elements import STRATEGIES
from services.code.picture import check_picture, data_url_bytes
from services.code.settings import CodeSettings
from services.code.workshop import Ask, Workshop
from services.code.writers import STACKS
from services.jobs.job import Job, JobEvent
from services.web.callers import caller_of
from services.web.errors import ApiError, Invalid

__all__ = ["serve_socket"]

_FAILED = 4332
_FIRST_MESSAGE = 30.0
"""Seconds that a client has for its one message."""


async def serve_socket(workshop: Workshop, socket: WebSocket) -> None:
    """Serve one connection from its handshake to its close."""
    await socket.accept()
    try:
        async with asyncio.timeout(_FIRST_MESSAGE):
            text = await socket.receive_text()
        ask = _ask_of(_object(text), workshop.settings)
        job = workshop.start(caller_of(socket), ask)
    except ApiError as error:
        await _fail(socket, error.message)
        return
    except (WebSocketDisconnect, KeyError, TimeoutError):
        await _close(socket, _FAILED)
        return
    await _until_left(socket, job, workshop)


async def _until_left(socket: WebSocket, job: Job, workshop: Workshop) -> None:
    """Send the job's events; the client's leaving cancels the job."""
    loop = asyncio.get_running_loop()
    sending = loop.create_task(_send_all(socket, job, workshop))
    leaving = loop.create_task(_left(socket))
    try:
        await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        workshop.board.cancel(job)
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # The protocol has one message from the client; others are ignored, as its server does.


async def _send_all(socket: WebSocket, job: Job, workshop: Workshop) -> None:
    count = len(job.details["variants"])
    await _send(socket, "variantCount", 0, str(count))
    for index in range(count):
        await _send(socket, "status", index, "Generating code...")
    async with aclosing(job.follow()) as events:
        async for event in events:
            await _send_event(socket, event, job, workshop)
    if job.status == "completed":
        await _close(socket, 1000)
    else:
        await _fail(socket, job.error or "The generation was cancelled.")


async def _send_event(socket: WebSocket, event: JobEvent, job: Job, workshop: Workshop) -> None:
    match event.type:
        case "chunk":
            await _send(socket, "chunk", event.data["variantIndex"], event.data["text"])
        case "variant_completed":
            index = event.data["variantIndex"]
            await _send(socket, "setCode", index, workshop.code(job, index))
            await _send(socket, "variantComplete", index, "Variant generation complete")
        case "progress":
            await _send(socket, "status", 0, f"{str(event.data['stage']).capitalize()}...")
        case "queued":
            await _send(socket, "status", 0, f"Waiting: {event.data['position']} in the queue")


async def _send(socket: WebSocket, kind: str, index: int, value: str) -> None:
    await socket.send_text(orjson.dumps({"type": kind, "variantIndex": index, "value": value}).decode())


async def _fail(socket: WebSocket, message: str) -> None:
    try:
        await socket.send_text(orjson.dumps({"type": "error", "value": message}).decode())
    except (RuntimeError, WebSocketDisconnect):
        return  # Nobody is there to read it.
    await _close(socket, _FAILED)


async def _close(socket: WebSocket, code: int) -> None:
    try:
        await socket.close(code)
    except (RuntimeError, WebSocketDisconnect):
        return  # The client had closed it already.


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Invalid("The message is not valid JSON.") from None
    if not isinstance(value, dict):
        raise Invalid("The message must be a JSON object.")
    return value


def _ask_of(value: dict[str, Any], settings: CodeSettings) -> Ask:
    """The parameters that matter here. Keys of providers that a client sends are not looked at. Raises ``Invalid``."""
    stack = value.get("generatedCodeConfig", "html_tailwind")
    if stack not in STACKS:
        raise Invalid(f"generatedCodeConfig must be one of {', '.join(STACKS)}.", "generatedCodeConfig")
    prompt = value.get("prompt")
    prompt = prompt if isinstance(prompt, dict) else {}
    images, words = prompt.get("images") or [], prompt.get("text") or ""
    if (
        not isinstance(images, list)
        or not all(isinstance(image, str) for image in images)
        or not isinstance(words, str)
    ):
        raise Invalid("prompt must hold text and images, which are texts.", "prompt")
    update = value.get("generationType") == "update"
    state = value.get("fileState")
    base = state.get("content") if update and isinstance(state, dict) else None
    if update and settings.base_url is None and not images:
        raise Invalid("Without a vision model, updates go by POST /api/v1/code/refine/{id}.", "generationType")
    picture = data_url_bytes(images[0], settings.image_bytes, "prompt.images") if images else None
    if picture is not None:
        check_picture(picture, settings.image_pixels, "prompt.images")
    elif not words.strip():
        raise Invalid("prompt: send an image or a text.", "prompt")
    count = min(2 if update else 4, settings.max_variants)
    own = bool(value.get("isImageGenerationEnabled"))
    return Ask(
        stack, list(STRATEGIES)[:count], picture, words[:4000], own, base_code=base if isinstance(base, str) else None
    )
