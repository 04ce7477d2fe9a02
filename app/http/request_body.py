"""A request's body on its way to an upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.types import Receive

from app.errors import MessageTooBig
from app.http.client_watch import ClientGone, ClientWatch
from app.observe.outcomes import Outcome

__all__ = ["received_body"]

_WHOLE = 64 * 1024
"""Bytes: a body declared to be this small is received whole, so that it can be sent with its length."""


async def received_body(
    fields: dict[bytes, bytes], receive: Receive, watch: ClientWatch, limit: int, outcome: Outcome
) -> bytes | AsyncIterator[bytes]:
    """Return the request's body: whole if it has come or is small, else its pieces as they come.

    Raises :exc:`~app.errors.MessageTooBig` past ``limit`` bytes and :exc:`ClientGone`; so do the pieces.
    """
    declared = fields.get(b"content-length")
    if declared is None and b"transfer-encoding" not in fields:
        watch.body_received()
        return b""
    length = None if declared is None else int(declared)
    if length is not None and length > limit:
        raise _too_big(limit)
    data, more = await _receive(receive, 0, limit)
    while more and length is not None and length <= _WHOLE:
        piece, more = await _receive(receive, len(data), limit)
        data += piece
    outcome.received = len(data)
    if more:
        return _pieces(data, receive, watch, limit, outcome)
    watch.body_received()
    return data


async def _pieces(
    first: bytes, receive: Receive, watch: ClientWatch, limit: int, outcome: Outcome
) -> AsyncIterator[bytes]:
    size, more = len(first), True
    yield first
    while more:
        data, more = await _receive(receive, size, limit)
        size += len(data)
        outcome.received = size
        yield data
    watch.body_received()


async def _receive(receive: Receive, before: int, limit: int) -> tuple[bytes, bool]:
    """Return the next piece of the body and whether more will come. ``before`` bytes have come already."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    data: bytes = message.get("body", b"")
    if before + len(data) > limit:
        raise _too_big(limit)
    return data, message.get("more_body", False)


def _too_big(limit: int) -> MessageTooBig:
    return MessageTooBig(f"The request's body is larger than {limit} bytes.")
