"""How clients of other servers come back after a cut, so that what they missed can be counted beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from loadtests.bench.followers import Follower
from loadtests.bench.lab import Target

__all__ = ["RETURNING"]


class _Plain(Follower):
    """A socket whose server remembers nothing: whoever was away has missed it. Messages are numbered."""

    def join(self) -> None:
        self.there()

    def publish(self, number: int) -> None:
        self.send(b'{"n":%d}' % number)

    def take(self, line: bytes) -> None:
        if self.follows:
            self.heard(orjson.loads(line)["n"])

    def heard(self, number: int) -> None:
        """Take the message of that number; with the first one it begins."""
        self.offset = self.offset or number - 1
        self.follow({"offset": number})


class _SocketIo(_Plain):
    """Engine.IO 4 and Socket.IO 5 with its *connection state recovery*: a private id, and the last packet's offset."""

    def __init__(self, target: Target, user: str, *, follows: bool = True) -> None:
        super().__init__(target, user, follows=follows)
        self._private: str | None = None
        self._last = ""

    def join(self) -> None:
        """Say nothing: the server opens."""

    def publish(self, number: int) -> None:
        self.send(b'42["say",{"n":%d}]' % number)

    def take(self, line: bytes) -> None:
        if line == b"2":
            self.send(b"3")
        elif line[:1] == b"0":
            known: dict[str, Any] = {"pid": self._private, "offset": self._last} if self._private else {}
            self.send(b"40" + (orjson.dumps(known) if known else b""))
        elif line[:2] == b"40":
            self._private = orjson.loads(line[2:]).get("pid")
            self.there()
        elif line[:2] == b"42" and self.follows:
            _, data, *rest = orjson.loads(line[2:])
            self._last = rest[0] if rest else ""
            self.heard(data["n"])


RETURNING: Mapping[str, type[Follower]] = MappingProxyType(
    {"uWebSockets": _Plain, "Node ws": _Plain, "Socket.IO": _SocketIo, "FastAPI": _Plain}
)
"""By the server's name. python-socketio is not among them: what is published to all meanwhile fills its core alone."""
