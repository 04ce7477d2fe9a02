"""W3C Trace Context (Level 2): which trace a request belongs to, as ``traceparent`` and ``tracestate`` say. Pure.

A valid ``traceparent`` is kept, an invalid one is as none: the trace begins here. What goes on is always of version 00,
whatever came, for we know no other. ``tracestate`` is other people's and is passed on whole or, past its bound, without
its largest or last entries, as section 3.3.1.5 asks; one that breaks the grammar is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "MAX_STATE",
    "TraceContext",
    "new_trace",
    "parse_traceparent",
    "parse_tracestate",
    "received_trace",
    "valid_request_id",
]

MAX_STATE = 512
"""Characters of ``tracestate`` that are passed on; section 3.3.1.5 asks for at least so many."""
_MAX_ENTRIES = 32
_LARGE_ENTRY = 128
"""Characters: larger entries are the first to go."""
_SAMPLED = 1
_RANDOM = 2
"""Flags. The second says that the trace's id is random, by which others may sample (section 3.2.2.5.2)."""
_TRACEPARENT = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?P<more>-.*)?",
    re.DOTALL,
)
_ENTRY = re.compile(rb"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_REQUEST_ID = re.compile(rb"(?!ey[\w-]{8,}\.[\w-]+\.)[A-Za-z0-9._~:+/=@-]{1,128}")
"""And no JSON Web Token, which a client may put there by mistake: ids are logged and told."""
_SCALE = 1 << 56
_NOT_ZERO = 1 << 191 | 1 << 63
"""The first bit of both ids: ids of zeros only are not valid, and this bit is none of those that must be random."""


class TraceContext(NamedTuple):
    """A place in a trace. Ids are lower-case hex, as they stand on the wire."""

    trace_id: str
    """32 digits."""
    span_id: str
    """16 digits: who asked, ``parent-id`` of what came; or the gateway's own span once it has one."""
    flags: int
    state: bytes = b""
    """``tracestate``, ready to be sent; empty for none."""

    @property
    def sampled(self) -> bool:
        """Whether who asked records it."""
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> bytes:
        return b"00-%b-%b-%02x" % (self.trace_id.encode(), self.span_id.encode(), self.flags)

    def below(self, span_id: str) -> TraceContext:
        """Return the place whose parent is the span ``span_id`` of the same trace."""
        return self._replace(span_id=span_id)


def received_trace(headers: Sequence[tuple[bytes, bytes]]) -> TraceContext | None:
    """Return where a request with these headers (lower-case names) stands; None without one valid ``traceparent``."""
    parents = [value for name, value in headers if name == b"traceparent"]
    context = parse_traceparent(parents[0]) if len(parents) == 1 else None
    if context is None:
        return None
    state = parse_tracestate([value for name, value in headers if name == b"tracestate"])
    return context._replace(state=state) if state else context


def new_trace(bits: int, *, share: float) -> TraceContext:
    """Return the beginning of a trace. ``bits`` are 192 random ones; ``share`` (0–1) of all traces are sampled.

    Which are is told by the last 56 bits of the trace's id, so that everybody who reckons so comes to the same end.
    """
    digits = f"{bits | _NOT_ZERO:048x}"
    sampled = share >= 1 or (bits >> 64) % _SCALE >= _SCALE * (1 - share)
    return TraceContext(digits[:32], digits[32:], _RANDOM | sampled)


def parse_traceparent(value: bytes) -> TraceContext | None:
    """Read ``traceparent`` (section 3.2); None for what is not valid. Later versions are read as far as known."""
    found = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"00" and more is not None:
        return None
    known = int(flags, 16) & (_SAMPLED | _RANDOM)
    return TraceContext(trace_id.decode(), span_id.decode(), known)


def parse_tracestate(values: Iterable[bytes]) -> bytes:
    """Join the lines of ``tracestate`` (section 3.3) into one within the bound; empty for one that is not valid."""
    entries = [entry for value in values for piece in value.split(b",") if (entry := piece.strip(b" \t"))]
    if len(entries) > _MAX_ENTRIES or not all(map(_ENTRY.fullmatch, entries)):
        return b""
    if len({entry.partition(b"=")[0] for entry in entries}) != len(entries):
        return b""
    joined = b",".join(entries)
    if len(joined) > MAX_STATE:
        joined = b",".join(_fitting(entries))
    return joined


def valid_request_id(value: bytes) -> bool:
    """Whether a client's ``X-Request-ID`` may be kept: 1–128 characters that are safe in every log."""
    return _REQUEST_ID.fullmatch(value) is not None


def _fitting(entries: list[bytes]) -> list[bytes]:
    """Leave out large entries, the last first, and then whatever stands at the end, until the rest fits."""
    kept = list(entries)
    excess = len(b",".join(kept)) - MAX_STATE
    for entry in reversed(entries):
        if excess > 0 and len(entry) > _LARGE_ENTRY:
            kept.remove(entry)
            excess -= len(entry) + 1
    while excess > 0:
        excess -= len(kept.pop()) + 1
    return kept
