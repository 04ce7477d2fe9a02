"""The protobuf flavour of the Centrifuge protocol: commands and messages with their lengths before them.

Payloads are the same JSON text as everywhere: what a client publishes is checked, stored and sent on as it is.
What a channel has for its listeners is one frame, built once for all of them, by adding up lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.streams.envelope import ANNOUNCEMENTS, JOINED, LEFT, kind, members
from app.streams.publication import Batch, Publication
from app.ws.frames import binary_frame
from app.ws.protocols.centrifuge_codec import Publications
from app.ws.protocols.centrifuge_codes import Fault
from app.ws.protocols.centrifuge_commands import Command, Malformed, Word
from app.ws.protocols.centrifuge_delta import Change
from app.ws.protocols.centrifuge_messages import COMMAND, INFO, PUBLICATION, REPLY
from app.ws.protocols.centrifuge_requests import read
from app.ws.protocols.protobuf import Encoded, WireError, decode, delimited, encode, varint, varint_at

__all__ = ["PROTOBUF", "ProtobufCodec", "ProtobufEncoder"]

_CHANNEL, _PUB, _JOIN, _LEAVE = b"\x12", b"\x22", b"\x2a", b"\x32"
"""Keys of a push's fields."""


class ProtobufEncoder:
    """:class:`~app.streams.listener.Encoder`; a ``quiet`` one leaves out who comes and goes."""

    def __init__(self, frame: Callable[[bytes], bytes], *, quiet: bool = False) -> None:
        self._frame = frame
        self._quiet = quiet

    def frame(self, payload: bytes) -> bytes:
        return self._frame(payload)

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        head = _CHANNEL + delimited(channel.encode())
        messages: list[bytes] = []
        for batch in batches:
            if not batch.epoch:
                messages += [self._unplaced(head, item) for item in batch.items]
                continue
            for offset, item in enumerate(batch.items, batch.first):
                if offset > 1 and item[0] > 1:
                    messages.append(_plain_push(head, offset, item))
                else:
                    messages.append(_push(head, _PUB, _publication(batch.epoch, offset, item)))
        return self._framed(messages)

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        head = _CHANNEL + delimited(channel.encode())
        return self._framed(
            [
                _push(head, _PUB, _publication(epoch, each.offset, each.data, each.merged))
                if epoch
                else self._unplaced(head, each.data)
                for each in publications
            ]
        )

    def changes(self, channel: str, changes: Sequence[Change]) -> bytes:
        """:class:`~app.ws.protocols.centrifuge_delta.DeltaCodec`: data is the delta's bytes, or those of the JSON."""
        head = _CHANNEL + delimited(channel.encode())
        return self._framed(
            [
                self._unplaced(head, each.item)
                if kind(each.item) in ANNOUNCEMENTS
                else _push(head, _PUB, _publication(each.epoch, each.offset, each.item, delta=each.delta))
                for each in changes
            ]
        )

    def _framed(self, messages: list[bytes]) -> bytes:
        payload = b"".join(messages)
        return self.frame(payload) if payload else b""

    def _unplaced(self, head: bytes, item: bytes) -> bytes:
        """Return the message of what has no place in a log; empty when there is nothing to say."""
        what = kind(item)
        if what in {JOINED, LEFT}:
            if self._quiet:
                return b""
            return _push(head, _JOIN if what == JOINED else _LEAVE, encode(INFO, {"info": item[1:]}))
        return _push(head, _PUB, _publication("", 0, item))


class ProtobufCodec:
    """:class:`~app.ws.protocols.centrifuge_codec.Codec`; ``frame`` is how a transport carries messages."""

    subprotocol = "centrifuge-protobuf"
    binary = True
    ping = b"\x00"

    def __init__(self, frame: Callable[[bytes], bytes] = binary_frame) -> None:
        self.encoder = ProtobufEncoder(frame)
        self.quiet = ProtobufEncoder(frame, quiet=True)

    def commands(self, data: bytes) -> Iterator[Command | Word]:
        if not data:
            raise Malformed
        at, end = 0, len(data)
        try:
            while at < end:
                size, at = varint_at(data, at, end)
                if size > end - at:
                    raise Malformed
                yield read(decode(COMMAND, data, at, at + size))
                at += size
        except WireError as error:
            raise Malformed from error

    def reply(self, id_: int, method: str, result: Mapping[str, Any]) -> bytes:
        return delimited(encode(REPLY, {"id": id_, method: _plain(result)}))

    def error(self, id_: int, fault: Fault) -> bytes:
        return delimited(encode(REPLY, {"id": id_, "error": fault._asdict()}))

    def push(self, channel: str, kind: str, fields: Mapping[str, Any]) -> bytes:
        return delimited(encode(REPLY, {"push": {"channel": channel, kind: _plain(fields)}}))


PROTOBUF = ProtobufCodec()
"""The flavour on a WebSocket."""


def _plain(value: Any) -> Any:
    """Return a result with its publications encoded."""
    if isinstance(value, Publications):
        return [Encoded(_publication(value.epoch, it.offset, it.data, it.merged)) for it in value.publications]
    if isinstance(value, Mapping):
        return {name: _plain(below) for name, below in value.items()}
    return value


def _plain_push(head: bytes, offset: int, data: bytes) -> bytes:
    """Return a push of a publication that is data alone, as nearly all are."""
    size, place = varint(len(data)), varint(offset)
    pub = 2 + len(size) + len(data) + len(place)
    pub_size = varint(pub)
    push = len(head) + 1 + len(pub_size) + pub
    push_size = varint(push)
    reply_size = varint(1 + len(push_size) + push)
    return b"%b\x22%b%b\x22%b\x22%b%b\x30%b" % (reply_size, push_size, head, pub_size, size, data, place)


def _push(head: bytes, key: bytes, body: bytes) -> bytes:
    """Return a reply, its length before it, with a push for the channel in ``head``."""
    size = varint(len(body))
    push = len(head) + 1 + len(size) + len(body)
    push_size = varint(push)
    return b"%b\x22%b%b%b%b%b" % (varint(1 + len(push_size) + push), push_size, head, key, size, body)


def _publication(epoch: str, offset: int, item: bytes, merged: int = 1, delta: bytes | None = None) -> bytes:
    """The first message of an epoch names it, for those who came when there was none."""
    more, data = members(item)
    fields: dict[str, Any] = {"data": data if delta is None else delta, "offset": offset, "delta": delta is not None}
    if offset == 1:
        fields["epoch"] = epoch
    if more:
        fields |= orjson.loads(b"{%b}" % more)
    if merged > 1:
        fields["tags"] = {**fields.get("tags", {}), "merged": str(merged)}
    return encode(PUBLICATION, fields)
