"""A stored answer, and its form as bytes. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Entry", "decode_entry", "encode_entry"]

Headers = tuple[tuple[bytes, bytes], ...]

_HEAD = struct.Struct("!4sHBdddddHH")
_FIELD = struct.Struct("!HI")
_MAGIC = b"TGC1"
_OVERHEAD = 512
"""Bytes that an entry is taken to cost beside its texts."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as it may be given again. Times are seconds since 1970, durations seconds.

    Where answers differ by fields of the request, an entry of status 0 stands under the plain key: its ``vary`` names
    the fields, and the answers lie under keys that hold their values, too.
    """

    status: int
    headers: Headers
    """As they may be sent: lower-case names, nothing of one connection, no Age, no length."""
    body: bytes
    stored_at: float
    """When the answer came, or was found to be still right."""
    initial_age: float
    """How old it was then (RFC 9111 section 4.2.3)."""
    lifetime: float
    """How long it is fresh, counted from age 0."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    """How long after that it may be given while, or because, there is none better (RFC 5861)."""
    always_validate: bool = False
    """``no-cache``: never given without asking."""
    strict: bool = False
    """``must-revalidate`` and its kin: not even a client that takes stale answers gets it stale."""
    vary: tuple[bytes, ...] = ()
    """Names of the request's fields that chose this answer."""

    def age(self, now: float) -> float:
        return self.initial_age + max(0.0, now - self.stored_at)

    @property
    def size(self) -> int:
        """Bytes that this entry costs, about."""
        return _OVERHEAD + len(self.body) + sum(len(name) + len(value) + 100 for name, value in self.headers)

    def field(self, name: bytes) -> bytes | None:
        return next((value for field, value in self.headers if field == name), None)


def encode_entry(entry: Entry) -> bytes:
    """Return the entry as bytes: a head, the fields with their lengths, the names of ``vary``, the body."""
    parts = [
        _HEAD.pack(
            _MAGIC,
            entry.status,
            entry.always_validate | entry.strict << 1,
            entry.stored_at,
            entry.initial_age,
            entry.lifetime,
            entry.stale_while_revalidate,
            entry.stale_if_error,
            len(entry.headers),
            len(entry.vary),
        )
    ]
    for name, value in (*entry.headers, *((name, b"") for name in entry.vary)):
        parts += (_FIELD.pack(len(name), len(value)), name, value)
    parts.append(entry.body)
    return b"".join(parts)


def decode_entry(data: bytes) -> Entry | None:
    """Return what :func:`encode_entry` wrote; None for anything else, such as another version's entry."""
    try:
        magic, status, flags, stored_at, age, lifetime, while_, error, headers, vary = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            return None
        fields, place = [], _HEAD.size
        for _ in range(headers + vary):
            name_length, length = _FIELD.unpack_from(data, place)
            start = place + _FIELD.size
            place = start + name_length + length
            if place > len(data):
                return None
            fields.append((data[start : start + name_length], data[start + name_length : place]))
    except struct.error:
        return None
    names = tuple(name for name, _ in fields[headers:])
    return Entry(
        status, tuple(fields[:headers]), data[place:], stored_at, age, lifetime, while_, error,
        bool(flags & 1), bool(flags & 2), names,
    )  # fmt: skip
