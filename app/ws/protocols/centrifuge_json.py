"""The JSON flavour of the Centrifuge protocol: commands and messages are lines of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from app.ws.frames import text_frame
from app.ws.protocols.centrifuge_codec import Publications
from app.ws.protocols.centrifuge_codes import Fault
from app.ws.protocols.centrifuge_commands import Command, Malformed, Word
from app.ws.protocols.centrifuge_delta import Change
from app.ws.protocols.centrifuge_encoding import CentrifugeEncoder, change, publication
from app.ws.protocols.centrifuge_requests import read

__all__ = ["JSON", "JsonCodec"]


class JsonCodec:
    """:class:`~app.ws.protocols.centrifuge_codec.Codec`; ``frame`` is how a transport carries lines."""

    subprotocol = "centrifuge-json"
    binary = False
    ping = b"{}"

    def __init__(self, frame: Callable[[bytes], bytes] = text_frame) -> None:
        self.encoder = CentrifugeEncoder(frame)
        self.quiet = CentrifugeEncoder(frame, quiet=True)

    def commands(self, data: bytes) -> Iterator[Command | Word]:
        for line in data.strip().split(b"\n"):
            try:
                envelope = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise Malformed from error
            if not isinstance(envelope, dict):
                raise Malformed
            yield read(envelope)

    def reply(self, id_: int, method: str, result: Mapping[str, Any]) -> bytes:
        return orjson.dumps({"id": id_, method: _object(result)})

    def error(self, id_: int, fault: Fault) -> bytes:
        return orjson.dumps({"id": id_, "error": _object(fault._asdict())})

    def push(self, channel: str, kind: str, fields: Mapping[str, Any]) -> bytes:
        return orjson.dumps({"push": _object({"channel": channel}) | {kind: _object(fields)}})


JSON = JsonCodec()
"""The flavour on a WebSocket."""


def _object(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in fields.items() if value or isinstance(value, Mapping)}


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return _spliced(value)
    if isinstance(value, Publications):
        if value.deltas:
            return [orjson.Fragment(change(Change(value.epoch, each.offset, each.data))) for each in value.publications]
        return [_spliced(publication(value.epoch, each)) for each in value.publications]
    return _object(value) if isinstance(value, Mapping) else value


def _spliced(text: bytes) -> orjson.Fragment:
    """A line feed within JSON is space between two tokens; between lines it would be their end."""
    return orjson.Fragment(text.replace(b"\n", b" "))
