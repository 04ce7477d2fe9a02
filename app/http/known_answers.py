"""The heads of answers that an upstream gives again and again. Pure.

Small answers of one kind often begin with the same bytes, for all of a second where they tell the time: what such a
head says was read by the parser when it came first. So an answer that begins so, and has just as many bytes behind it
as its head says, is known to be whole, and how it is framed. All others go through the parser.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["KnownAnswer", "KnownAnswers"]

_MOST = 64
"""Heads that are remembered; then all are forgotten, for most of them tell an older time."""
_LONGEST = 4096
"""Bytes of a head that is remembered."""
_END = b"\r\n\r\n"


class KnownAnswer:
    """What a head says of an answer that has a length, and after which its connection goes on."""

    __slots__ = ("headers", "length", "status")

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], length: int) -> None:
        self.status = status
        self.headers = tuple(headers)
        """With lower-case names."""
        self.length = length
        """Of the body, in bytes."""


class KnownAnswers:
    """Those of one target."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownAnswer] = {}

    def find(self, data: bytes) -> tuple[KnownAnswer, bytes] | None:
        """Return what is known of an answer, and its body, if ``data`` is a whole one whose head is known."""
        end = data.find(_END, 0, _LONGEST) + len(_END)
        known = self._heads.get(data[:end])
        if known is None or len(data) - end != known.length:
            return None
        return known, data[end:]

    def learn(self, data: bytes, status: int, headers: Sequence[tuple[bytes, bytes]], size: int) -> None:
        """Remember the head of an answer that the parser has read, all of which is ``data``.

        It is a final one to another method than HEAD, without interim ones before it, its body has ``size`` bytes, and
        its connection goes on. That its head ends at the first empty line is known by its length: nothing else is in
        ``data``. A head with a cookie is one client's, and does not come again.
        """
        end = data.find(_END, 0, _LONGEST) + len(_END)
        lengths = [value for name, value in headers if name == b"content-length"]
        if end < len(_END) or len(data) - end != size or lengths != [b"%d" % size]:
            return
        if any(name == b"set-cookie" for name, _ in headers):
            return
        if len(self._heads) >= _MOST:
            self._heads.clear()
        self._heads[data[:end]] = KnownAnswer(status, headers, size)
