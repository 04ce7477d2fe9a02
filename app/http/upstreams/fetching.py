"""One document of an upstream, got beside the traffic: it counts for no breaker, no health and no figure."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import NamedTuple

from app.errors import UpstreamError
from app.http.request_head import request_head
from app.http.upstreams.pool import Pool
from app.http.upstreams.target import Target

__all__ = ["Fetched", "TooLarge", "fetch"]


class TooLarge(Exception):
    """The document has more bytes than it may have."""


class Fetched(NamedTuple):
    """``prefix`` is the path of the target's own address, ``content`` is empty where the status is not 200."""

    status: int
    etag: bytes
    content: bytes
    prefix: str


async def fetch(pool: Pool, path: str, *, etag: bytes, within: float, limit: int) -> Fetched | None:
    """Ask the targets one after the other, on connections of their own; None where none of them answers in time.

    ``etag`` is that of the document that is known, ``within`` in seconds, ``limit`` in bytes. Raises :exc:`TooLarge`.
    """
    try:
        async with asyncio.timeout(within):
            if monotonic() >= pool.resolve_at:
                await pool.resolve(monotonic())
            for target in list(pool.targets):
                try:
                    return await _ask(pool, target, path, etag, within, limit)
                except UpstreamError:
                    continue
    except TimeoutError:
        pass
    return None


async def _ask(pool: Pool, target: Target, path: str, etag: bytes, within: float, limit: int) -> Fetched:
    fields = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
    if etag:
        fields.append((b"if-none-match", etag))
    connection = await target.connect()
    try:
        head = request_head("GET", target.address, path, fields, static=pool.static, length=0)
        answer = connection.send(head, b"", head_only=False, response_timeout=within, idle_timeout=within)
        await answer.head(within)
        content = bytearray()
        if answer.status == 200:
            while data := await answer.read():
                content += data
                if len(content) > limit:
                    raise TooLarge
        named = next((value for name, value in answer.headers if name == b"etag"), b"")
        return Fetched(answer.status, named, bytes(content), target.address.prefix.decode("ascii"))
    finally:
        connection.close()
