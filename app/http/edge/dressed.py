"""An answer's head as its client gets it, where both heads are known: put together once for each connection. Pure.

What a client gets of an upstream's answer depends on the answer's head, on the fields of his request, on the route and
on the configuration. Where all four are the same again, only the request's id and its time differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.http.known_answers import KnownAnswer

__all__ = ["Dressed", "remember"]

_MOST = 8
"""Heads that are remembered for each connection."""
_ID, _TIME = b"x-request-id", b"x-process-time"
_FRAMING = frozenset({b"connection", b"transfer-encoding"})


class Dressed:
    """The lines of a head, but for two values."""

    __slots__ = ("_after", "_before", "_edition", "_route", "_scheme")

    def __init__(self, before: bytes, after: bytes, route: object, edition: object, scheme: str) -> None:
        self._before = before
        self._after = after
        self._route = route
        self._edition = edition
        self._scheme = scheme

    @classmethod
    def of(
        cls, answer: KnownAnswer, headers: Sequence[tuple[bytes, bytes]], route: object, edition: object, scheme: str
    ) -> Dressed | None:
        """Return what to remember of the ``headers`` that a client got; None where they frame another body.

        They were sent already, so that they can be.
        """
        names = [name for name, _ in headers]
        lengths = [value for name, value in headers if name == b"content-length"]
        plain = lengths == [b"%d" % answer.length] and _FRAMING.isdisjoint(names)
        if not plain or names.count(_ID) != 1 or names.count(_TIME) != 1:
            return None
        at = names.index(_ID)
        if names[at + 1 : at + 2] != [_TIME]:
            return None
        before, after = (
            b"".join([b"%b: %b\r\n" % field for field in some]) for some in (headers[:at], headers[at + 2 :])
        )
        return cls(before + _ID + b": ", b"\r\n" + after + b"\r\n", route, edition, scheme)

    def fits(self, route: object, edition: object, scheme: str) -> bool:
        """Whether it is the same ``route`` and ``edition`` of the configuration, and asked by the same ``scheme``."""
        return self._route is route and self._edition is edition and self._scheme == scheme

    def lines(self, id: bytes, seconds: float) -> bytes:
        """Return all lines behind those of the server, and the empty one."""
        return b"%b%b\r\nx-process-time: %.6f%b" % (self._before, id, seconds, self._after)


def remember(some: dict[KnownAnswer, Dressed], answer: KnownAnswer, dressed: Dressed) -> None:
    """Keep a few."""
    if len(some) >= _MOST:
        some.clear()
    some[answer] = dressed
