"""How sockets of each server come into one channel, and how one publishes to it: a few bytes that differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.bench.client import text_frame
from loadtests.bench.crowd import MARK, Crowd
from loadtests.bench.followers import CHANNEL
from loadtests.bench.lab import Target
from loadtests.bench.peers.catalogue import Peer

__all__ = ["MESSAGE", "Side", "centrifuge", "gateway_sides", "peer_side"]

MESSAGE = b'{"p":"%b%b"}' % (MARK, b"x" * (63 - 8 - len(MARK)))
"""63 bytes."""


@dataclass(frozen=True, slots=True)
class Side:
    """A server in one protocol: how its sockets subscribe, how the publisher ``greets``, and what he sends."""

    target: Target
    subscribe: Callable[[str], bytes] | None = None
    answer: bytes = b""
    publisher: Target | None = None
    greet: Callable[[str], bytes] | None = None
    greeted: bytes = b"{"
    message: bytes = MESSAGE

    def gather(self, crowd: Crowd, count: int, *, users: bool = False) -> None:
        """Bring ``count`` subscribers into the channel, each of them a user where ``users``."""
        names = [f"user-{index}" if users else "bench" for index in range(count)]
        then = self.subscribe
        crowd.open(
            [self.target.handshake(name) for name in names],
            self.target.greeting,
            None if then is None else lambda index: text_frame(then(names[index])),
            self.answer,
        )


def centrifuge(native: Target) -> Target:
    """Return the endpoint of the Centrifuge protocol of a gateway."""
    return native.at("/connection/websocket", b"\r\n\r\n")


def gateway_sides(native: Target) -> dict[str, Side]:
    """Return the gateway in both protocols. Clients publish in the Centrifuge protocol only, to listeners in either."""
    other = centrifuge(native)

    def hello(user: str) -> bytes:
        return b'{"id":1,"connect":{"token":"%b"}}' % native.token_for(user).encode()

    def join(user: str) -> bytes:
        return b'%b\n{"id":2,"subscribe":{"channel":"%b"}}' % (hello(user), CHANNEL)

    said = b'{"id":3,"publish":{"channel":"%b","data":%b}}' % (CHANNEL, MESSAGE)
    subscribe = b'{"type":"subscribe","id":1,"channel":"%b"}' % CHANNEL
    return {
        "native": Side(native, lambda user: subscribe, b'"ok":true', other, hello, message=said),
        "centrifuge": Side(other, join, b'"id":2', other, hello, message=said),
    }


def peer_side(peer: Peer, target: Target) -> Side:
    """Return ``peer``, which serves at ``target``, in its own protocol."""
    if peer.package in ("socket.io", "python-socketio"):  # Engine.IO 4: "0" opens; Socket.IO 5: "40" joins, "42" says
        target = target.at("/socket.io/?EIO=4&transport=websocket", b'0{"sid"')
        return Side(
            target, lambda user: b"40", b'40{"sid"', greet=lambda user: b"40", message=b'42["say",%b]' % MESSAGE
        )
    if peer.package == "nats-server":
        target = target.at("/", b"INFO {")
        hello = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
        said = b"PUB all %d\r\n%b\r\n" % (len(MESSAGE), MESSAGE)
        joined, greeted = hello + b"SUB all 1\r\nPING\r\n", hello + b"PING\r\n"
        return Side(target, lambda user: joined, b"PONG", greet=lambda user: greeted, greeted=b"PONG", message=said)
    return Side(target)
