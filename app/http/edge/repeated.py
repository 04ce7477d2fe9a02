"""The fields that requests of one connection have in common. Pure.

A client that keeps its connection sends the same lines with each request: of its head, only the first one differs. What
they are was read when they came first, by the parser, and what they mean was found out then, too. So a head whose lines
are those bytes again is known, if it is sure where it ends and that nothing follows: requests without a body, whose
first line is of the plainest form. All others go through the parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.auth.identity import Identity
    from app.http.edge.dressed import Dressed
    from app.http.known_answers import KnownAnswer
    from app.http.passed import Passed

__all__ = ["Repeated"]

_LINE = re.compile(rb"(GET|HEAD|OPTIONS) (/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1\r\n")
"""All of it means the same to llhttp and to :func:`~app.http.edge.heads.check_head`."""
_LONGEST = 4096
"""Bytes of lines that are remembered, for each connection."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"http2-settings", b"trailer"})
"""Fields that say how a request, or its connection, goes on."""


class Repeated:
    """The lines of a head, as they came and as they were read."""

    __slots__ = ("_lines", "dressed", "fields", "headers", "identify", "passed")

    def __init__(self, lines: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._lines = lines
        self.headers = tuple(headers)
        """With lower-case names."""
        self.fields = dict(headers)
        self.identify: Callable[[], Identity] | None = None
        """Tells who the token in them belongs to, or raises why it is not good now; None as long as nobody asked."""
        self.passed: dict[int, Passed] = {}
        """What goes to upstreams of them, by the route's index."""
        self.dressed: dict[KnownAnswer, Dressed] = {}
        """What answers with known heads become for them."""

    @classmethod
    def of(cls, data: bytes, before: bytes, headers: Sequence[tuple[bytes, bytes]]) -> tuple[Repeated | None, bytes]:
        """Look at a request, which is all of ``data`` and has no body; ``before`` are the lines of the one before it.

        Return its lines, to be the next one's ``before``, and what is to be remembered if they have come twice.
        """
        first = _LINE.match(data)
        if first is None or len(data) - first.end() > _LONGEST:
            return None, b""
        lines = data[first.end() :]
        if lines != before:
            return None, lines
        names = [name for name, _ in headers]
        plain = _FRAMING.isdisjoint(names) and all(
            value.lower() == b"keep-alive" for name, value in headers if name == b"connection"
        )
        ends = lines.endswith(b"\r\n\r\n") and lines.count(b"\r\n\r\n") == 1
        return (cls(lines, headers) if plain and ends else None), lines

    def read(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return method and target of a request with these lines, if that is what ``data`` is."""
        first = _LINE.match(data)
        if first is None or data[first.end() :] != self._lines:
            return None
        method, target = first.groups()
        return method, target
