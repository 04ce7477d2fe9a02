"""WebSocket frames on their way through (RFC 6455 section 5). Pure.

A frame that is whole crosses as the bytes that came: its payload is nobody's business but the two ends', and what the
client masked stays masked for the upstream. A large frame crosses in pieces, each a fragment of its own (section 5.4
lets an intermediary do that where no extension was agreed on). So nothing is buffered but the beginning of one small
frame, and whatever was written ends where a frame ends: a close frame can follow at any moment.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CLOSE", "PING", "PONG", "Control", "FrameFault", "Scanner", "close_payload", "control_frame", "read_close"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
WHOLE = 64 * 1024
"""Bytes: frames up to this size are kept until they are whole."""
_FIN, _RESERVED, _OPCODE, _MASK, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_LONGEST_CONTROL = 125
_NO_CODES = frozenset({1004, 1005, 1006, 1015})


class Control(NamedTuple):
    """A control frame with its payload unmasked."""

    opcode: int
    payload: bytes


class FrameFault(Exception):
    """What came breaks the protocol or a limit: the close code and reason for who sent it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Scanner:
    """One direction. After a fault or a close frame nothing more is passed on."""

    __slots__ = ("_fin", "_held", "_key", "_left", "_limit", "_masked", "_need", "_opcode", "_open", "_size", "fault")

    def __init__(self, *, masked: bool, limit: int) -> None:
        """``masked`` says whether frames must be (a client's are), ``limit`` how many bytes a message may have."""
        self.fault: FrameFault | None = None
        """What ended this direction, if it was a fault."""
        self._masked = masked
        self._limit = limit
        self._held: bytearray | None = bytearray()
        """The beginning of a frame; None when nothing more is passed on."""
        self._need = 0
        """Bytes of it without which there is nothing to do."""
        self._open = False
        """A fragmented message has begun."""
        self._size = 0
        """Bytes of the message so far."""
        self._left = 0
        """Bytes to come of a large frame that crosses in pieces; below its next piece's head."""
        self._opcode = self._fin = 0
        self._key = b""

    def feed(self, data: bytes) -> tuple[bytes, list[Control]]:
        """Return what is to be passed on, and the control frames, in their order. A fault is in :attr:`fault`."""
        held = self._held
        if held is None:
            return b"", []
        if held:
            held += data
            if len(held) < self._need:
                return b"", []
            data, self._held = bytes(held), bytearray()
        passed: list[bytes] = []
        controls: list[Control] = []
        try:
            self._scan(data, passed, controls)
        except FrameFault as fault:
            self.fault, self._held = fault, None
        return passed[0] if len(passed) == 1 else b"".join(passed), controls

    def _scan(self, data: bytes, passed: list[bytes], controls: list[Control]) -> None:
        size, start, at = len(data), 0, 0  # data[start:at] are whole frames that cross as they are
        try:
            while at < size:
                if self._left:
                    start = at = self._piece(data, at, passed)
                    continue
                head, length = self._head(data, at)
                if not head:
                    self._hold(data[at:], length)
                    return
                first, end = data[at], at + head + length
                if first & 0x08:
                    if end > size:
                        self._hold(data[at:], end - at)
                        return
                    passed.append(data[start:at])
                    start = end
                    controls.append(Control(first & _OPCODE, self._payload(data, at + head, end)))
                    if first & _OPCODE == CLOSE:
                        self._held = None
                        return
                elif end <= size:
                    self._count(first, length)
                elif length <= WHOLE:
                    self._hold(data[at:], end - at)
                    return
                else:
                    self._count(first, length)
                    passed.append(data[start:at])
                    self._left, self._opcode, self._fin = length, first & _OPCODE, first & _FIN
                    self._key = data[at + head - 4 : at + head] if self._masked else b""
                    start = end = at + head
                at = end
        finally:
            if start < at:
                passed.append(data[start:at])

    def _head(self, data: bytes, at: int) -> tuple[int, int]:
        """Return the sizes of the frame's head and payload; (0, bytes needed) when the head is not there yet.

        A frame that must not be is refused as soon as that can be told.
        """
        size = len(data) - at
        if size < 2:
            return 0, 2
        first, second = data[at], data[at + 1]
        self._check(first, second)
        length, head = second & _LENGTH, 6 if self._masked else 2
        if length > _LONGEST_CONTROL:
            wide = 2 if length == 126 else 8
            head += wide
            if size < head:
                return 0, head
            length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
        elif size < head:
            return 0, head
        if not first & 0x08 and length + (self._size if self._open else 0) > self._limit:
            raise FrameFault(1009, f"the message is larger than {self._limit} bytes")
        return head, length

    def _check(self, first: int, second: int) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise FrameFault(1002, "a reserved bit is set")
        if bool(second & _MASK) != self._masked:
            raise FrameFault(1002, "a frame is not masked" if self._masked else "a frame is masked")
        if opcode in (CLOSE, PING, PONG):
            if not first & _FIN or second & _LENGTH > _LONGEST_CONTROL:
                raise FrameFault(1002, "a control frame is fragmented or too long")
        elif opcode == CONTINUATION:
            if not self._open:
                raise FrameFault(1002, "a continuation frame without a beginning")
        elif opcode not in (TEXT, BINARY):
            raise FrameFault(1002, "a frame of an unknown kind")
        elif self._open:
            raise FrameFault(1002, "a message begins within another one")

    def _count(self, first: int, length: int) -> None:
        self._size = self._size + length if self._open else length
        self._open = not first & _FIN

    def _hold(self, data: bytes, need: int) -> None:
        self._held, self._need = bytearray(data), need

    def _piece(self, data: bytes, at: int, passed: list[bytes]) -> int:
        """Pass on what there is of a large frame, as a fragment; return where it ends."""
        end = min(at + self._left, len(data))
        self._left -= end - at
        passed.append(_head_of(self._opcode | (0 if self._left else self._fin), end - at, self._key))
        passed.append(data[at:end])
        turn = (end - at) & 3
        self._key = self._key[turn:] + self._key[:turn]
        self._opcode = CONTINUATION
        return end

    def _payload(self, data: bytes, start: int, end: int) -> bytes:
        payload = data[start:end]
        return _masked(payload, data[start - 4 : start]) if self._masked else payload


