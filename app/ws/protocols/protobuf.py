"""The wire format of Protocol Buffers, as much of it as a protocol of small messages needs.

Messages are described by tables. What is decoded is a dict with the fields' names, absent ones left out; so is what is
encoded. Stricter than the usual libraries in one thing: a known field of the wrong wire type is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

import orjson

__all__ = [
    "Encoded",
    "Field",
    "Kind",
    "Message",
    "WireError",
    "count_delimited",
    "decode",
    "delimited",
    "encode",
    "varint",
    "varint_at",
]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MOST = 2**64
_TABLED = 2**14


class WireError(ValueError):
    """These bytes are no message."""


class Encoded(bytes):
    """A message that is encoded already."""


class Kind(Enum):
    UINT = "uint"
    INT = "int"
    BOOL = "bool"
    TEXT = "text"
    DATA = "data"
    """Bytes. Values that are encoded into one may be anything that JSON can hold; ``bytes`` are put in as they are."""
    MESSAGE = "message"
    """``bytes`` that are encoded into one are JSON text of an object."""
    MAP = "map"
    """By texts; its message is that of an entry."""
    LIST = "list"
    """Of messages."""
    TEXTS = "texts"
    """A list of them. Only read."""


_NUMBERS = {Kind.UINT, Kind.INT, Kind.BOOL}


class Message:
    """A message's fields, by name and number."""

    __slots__ = ("by_key", "by_name")

    def __init__(self, *fields: Field) -> None:
        self.by_name = {field.name: field for field in fields}
        self.by_key = {field.number << 3 | (_VARINT if field.kind in _NUMBERS else _BYTES): field for field in fields}
        """What stands before a field's value: its number and its wire type."""


class Field(NamedTuple):
    number: int
    name: str
    kind: Kind
    of: Message = Message()


def _varint(value: int) -> bytes:
    if _TABLED <= value < 2**21:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


_SMALL = tuple(_varint(value) for value in range(_TABLED))
"""The numbers that are most of all, ready."""


def varint(value: int) -> bytes:
    """Return ``value``, of 64 bits at most; a negative one as its two's complement."""
    return _SMALL[value] if 0 <= value < _TABLED else _varint(value % _MOST)


def varint_at(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number at ``at`` and where it ends. Raises :exc:`WireError`."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= _MOST:
                break
            return value, at
        shift += 7
    raise WireError("a number is cut off or too large")


def delimited(message: bytes) -> bytes:
    """Return ``message`` with its length before it."""
    return varint(len(message)) + message


def count_delimited(data: bytes) -> int:
    """Return how many messages there are, each with its length before it; what is cut off or none counts as one."""
    count, at, end = 0, 0, len(data)
    while at < end:
        count += 1
        try:
            size, at = varint_at(data, at, end)
        except WireError:
            break
        at += size
    return count


def decode(message: Message, data: bytes, at: int, end: int) -> dict[str, Any]:
    """Return the fields of the message between ``at`` and ``end``. Raises :exc:`WireError`."""
    values: dict[str, Any] = {}
    while at < end:
        key, at = varint_at(data, at, end)
        field = message.by_key.get(key)
        if field is None:
            at = _skipped(message, key, data, at, end)
        elif key & 7 == _VARINT:
            number, at = varint_at(data, at, end)
            kind = field.kind
            values[field.name] = bool(number) if kind is Kind.BOOL else _signed(number) if kind is Kind.INT else number
        else:
            start, at = _extent(data, at, end)
            _take(values, field, data, start, at)
    return values


def _extent(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the bytes begin and end whose length is at ``at``."""
    size, at = varint_at(data, at, end)
    if size > end - at:
        raise WireError("a field is cut off")
    return at, at + size


def _skipped(message: Message, key: int, data: bytes, at: int, end: int) -> int:
    """Return where the field ends that ``message`` does not have, whose value begins at ``at``."""
    number, wire = key >> 3, key & 7
    if not 0 < number < 2**29:
        raise WireError("there is no field of this number")
    if number << 3 | _VARINT in message.by_key or number << 3 | _BYTES in message.by_key:
        raise WireError("a field has the wrong wire type")
    if wire == _VARINT:
        return varint_at(data, at, end)[1]
    if wire == _BYTES:
        return _extent(data, at, end)[1]
    if wire not in _FIXED:
        raise WireError("a field has no known wire type")
    if _FIXED[wire] > end - at:
        raise WireError("a field is cut off")
    return at + _FIXED[wire]


def _take(values: dict[str, Any], field: Field, data: bytes, start: int, end: int) -> None:
    """Read a field's bytes. Of one that comes again messages are merged; else the last one counts."""
    name, kind = field.name, field.kind
    if kind is Kind.TEXT:
        values[name] = _utf8(data[start:end])
    elif kind is Kind.TEXTS:
        values.setdefault(name, []).append(_utf8(data[start:end]))
    elif kind is Kind.DATA:
        values[name] = data[start:end]
    elif kind is Kind.MAP:
        entry = decode(field.of, data, start, end)
        values.setdefault(name, {})[entry.get("key", "")] = entry.get("value")
    elif kind is Kind.LIST:
        values.setdefault(name, []).append(decode(field.of, data, start, end))
    else:
        values.setdefault(name, {}).update(decode(field.of, data, start, end))


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError("a text is not UTF-8") from error


def _signed(number: int) -> int:
    return number - _MOST if number >= _MOST // 2 else number


def encode(message: Message, values: Mapping[str, Any]) -> bytes:
    """Return the message that says ``values``.

    Those that say nothing are left out, unless they are messages, and so are those that the message has no field for.
    """
    pieces: list[bytes] = []
    for name, value in values.items():
        field = message.by_name.get(name)
        if field is None:
            continue
        kind = field.kind
        if kind in _NUMBERS:
            if value:
                pieces.append(varint(field.number << 3) + varint(value))
            continue
        key = varint(field.number << 3 | _BYTES)
        if kind is Kind.MAP:
            entries = (encode(field.of, {"key": each, "value": below}) for each, below in value.items())
            pieces += [key + delimited(entry) for entry in entries]
        elif kind is Kind.LIST:
            pieces += [key + delimited(_message(field.of, each)) for each in value]
        elif kind is Kind.MESSAGE:
            pieces.append(key + delimited(_message(field.of, value)))
        elif body := value.encode() if kind is Kind.TEXT else _bytes(value):
            pieces.append(key + delimited(body))
    return b"".join(pieces)


def _message(message: Message, value: Any) -> bytes:
    if isinstance(value, Encoded):
        return value
    return encode(message, orjson.loads(value) if isinstance(value, bytes) else value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(value)
