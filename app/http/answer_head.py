"""What an upstream's head must be like before anybody acts on it (RFC 9112). Pure.

llhttp frames answers strictly, but lets through what a gateway must not pass on.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MAX_HEAD", "refusal_of", "size_of"]

MAX_HEAD = 64 * 1024
"""Bytes of status line and headers, interim answers included."""
_LENGTH = 20
"""Digits of a Content-Length: as many as 64 bits may have."""
_VERSIONS = frozenset({"1.1", "1.0"})

Headers = Sequence[tuple[bytes, bytes]]


def refusal_of(
    status: int, version: str, length: bytes | None, codings: Sequence[bytes], size: int, *, upgrade: bool
) -> str:
    """Return how a head is no answer to what was asked, as the end of a sentence; empty for one that is.

    ``length`` is its Content-Length, ``codings`` its Transfer-Encoding, ``size`` is in bytes; ``upgrade`` says that a
    WebSocket was asked for.
    """
    if version not in _VERSIONS:
        return "in a version of HTTP that was not asked for"
    if not 200 <= status <= 599 and not (upgrade and status == 101):
        return f"with the status {status}"
    if size > MAX_HEAD:
        return "with headers that are too large"
    if any(coding.lower() != b"chunked" for coding in codings):
        return "with a transfer encoding that was not asked for"  # its bytes would reach the client undecoded
    if length is not None and len(length) > _LENGTH:
        return "with a length of too many digits"
    return ""


def size_of(headers: Headers) -> int:
    """Return how many bytes headers are."""
    return sum(len(name) + len(value) + 4 for name, value in headers)
