"""Fossil deltas: what turns one text into another, as the Fossil version control system writes it.

A delta is the target's size, a line feed, then commands: copy a piece of the source (``count@offset,``), insert what
follows (``count:bytes``), and last the target's checksum (``sum;``). Numbers are written to the base 64. The format is
that of Fossil's "Delta Format" page; how a delta is found is our own affair.

Finding one must cost little whatever somebody publishes, because it is done on the event loop: what both begin and end
with is compared in large pieces, the rest of the source is known by a bounded number of equal blocks, and the search
for them ends with its budget. What was not found till then is inserted, and a delta that is not smaller than its target
is none.

Pieces of the target are cut between characters of UTF-8 only: a delta of texts is a text itself, which JSON can hold.
"""

from __future__ import annotations

import struct

__all__ = ["LARGEST", "Corrupt", "apply", "create"]

LARGEST = 128 * 1024
"""Bytes of a source or target beyond which no delta is made."""
_SMALLEST = 24
"""Bytes below which none could be smaller."""
_BLOCK = 16
"""Bytes that must be equal for a piece to be found; more where the source is large."""
_BLOCKS = 512
"""Blocks of a source that are known at most."""
_BUDGET = 4096
"""Places of a target that are looked up at most."""
_COST_OF_COPY = 16
"""What a copied piece costs of that budget."""
_SHORTEST_COPY = 12
"""Bytes that a copy must save to be worth its command."""
_SHORTEST_SEARCH = 64
"""Bytes of a target that are just inserted: knowing the source's blocks would cost more than they save."""
_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_MODULUS = 2**32


class Corrupt(ValueError):
    """This is no delta, or not one of this source."""


def create(source: bytes, target: bytes) -> bytes | None:
    """Return a delta that turns ``source`` into ``target``; None when there is none smaller than ``target``.

    Takes time in proportion to the sizes, and none for what is larger than :data:`LARGEST`.
    """
    if not (_SMALLEST <= len(target) <= LARGEST and _SMALLEST <= len(source) <= LARGEST):
        return None
    parts = [_number(len(target)), b"\n"]
    size, done = 0, 0
    for start, at, length in _pieces(source, target):
        if start > done:
            parts += (_number(start - done), b":", target[done:start])
            size += start - done
        parts += (_number(length), b"@", _number(at), b",")
        size += 4
        done = start + length
        if size >= len(target):
            return None
    if done < len(target):
        parts += (_number(len(target) - done), b":", target[done:])
        size += len(target) - done
    if size >= len(target):
        return None
    parts += (_number(_checksum(target)), b";")
    delta = b"".join(parts)
    return delta if len(delta) < len(target) else None


def apply(source: bytes, delta: bytes) -> bytes:
    """Return the target. Raises :exc:`Corrupt`; takes no more memory than the size that the delta announces."""
    size, at = _read(delta, 0)
    at = _expect(delta, at, b"\n")
    parts: list[bytes] = []
    total = 0
    while True:
        count, at = _read(delta, at)
        command, at = delta[at : at + 1], at + 1
        if command == b";":
            target = b"".join(parts)
            if total != size or count != _checksum(target):
                raise Corrupt("size or checksum differ")
            return target
        total += count
        if total > size:
            raise Corrupt("more than announced")
        if command == b"@":
            offset, at = _read(delta, at)
            at = _expect(delta, at, b",")
            piece = source[offset : offset + count]
        elif command == b":":
            piece, at = delta[at : at + count], at + count
        else:
            raise Corrupt("no such command")
        if len(piece) != count:
            raise Corrupt("a piece is missing")
        parts.append(piece)


def _pieces(source: bytes, target: bytes) -> list[tuple[int, int, int]]:
    """Return what to copy: place in the target, place in the source, length; in order, none overlapping."""
    head = _whole_end(target, 0, _same_ahead(source, 0, target, 0, min(len(source), len(target))))
    tail = _same_behind(source, len(source), target, len(target), min(len(source), len(target)) - head)
    end = _whole_start(target, len(target) - tail, len(target))
    pieces = []
    if head >= _SHORTEST_COPY:
        pieces.append((0, 0, head))
    else:
        head = 0
    length = len(target) - end
    if length < _SHORTEST_COPY:
        end, length = len(target), 0
    if end - head > _SHORTEST_SEARCH:
        pieces += _found(source, target, head, end)
    if length:
        pieces.append((end, len(source) - length, length))
    return pieces


