"""WebSocket frames as a server sends them (RFC 6455, section 5.2): unmasked, whole messages, no extensions."""

from __future__ import annotations

__all__ = ["binary_frame", "text_frame"]


def text_frame(payload: bytes) -> bytes:
    """Return ``payload`` (UTF-8) as one text frame."""
    return _frame(b"\x81", payload)


def binary_frame(payload: bytes) -> bytes:
    """Return ``payload`` as one binary frame."""
    return _frame(b"\x82", payload)


def _frame(head: bytes, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"%b%c%b" % (head, size, payload)
    if size < 65536:
        return b"%b\x7e%b%b" % (head, size.to_bytes(2, "big"), payload)
    return b"%b\x7f%b%b" % (head, size.to_bytes(8, "big"), payload)
