"""A recorded session: what a page's WebSockets and REST calls carried, and when, one JSON object a line.

The format is described for its writers in ``docs/load-testing.md``. Recorders and importers write it, ``tidegate-load
replay`` reads it. Unknown members and unknown kinds of records are left alone, so that a later version can add some;
what is wrong raises :exc:`BadSession` with the number of its line.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

__all__ = [
    "REDACTED",
    "TOKEN",
    "VERSION",
    "BadSession",
    "Closed",
    "Frame",
    "Header",
    "Opened",
    "Record",
    "Request",
    "Response",
    "Session",
    "dump",
    "load",
    "parse",
    "save",
]

VERSION = 1
TOKEN = "${token}"
"""Stands where a credential of the recorded user stood: a replay puts a fresh one of its own user there."""
REDACTED = "${redacted}"
"""Stands where another secret stood. A replay sends it as it is."""
BINARY = 2
TEXT = 1
_OPCODES = {0x1, 0x2, 0x8, 0x9, 0xA}
_PROTOCOLS = ("native", "centrifuge", "raw")

Protocol = Literal["native", "centrifuge", "raw"]


class BadSession(Exception):
    """The file is no session, or a line of it is wrong."""


@dataclass(slots=True)
class Header:
    """The first line."""

    url: str
    """Of the first socket, without credentials."""
    protocol: Protocol = "native"
    subprotocols: list[str] = field(default_factory=list)
    """As they were asked for; ``bearer.${token}`` where one carried a token."""
    recorder: str = ""
    """The program that wrote the file, and its version."""
    started: str | None = None
    """When, in ISO 8601 with a zone."""
    sockets: int = 1
    """How many there are: they are numbered from 0."""


@dataclass(slots=True)
class Opened:
    """A socket that opened. ``url`` and ``subprotocols`` only where they differ from the header's."""

    t: float
    """Seconds since the session's start, as in all records."""
    socket: int = 0
    url: str | None = None
    subprotocols: list[str] | None = None


@dataclass(slots=True)
class Frame:
    """A message, whole, or a control frame. ``data`` is text where ``op`` is 1, and bytes elsewhere."""

    t: float
    direction: Literal["send", "receive"]
    data: str | bytes
    op: int = TEXT
    """The opcode (RFC 6455, section 11.8)."""
    socket: int = 0


@dataclass(slots=True)
class Closed:
    """A socket that closed. ``code`` is None where the recorder does not know, 1006 where no close frame came."""

    t: float
    socket: int = 0
    code: int | None = None
    reason: str = ""


@dataclass(slots=True)
class Request:
    """A REST call of the same page. ``id`` is any text that its response has, too."""

    t: float
    id: str
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str | bytes = ""


@dataclass(slots=True)
class Response:
    """Its answer, when it was complete. No status (0): it failed without one."""

    t: float
    id: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str | bytes = ""


Record = Opened | Frame | Closed | Request | Response


@dataclass(slots=True)
class Session:
    """A whole recording; its records are in the order of their times."""

    header: Header
    records: list[Record]

    @property
    def duration(self) -> float:
        """Seconds from the start to the last record."""
        return self.records[-1].t if self.records else 0.0


def load(path: Path) -> Session:
    """Read a file. Raises :exc:`BadSession` and :exc:`OSError`."""
    with path.open("rb") as lines:
        return parse(lines)


def save(path: Path, session: Session) -> None:
    """Write a file, for its owner only: recordings hold what users have said. Raises :exc:`OSError`."""
    path.touch(mode=0o600)
    path.write_bytes(b"".join(dump(session)))


def parse(lines: Iterable[bytes]) -> Session:
    """Return the session that the lines hold, its records sorted by time. Raises :exc:`BadSession`."""
    header: Header | None = None
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
            if not isinstance(value, dict):
                raise ValueError("no object")
            if header is None:
                header = _header(value)
            elif (record := _record(value)) is not None:
                records.append(record)
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise BadSession(f"line {number}: {what}") from None
    if header is None:
        raise BadSession("the file is empty")
    records.sort(key=lambda record: record.t)
    return Session(header, records)