def _found(source: bytes, target: bytes, start: int, end: int) -> list[tuple[int, int, int]]:
    """Look for pieces of ``target[start:end]`` anywhere in the source."""
    block = max(_BLOCK, -(-len(source) // _BLOCKS))
    places = {source[at : at + block]: at for at in range(0, len(source) - block + 1, block)}
    pieces: list[tuple[int, int, int]] = []
    budget, here = _BUDGET, start
    while here + block <= end and budget > 0:
        at = places.get(target[here : here + block])
        if at is None:
            here += 1
            budget -= 1
            continue
        budget -= _COST_OF_COPY
        behind = _same_behind(source, at, target, here, min(at, here - start))
        most = min(len(source) - at, end - here) - block
        ahead = block + _same_ahead(source, at + block, target, here + block, most)
        first = _whole_start(target, here - behind, end)
        last = _whole_end(target, first, here + ahead)
        if last - first < _SHORTEST_COPY:
            here += 1
            continue
        pieces.append((first, at + first - here, last - first))
        start = here = last
    return pieces


def _same_ahead(a: bytes, i: int, b: bytes, j: int, most: int) -> int:
    """Return how many bytes, ``most`` at most, are equal from ``a[i]`` and ``b[j]`` on."""
    same, step = 0, 32
    while same + step <= most and a[i + same : i + same + step] == b[j + same : j + same + step]:
        same += step
        step *= 2
    while step:
        if same + step <= most and a[i + same : i + same + step] == b[j + same : j + same + step]:
            same += step
        step //= 2
    return same


def _same_behind(a: bytes, i: int, b: bytes, j: int, most: int) -> int:
    """Return how many bytes, ``most`` at most, are equal before ``a[i]`` and ``b[j]``."""
    same, step = 0, 32
    while same + step <= most and a[i - same - step : i - same] == b[j - same - step : j - same]:
        same += step
        step *= 2
    while step:
        if same + step <= most and a[i - same - step : i - same] == b[j - same - step : j - same]:
            same += step
        step //= 2
    return same


def _whole_start(text: bytes, start: int, end: int) -> int:
    """Return the first place from ``start`` on where a character begins. A character has three more bytes at most."""
    for _ in range(3):
        if start < end and text[start] & 0xC0 == 0x80:
            start += 1
    return start


def _whole_end(text: bytes, start: int, end: int) -> int:
    """Return the last place up to ``end`` where a character ends."""
    for _ in range(3):
        if start < end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
    return end


def _checksum(data: bytes) -> int:
    """Return the sum of ``data`` as 32-bit numbers, the highest byte first, filled up with zeros."""
    count = -(-len(data) // 4)
    words: tuple[int, ...] = struct.unpack(f">{count}I", data + bytes(-len(data) % 4))
    return sum(words) % _MODULUS


def _number(value: int) -> bytes:
    if value < 64:
        return _DIGITS[value : value + 1]
    digits = bytearray()
    while value:
        digits.append(_DIGITS[value & 63])
        value >>= 6
    digits.reverse()
    return bytes(digits)


def _read(delta: bytes, at: int) -> tuple[int, int]:
    """Return the number at ``at``, and where it ends."""
    value, start = 0, at
    while at < len(delta) and (digit := _VALUES.get(delta[at])) is not None:
        value = value * 64 + digit
        at += 1
        if value >= _MODULUS:
            raise Corrupt("a number is too large")
    if at == start:
        raise Corrupt("a number is missing")
    return value, at


def _expect(delta: bytes, at: int, what: bytes) -> int:
    if delta[at : at + 1] != what:
        raise Corrupt(f"{what!r} is missing")
    return at + 1
