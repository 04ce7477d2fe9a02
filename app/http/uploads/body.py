"""An upload on its way to an upstream: a request's body that is checked before it is asked, as far as it has come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from app.config.uploads import UploadConfig
from app.errors import UnsupportedFile
from app.http.uploads.inspector import Inspector
from app.http.uploads.multipart import boundary_of

__all__ = ["checked_body"]

_AHEAD = 128 * 1024
"""Bytes that are checked before the upstream is asked; a smaller body is checked whole."""


async def checked_body(
    config: UploadConfig, headers: Iterable[tuple[bytes, bytes]], body: bytes | AsyncIterator[bytes]
) -> bytes | AsyncIterator[bytes]:
    """Return ``body``, the beginning of which is checked; the rest is while it is read.

    Raises :exc:`~app.errors.InvalidUpload`, ``FileTooLarge``, ``UnsupportedFile`` and what ``body`` raises, as do the
    pieces.
    """
    if body == b"":
        return body
    about = [(name, value) for name, value in headers if name in (b"content-type", b"content-encoding")]
    types = [value for name, value in about if name == b"content-type"]
    content_type = types[0] if len(types) == 1 else b""  # Of two it is anybody's guess which one counts.
    boundary = boundary_of(content_type) if content_type.lower().startswith(b"multipart/form-data") else None
    if boundary is None:
        if config.other_bodies and len(types) < 2:
            return body
        raise UnsupportedFile("Send the body as multipart/form-data.")
    if len(about) > 1:
        raise UnsupportedFile("Send the body as it is, without a Content-Encoding.")
    inspector = Inspector(config, boundary)
    if isinstance(body, bytes):
        inspector.feed(body)
        inspector.end()
        return body
    pieces = _pieces(inspector, body)
    ahead: list[bytes] = []
    size = 0
    async for piece in pieces:
        ahead.append(piece)
        size += len(piece)
        if size >= _AHEAD:
            return _joined(ahead, pieces)
    return b"".join(ahead)


async def _pieces(inspector: Inspector, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in body:
        if cleared := inspector.feed(piece):
            yield cleared
    inspector.end()


async def _joined(ahead: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while ahead:
        yield ahead.pop(0)
    async for piece in rest:
        yield piece