def dump(session: Session) -> Iterator[bytes]:
    """Yield the lines of the file, each with its line feed."""
    header = session.header
    yield orjson.dumps({
        "tidegate_session": VERSION, "url": header.url, "subprotocols": header.subprotocols,
        "protocol": header.protocol, "recorder": header.recorder, "started": header.started,
        "sockets": header.sockets,
    }) + b"\n"  # fmt: skip
    for record in session.records:
        yield orjson.dumps(_value(record)) + b"\n"


def _header(value: dict[str, Any]) -> Header:
    version = value.get("tidegate_session")
    if version is None:
        raise ValueError('this is no session: the first line has no "tidegate_session"')
    if version != VERSION:
        raise ValueError(f"version {version} of the format; this program reads {VERSION}")
    protocol = value.get("protocol", "native")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"protocol is one of {', '.join(_PROTOCOLS)}, not {protocol!r}")
    started = value.get("started")
    return Header(
        url=_text(value, "url"),
        protocol=protocol,
        subprotocols=[str(each) for each in value.get("subprotocols") or ()],
        recorder=str(value.get("recorder") or ""),
        started=None if started is None else str(started),
        sockets=int(value.get("sockets", 1)),
    )


def _record(value: dict[str, Any]) -> Record | None:
    """Return the record, or None if it is of a kind that this version does not know."""
    t, direction = float(value["t"]), value["dir"]
    socket = int(value.get("socket", 0))
    if direction in {"send", "receive"}:
        op = int(value.get("op", TEXT))
        if op not in _OPCODES:
            raise ValueError(f"op {op} is none of RFC 6455's")
        data = _text(value, "data")
        return Frame(t, direction, data if op == TEXT else _bytes(data), op, socket)
    if direction == "open":
        return Opened(t, socket, value.get("url"), value.get("subprotocols"))
    if direction == "close":
        code = value.get("code")
        return Closed(t, socket, None if code is None else int(code), str(value.get("reason") or ""))
    headers = {str(name).lower(): str(each) for name, each in (value.get("headers") or {}).items()}
    if direction == "request":
        return Request(t, str(value["id"]), _text(value, "method"), _text(value, "url"), headers, _body(value))
    if direction == "response":
        return Response(t, str(value["id"]), int(value.get("status") or 0), headers, _body(value))
    return None


def _value(record: Record) -> dict[str, Any]:
    t = round(record.t, 6)
    if isinstance(record, Frame):
        data = record.data if isinstance(record.data, str) else base64.b64encode(record.data).decode()
        return {"t": t, "socket": record.socket, "dir": record.direction, "op": record.op, "data": data}
    if isinstance(record, Opened):
        more = {"url": record.url, "subprotocols": record.subprotocols}
        return {"t": t, "socket": record.socket, "dir": "open", **_known(more)}
    if isinstance(record, Closed):
        return {"t": t, "socket": record.socket, "dir": "close", "code": record.code, "reason": record.reason}
    if isinstance(record.body, bytes):
        body = {"body": base64.b64encode(record.body).decode(), "encoding": "base64"}
    else:
        body = {"body": record.body}
    if isinstance(record, Request):
        start = {"t": t, "dir": "request", "id": record.id, "method": record.method, "url": record.url}
    else:
        start = {"t": t, "dir": "response", "id": record.id, "status": record.status}
    return {**start, "headers": record.headers, **body}


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _text(value: dict[str, Any], name: str) -> str:
    text = value[name]
    if not isinstance(text, str):
        raise ValueError(f"{name!r} is no text")
    return text


def _body(value: dict[str, Any]) -> str | bytes:
    body = value.get("body") or ""
    if not isinstance(body, str):
        raise ValueError("'body' is no text")
    return _bytes(body) if value.get("encoding") == "base64" else body


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"data is no base 64: {error}") from None
