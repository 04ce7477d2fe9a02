"""WebSocket frames as a server sends them (RFC 6455, section 5.2): unmasked, whole messages, no extensions."""

from __future__ import annotations

__all__ = ["text_frame"]


def text_frame(payload: bytes) -> bytes:
    """Return ``payload`` (UTF-8) as one text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)