def control_frame(opcode: int, payload: bytes, key: bytes = b"") -> bytes:
    """Return a control frame, masked if there is a ``key`` (4 random bytes)."""
    assert len(payload) <= _LONGEST_CONTROL, "RFC 6455 section 5.5"
    return _head_of(_FIN | opcode, len(payload), key) + (_masked(payload, key) if key else payload)


def close_payload(code: int | None, reason: str) -> bytes:
    """Return a close frame's payload; empty without a code. A reason that is too long is cut."""
    if code is None:
        return b""
    text = reason.encode()[: _LONGEST_CONTROL - 2].decode(errors="ignore")
    return code.to_bytes(2, "big") + text.encode()


def read_close(payload: bytes) -> tuple[int | None, str]:
    """Return a close frame's code (None where it has none) and reason. Raises :exc:`FrameFault`."""
    if not payload:
        return None, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (1000 <= code < 1015 or 3000 <= code < 5000) or code in _NO_CODES:
        raise FrameFault(1002, "a close frame with a code that must not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameFault(1007, "a close frame with a reason that is not UTF-8") from None


def _head_of(first: int, length: int, key: bytes) -> bytes:
    mask = _MASK if key else 0
    if length <= _LONGEST_CONTROL:
        return bytes((first, mask | length)) + key
    if length < 1 << 16:
        return bytes((first, mask | 126)) + length.to_bytes(2, "big") + key
    return bytes((first, mask | 127)) + length.to_bytes(8, "big") + key


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    pattern = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")
