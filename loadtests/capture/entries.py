"""Reads the entries of a HAR: sockets with their messages, and calls. Pure.

Raises :exc:`CaptureError` with the number of the entry, counted from 0 as in ``log.entries[0]``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

import orjson

from loadtests.capture.files import Attachments, CaptureError
from loadtests.session_format import Frame, Request, Response

__all__ = ["Call", "Dialect", "Entries", "Socket", "dialect_of", "socket_url"]

_MILLISECONDS = 1e11
"""Times above are milliseconds since 1970: as seconds they would be in the year 5138."""
_CALLS = {"fetch", "xhr", "eventsource", "json"}
_DATA = ("application/json", "text/event-stream", "application/x-ndjson", "application/problem+json")
_LARGEST_BODY = 1 << 20
"""Characters of an answer that are kept: a replay looks at JSON only."""
_NO_HEADERS = {"content-length", "content-encoding", "transfer-encoding", "connection", "host", "user-agent", "date"}
_EXPORT = "export it again by another tool or version"
Dialect = Literal["native", "centrifuge", "raw"]


@dataclass(slots=True)
class Socket:
    url: str
    start: float
    """Seconds since 1970."""
    subprotocols: list[str]
    frames: list[Frame]
    """With absolute times."""
    end: float
    place: str

    @property
    def dialect(self) -> Dialect:
        return dialect_of(self.subprotocols, self.frames)


@dataclass(slots=True)
class Call:
    start: float
    took: float
    """Seconds."""
    request: Request
    response: Response
    wanted: bool
    """Whether it is one of a program, and no file that a page loads."""


class Entries:
    def __init__(self, attachments: Attachments, name: str) -> None:
        self._attachments = attachments
        self._name = name
        self.notes: list[str] = []

    def read(self, har: Any) -> tuple[list[Socket], list[Call]]:
        log = har.get("log") if isinstance(har, dict) else None
        entries = log.get("entries") if isinstance(log, dict) else None
        if not isinstance(entries, list):
            raise CaptureError(self._name, 'this is no HAR: it has no "log" with "entries"', _EXPORT)
        sockets: dict[tuple[str, str], Socket] = {}
        calls: dict[tuple[str, str, str], Call] = {}
        twice = 0
        for number, entry in enumerate(entries):
            place = f"{self._name}, entry {number}"
            try:
                found = self._entry(entry, place)
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                raise CaptureError(place, what, _EXPORT) from None
            key = str(entry.get("startedDateTime"))
            if isinstance(found, Socket):
                before = sockets.get((found.url, key))
                twice += before is not None
                if before is None or len(before.frames) < len(found.frames):
                    sockets[found.url, key] = found
            else:
                identity = (found.request.method + " " + found.request.url, key, str(found.request.body))
                twice += identity in calls
                calls[identity] = found
        if twice:
            self.notes.append(f"{twice} entries that were there twice are taken once")
        return sorted(sockets.values(), key=lambda each: each.start), sorted(
            calls.values(), key=lambda each: each.start
        )

    def _entry(self, entry: dict[str, Any], place: str) -> Socket | Call:
        url = str(entry["request"]["url"])
        kind = str(entry.get("_resourceType") or "").lower()
        if kind == "websocket" or "_webSocketMessages" in entry or url.startswith(("ws:", "wss:")):
            return self._socket(entry, url, place)
        return self._call(entry, url, kind, place)

    def _socket(self, entry: dict[str, Any], url: str, place: str) -> Socket:
        start = _time(entry["startedDateTime"])
        messages = entry.get("_webSocketMessages")
        content = (entry.get("response") or {}).get("content") or {}
        if messages is None:
            messages = self._attached(content["_file"], place) if content.get("_file") else []
        frames = [_frame(each, f"message {number}") for number, each in enumerate(messages)]
        frames.sort(key=lambda each: each.t)
        headers = _headers(entry["request"])
        offered = [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",") if each.strip()]
        took = entry.get("time")
        end = start + max(0.0, float(took)) / 1000 if isinstance(took, int | float) else start
        start = min([start, *(frame.t for frame in frames[:1])])
        return Socket(socket_url(url), start, offered, frames, max([end, *(frame.t for frame in frames[-1:])]), place)

    def _attached(self, name: str, place: str) -> list[Any]:
        """Return the messages of a file of lines."""
        found = []
        for number, line in enumerate(self._attachments(name).splitlines(), 1):
            if line.strip():
                try:
                    found.append(orjson.loads(line))
                except orjson.JSONDecodeError:
                    raise CaptureError(f"{place}, {name}, line {number}", "no JSON", "record it again") from None
        return found

    def _call(self, entry: dict[str, Any], url: str, kind: str, place: str) -> Call:
        request, response = entry["request"], entry.get("response") or {}
        content = response.get("content") or {}
        mime = str(content.get("mimeType") or "").lower()
        method = str(request.get("method") or "GET").upper()
        started, took = _time(entry["startedDateTime"]), max(0.0, float(entry.get("time") or 0.0)) / 1000
        headers, body = _headers(request), self._posted(request.get("postData"))
        wanted = method != "OPTIONS" and url.startswith(("http:", "https:")) and (
            kind in _CALLS or (not kind and (method != "GET" or mime.startswith(_DATA)))
        )  # fmt: skip
        answer = self._content(content, entry.get("_eventSourceMessages"), mime) if wanted else ""
        identity = place.rpartition(" ")[2]
        told = {name: value for name, value in _headers(response).items() if name not in _NO_HEADERS}
        return Call(
            started, took, Request(started, identity, method, url, headers, body),
            Response(started + took, identity, max(0, int(response.get("status") or 0)), told, answer), wanted,
        )  # fmt: skip

    def _posted(self, posted: dict[str, Any] | None) -> str | bytes:
        if not posted:
            return ""
        if posted.get("_file"):
            return _decoded(self._attachments(str(posted["_file"])))
        text = posted.get("text")
        if isinstance(text, str) and text:
            return base64.b64decode(text) if posted.get("encoding") == "base64" else text
        return urlencode([(str(each["name"]), str(each.get("value", ""))) for each in posted.get("params") or ()])

    def _content(self, content: dict[str, Any], events: Any, mime: str) -> str | bytes:
        if isinstance(events, list):
            return "".join(_event(each) for each in events)
        if not mime.startswith(_DATA):
            return ""
        text = str(content.get("text") or "")
        if content.get("_file"):
            return _decoded(self._attachments(str(content["_file"])))
        if len(text) > _LARGEST_BODY:
            return ""
        return _decoded(base64.b64decode(text)) if content.get("encoding") == "base64" else text


def _frame(value: Any, place: str) -> Frame:
    """Read a message. Raises :exc:`ValueError` that names it."""
    try:
        moment, direction = float(value["time"]), str(value["type"])
        data, op = value["data"], int(value.get("opcode", 1))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{place} has no time, type and data") from None
    if direction not in {"send", "receive"} or not isinstance(data, str) or not 0 < moment < _MILLISECONDS * 100:
        raise ValueError(f"{place} is no message of a WebSocket")
    seconds = moment / 1000 if moment > _MILLISECONDS else moment
    sent: Literal["send", "receive"] = "send" if direction == "send" else "receive"
    if op == 1:
        return Frame(seconds, sent, data)
    try:
        return Frame(seconds, sent, base64.b64decode(data, validate=True), op if op in {2, 8, 9, 10} else 2)
    except binascii.Error:
        raise ValueError(f"{place} is binary, and no base 64") from None


def dialect_of(subprotocols: Sequence[str], frames: Sequence[Frame]) -> Dialect:
    """Say which protocol a socket speaks, by what it offered and its first messages."""
    if any("protobuf" in each for each in subprotocols):
        return "raw"
    if "tidegate.v1" in subprotocols:
        return "native"
    for value in _first(frames):
        if value.get("type") == "connected" and "connection_id" in value:
            return "native"
        if isinstance(value.get("connect"), dict):
            return "centrifuge"
    return "raw"


def _first(frames: Sequence[Frame]) -> Iterator[dict[str, Any]]:
    for frame in frames[:8]:
        for line in frame.data.split("\n") if isinstance(frame.data, str) else ():
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict):
                yield value


def _event(value: dict[str, Any]) -> str:
    name, identity = value.get("eventName") or value.get("type"), value.get("eventId") or value.get("lastEventId")
    head = (f"event: {name}\n" if name and name != "message" else "") + (f"id: {identity}\n" if identity else "")
    return head + "".join(f"data: {line}\n" for line in str(value.get("data", "")).split("\n")) + "\n"


def _headers(message: dict[str, Any]) -> dict[str, str]:
    found = [(str(each["name"]).lower(), str(each.get("value", ""))) for each in message.get("headers") or ()]
    return {name: value for name, value in found if not name.startswith(":")}


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        raise ValueError(f"{text!r} is no time") from None


def _decoded(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def socket_url(url: str) -> str:
    """Return a URL with the scheme of WebSockets."""
    scheme, colon, rest = url.partition(":")
    return {"http": "ws", "https": "wss"}.get(scheme, scheme) + colon + rest
