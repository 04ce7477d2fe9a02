"""How the protocol's messages are carried in an HTTP answer. Pure.

Like WebSocket frames, chunks of the answer are made once for all who listen. A payload may hold several messages. In
JSON each is a line, which holds neither line feeds nor, but as space between two tokens, carriage returns, which would
end a line of an event stream. In protobuf each has its length before it, and nothing else is around it.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.ws.protocols.centrifuge_codec import Codec
from app.ws.protocols.centrifuge_json import JsonCodec
from app.ws.protocols.centrifuge_protobuf import ProtobufCodec

__all__ = ["HTTP_STREAM", "SSE", "Transport", "chunk", "json_lines", "server_sent_events"]


def chunk(body: bytes) -> bytes:
    """Return one chunk of an answer (RFC 9112, section 7.1). An empty one would end it."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def server_sent_events(payload: bytes) -> bytes:
    """Return a chunk with an event for each line (WHATWG HTML, section 9.2)."""
    if b"\r" in payload:
        payload = payload.replace(b"\r", b" ")
    return chunk(b"data: %b\n\n" % payload.replace(b"\n", b"\n\ndata: "))


def json_lines(payload: bytes) -> bytes:
    """Return a chunk with the lines, the last one ended, too."""
    return chunk(payload + b"\n")


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to carry a session. ``prologue`` is written before anything else.

    ``binary`` is the same way for those who ask in protobuf, None where only text goes.
    """

    codec: Codec
    content_type: bytes
    methods: tuple[str, ...]
    prologue: bytes = b""
    binary: Transport | None = None


SSE = Transport(
    JsonCodec(server_sent_events), b"text/event-stream; charset=utf-8", ("GET", "POST"), prologue=chunk(b"\r\n")
)
HTTP_STREAM = Transport(
    JsonCodec(json_lines),
    b"application/json; charset=utf-8",
    ("POST",),
    binary=Transport(ProtobufCodec(chunk), b"application/octet-stream", ("POST",)),
)
