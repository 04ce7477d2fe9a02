"""What the native protocol writes: JSON text, one object a frame.

Events are spliced from stored JSON, never encoded anew: a frame is built once for all sockets that listen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from app.errors import TidegateError
from app.generations.channels import GENERATION_PREFIX
from app.streams.envelope import ANNOUNCEMENTS, kind, plain
from app.streams.publication import Batch, Publication
from app.ws.frames import text_frame

__all__ = ["NativeEncoder", "channel_fields", "error_message", "message"]


class NativeEncoder:
    """:class:`~app.streams.listener.Encoder` of the native protocol."""

    def frame(self, payload: bytes) -> bytes:
        return text_frame(payload)

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        frames = []
        for batch in batches:
            head, key = _head(channel, batch.epoch)
            for offset, item in enumerate(batch.items, batch.first):
                if kind(item) in ANNOUNCEMENTS:
                    continue
                data = plain(item)
                frames.append(text_frame(b'%b%d,"%b":%b}' % (head, offset, key, data)))
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        head, key = _head(channel, epoch)
        frames = []
        for publication in publications:
            if kind(publication.data) in ANNOUNCEMENTS:
                continue
            merged = b',"merged":%d' % publication.merged if publication.merged > 1 else b""
            payload = b'%b%d%b,"%b":%b}' % (head, publication.offset, merged, key, plain(publication.data))
            frames.append(text_frame(payload))
        return b"".join(frames)


def _head(channel: str, epoch: str) -> tuple[bytes, bytes]:
    """Return a message's beginning, up to the offset's value, and the name of the member that holds its data."""
    if channel.startswith(GENERATION_PREFIX):
        name, key = b'"event","generation_id":' + orjson.dumps(channel[len(GENERATION_PREFIX) :]), b"event"
    else:
        name, key = b'"publication","channel":' + orjson.dumps(channel), b"data"
    return b'{"type":%b,"epoch":"%b","offset":' % (name, epoch.encode()), key


def channel_fields(channel: str) -> dict[str, str]:
    """Return the member by which clients know ``channel``."""
    if channel.startswith(GENERATION_PREFIX):
        return {"generation_id": channel[len(GENERATION_PREFIX) :]}
    return {"channel": channel}


def message(type_: str, **fields: Any) -> bytes:
    """Return one message, ``type`` first; members that are None are left out."""
    return orjson.dumps({"type": type_, **{name: value for name, value in fields.items() if value is not None}})


def error_message(error: TidegateError, id_: Any = None) -> bytes:
    """Return the message that tells of ``error``, as the answer to the command ``id_`` where there is one."""
    wait = None if error.retry_after is None else max(1, round(error.retry_after * 1000))
    return message(
        "error",
        id=id_,
        code=error.code,
        status=error.status,
        message=error.message,
        retryable=error.retryable,
        retry_after_ms=wait,
    )
