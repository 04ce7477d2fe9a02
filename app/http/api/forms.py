"""A generation's start as a form: fields and files become the JSON that is sent otherwise, files as data URLs.

``kind``, ``upstream``, ``idempotency_key`` and ``on_last_disconnect`` are the start's own; ``input`` is a JSON object,
the generation's input, in which every other field is a member by its own name: a text, JSON where the part says so, or
a file. What comes several times is a list. Of a large file the JSON holds a mark; the file is sent from the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from app.config.uploads import UploadConfig
from app.errors import InvalidUpload, UnsupportedFile
from app.generations.attachments import Attachments, mark_of
from app.http.uploads.inspector import Inspector, file_type
from app.http.uploads.multipart import Data, MultipartReader, Part, boundary_of
from app.http.uploads.sniffing import WINDOW
from app.http.uploads.spool import Spool

__all__ = ["attachments_of", "form_route"]

_OWN = frozenset({"kind", "upstream", "idempotency_key", "on_last_disconnect"})

_ATTACHMENTS = "tidegate.attachments"
"""Key of the scope."""
_SMALL = 64 * 1024
"""Characters of base 64 that a request may hold of a file as they are."""
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def form_route(config: Callable[[], UploadConfig]) -> type[APIRoute]:
    """Return a route that also takes its JSON body as a form, checked by ``config``."""

    class FormRoute(APIRoute):
        def get_route_handler(self) -> _Handler:
            handle = super().get_route_handler()

            async def handler(request: Request) -> Response:
                asked = await _as_json(config(), request)
                try:
                    return await handle(asked)
                finally:
                    attachments = attachments_of(asked)
                    if attachments is not None and not attachments.taken:
                        attachments.close()

            return handler

    return FormRoute


async def _as_json(config: UploadConfig, request: Request) -> Request:
    """Return the request with a JSON body. Raises :exc:`~app.errors.InvalidUpload` and its kinds."""
    headers = request.scope["headers"]
    types = [value for name, value in headers if name == b"content-type"]
    boundary = boundary_of(types[0]) if types and types[0].lower().startswith(b"multipart/form-data") else None
    if boundary is None:
        return request
    if len(types) > 1 or any(name == b"content-encoding" for name, _ in headers):
        raise UnsupportedFile("Send the form as it is, with one Content-Type and without a Content-Encoding.")
    form = _Form(config, boundary)
    try:
        async for piece in request.stream():
            await form.feed(piece)
        body = orjson.dumps(await form.end())
        attachments = form.attachments()
    except BaseException:
        form.close()
        raise
    kept = [(name, value) for name, value in headers if name not in (b"content-type", b"content-length")]
    told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    left = [body]

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await request.receive()

    return Request({**request.scope, "headers": [*kept, *told], _ATTACHMENTS: attachments}, receive)


def attachments_of(request: Request) -> Attachments | None:
    """Return the files of a form whose marks the request's body holds."""
    attachments: Attachments | None = request.scope.get(_ATTACHMENTS)
    return attachments


class _Form:
    """One form, as it comes. Its size is bounded by whoever reads it."""

    def __init__(self, config: UploadConfig, boundary: bytes) -> None:
        self._config = config
        self._inspector = Inspector(config, boundary)
        self._reader = MultipartReader(boundary)
        self._parts: list[Part] = []
        self._spool = Spool(config.memory)
        self._marked: dict[str, int] = {}
        """Files by the marks that stand for them."""

    async def feed(self, data: bytes) -> None:
        self._inspector.feed(data)
        for event in self._reader.feed(data):
            if isinstance(event, Part):
                self._parts.append(event)
                self._spool.begin()
            elif isinstance(event, Data):
                await self._spool.write(event.raw)

    async def end(self) -> dict[str, Any]:
        """Return what the form asks for."""
        self._inspector.end()
        start: dict[str, Any] = {}
        several: dict[str, list[Any]] = {}
        given: dict[str, Any] = {}
        for number, part in enumerate(self._parts):
            if part.file is None and part.name in _OWN | {"input"}:
                content = self._spool.whole(number)
                if part.name in start or (part.name == "input" and given):
                    raise InvalidUpload("This field comes twice.", field=part.name)
                if part.name == "input":
                    given = _object(part, content)
                else:
                    start[part.name] = _text(part, content)
            elif part.file is None or part.file or self._spool.head(number, 1):  # Else nothing was chosen in it.
                several.setdefault(part.name, []).append(await self._value(part, number))
        given |= {name: values[0] if len(values) == 1 else values for name, values in several.items()}
        return {**start, "input": given}

    def attachments(self) -> Attachments | None:
        """Return the files that are marked in what :meth:`end` has returned. Without any, nothing is kept."""
        if self._marked:
            return Attachments(self._spool, self._marked)
        self._spool.close()
        return None

    def close(self) -> None:
        self._spool.close()

    async def _value(self, part: Part, number: int) -> Any:
        if part.file is not None:
            kind = file_type(self._config, part, self._spool.head(number, WINDOW))
            if self._spool.length(number) <= _SMALL:
                data = b"".join([piece async for piece in self._spool.in_base64(number)]).decode()
            else:
                data = mark_of(self._spool.sha256(number))
                self._marked[data] = number
            return f"data:{kind};base64,{data}"
        content = self._spool.whole(number)
        return _json(part, content) if part.type == "application/json" else _text(part, content)


def _text(part: Part, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidUpload("The value is no UTF-8.", field=part.name) from None


def _json(part: Part, content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidUpload("The value is no JSON.", field=part.name) from None


def _object(part: Part, content: bytes) -> dict[str, Any]:
    value = _json(part, content)
    if not isinstance(value, dict):
        raise InvalidUpload("The value must be a JSON object.", field=part.name)
    return value
