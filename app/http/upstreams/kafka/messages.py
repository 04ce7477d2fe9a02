"""How a request and its answer read as messages. Pure; ``docs/kafka.md`` is the same for those who write services.

A request's value is its body, as it stands. Everything else is in the message's headers: the names that Spring's
``ReplyingKafkaTemplate`` gave to correlation and reply topic, so that a listener of it answers without more ado; the
method, the path and the time that is left; and the HTTP fields, each with a prefix.

An answer is one message, or several that are numbered and the last of which says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

__all__ = [
    "CORRELATION",
    "DEADLINE",
    "FINAL",
    "METHOD",
    "PATH",
    "REPLY_PARTITION",
    "REPLY_TOPIC",
    "SEQUENCE",
    "STATUS",
    "Fields",
    "Poison",
    "Reply",
    "correlation_of",
    "key_of",
    "read_reply",
    "request_message",
]

CORRELATION = "kafka_correlationId"
REPLY_TOPIC = "kafka_replyTopic"
REPLY_PARTITION = "kafka_replyPartition"
METHOD = "tidegate_method"
PATH = "tidegate_path"
DEADLINE = "tidegate_deadline"
STATUS = "tidegate_status"
SEQUENCE = "tidegate_seq"
FINAL = "tidegate_final"
_FIELD = "http_"
_MESSAGE_OVERHEAD = 128
"""Bytes that a message may take beside its value and headers."""
_NAME = re.compile(rb"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$")
_VALUE = re.compile(rb"^[\t\x20-\x7e\x80-\xff]*$")
_FRAMING = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding", b"upgrade"})
"""Fields that describe a connection, of which there is none."""
_DEFAULT_TYPE = (b"content-type", b"application/json")
_LAST = {b"true": True, b"1": True, b"false": False, b"0": False, b"": False}
_ABORTED = b"abort"

Fields = Sequence[tuple[bytes, bytes]]
Headers = Sequence[tuple[str, bytes]]


class Poison(Exception):
    """A message that is no answer; its text says why, without what was in it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One message of an answer."""

    sequence: int
    """0, 1, 2 …"""
    last: bool
    aborted: bool
    """It is the last one, and not the answer's end: the service broke off."""
    status: int
    headers: Fields
    """Of the answer; they count in the first message."""
    value: bytes


def request_message(
    method: str, path: str, fields: Fields, body: bytes, *, correlation: bytes, deadline_ms: int
) -> tuple[list[tuple[str, bytes]], int]:
    """Return a request's message headers, and about how many bytes the whole message takes.

    ``path`` holds the query too. Where the answer goes is the link's to add. Raises :exc:`ValueError` for a field that
    holds what no field can.
    """
    headers = [
        (CORRELATION, correlation),
        (METHOD, method.encode("ascii")),
        (PATH, path.encode("ascii")),
        (DEADLINE, b"%d" % deadline_ms),
    ]
    size = len(body) + _MESSAGE_OVERHEAD
    for name, value in fields:
        if name in _FRAMING:
            continue
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise ValueError("a header field holds a line break or a NUL")
        headers.append((_FIELD + name.decode("latin-1"), value))
    return headers, size + sum(len(name) + len(value) + 8 for name, value in headers)


def key_of(fields: Fields) -> bytes | None:
    """Return what keeps one caller's requests in order: the user's id, or else a mark of the token; None for neither.

    The token itself is a secret that a key, which tools show, must not be.
    """
    token = None
    for name, value in fields:
        if name == b"x-user-id":
            return value
        if name == b"authorization":
            token = value
    return None if token is None else sha256(token).hexdigest()[:32].encode("ascii")


def correlation_of(headers: Headers) -> bytes | None:
    """Return which request a message answers; None where it does not say."""
    for name, value in headers:
        if name == CORRELATION:
            return value
    return None


def read_reply(headers: Headers, value: bytes | None) -> Reply:
    """Return what a message says. Raises :exc:`Poison`."""
    known = dict(headers)
    sequence = _number(known.get(SEQUENCE), "sequence", 0, 2**53)
    status = _number(known.get(STATUS), "status", 200, 599)
    if status < 200:
        raise Poison("its status is not one from 200 to 599")
    final = (known.get(FINAL) or b"").lower()
    if final != _ABORTED and final not in _LAST:
        raise Poison("its mark of the end is neither true, false nor abort")
    alone = SEQUENCE not in known
    aborted = final == _ABORTED
    return Reply(
        sequence,
        aborted or alone or _LAST[final],
        aborted,
        status,
        _fields(headers, alone, len(value or b"")) if sequence == 0 else (),
        value or b"",
    )


def _number(value: bytes | None, what: str, default: int, most: int) -> int:
    if value is None:
        return default
    if not value.isdigit() or len(value) > 16 or int(value) > most:
        raise Poison(f"its {what} is no number in bounds")
    return int(value)


def _fields(headers: Headers, whole: bool, size: int) -> Fields:
    """Return the HTTP fields, checked: what goes down to a client must not be able to end a line."""
    fields = list(_checked(headers))
    if not any(name == b"content-type" for name, _ in fields):
        fields.append(_DEFAULT_TYPE)
    if whole:
        fields.append((b"content-length", b"%d" % size))
    return fields


def _checked(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if not name.startswith(_FIELD):
            continue
        field = name[len(_FIELD) :].encode("utf-8", "replace").lower()
        if field in _FRAMING:
            continue
        if not _NAME.match(field) or not _VALUE.match(value or b""):
            raise Poison("it has a header that cannot be sent")
        yield field, (value or b"").strip()
