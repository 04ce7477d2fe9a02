"""Where answers come from, and what every route needs of a request."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from services.chat.errors import BodyTooLarge, InvalidRequest
from services.chat.meter import Meter

__all__ = ["Backend", "body_of", "user_of"]

_USER_LIMIT = 256


class Backend(Protocol):
    """Where answers come from."""

    mode: str
    model: str | None
    meter: Meter

    async def models(self, request: Request) -> Response: ...
    async def complete(self, request: Request, body: bytes, user: str) -> Response: ...
    async def close(self) -> None: ...


def user_of(request: Request) -> str:
    """Who asks, as the gateway says; the empty name is anonymous. The service itself checks nobody's identity."""
    user = request.headers.get("x-user-id", "")
    if len(user) > _USER_LIMIT:
        raise InvalidRequest(f"X-User-ID has at most {_USER_LIMIT} characters.")
    return user


async def body_of(request: Request, limit: int) -> bytes:
    """The request's body; ``BodyTooLarge`` as soon as it is known to be larger than ``limit`` bytes."""
    too_large = BodyTooLarge(f"The body is larger than {limit} bytes.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    body = bytearray()
    async for data in request.stream():
        body += data
        if len(body) > limit:
            raise too_large
    return bytes(body)
