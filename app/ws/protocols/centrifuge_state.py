"""What a socket of the Centrifuge protocol can be in: a state, and places in channels.

Its clients put ``connect`` and all their subscriptions into one frame as soon as the socket is open. So a socket is
*connecting* from its connect command on and takes more commands at once; the session carries them out in their order,
and what follows a connect that failed is never looked at: the socket is *unusable* then, and its client leaves. What
is no command at all ends the socket. The moves are :data:`MOVES`; ``docs/protocol.md`` tells clients the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["MOVES", "Place", "State"]


class State(Enum):
    FRESH = "fresh"
    CONNECTING = "connecting"
    OPEN = "open"
    UNUSABLE = "unusable"
    CLOSED = "closed"


MOVES: dict[State, frozenset[State]] = {
    State.FRESH: frozenset({State.CONNECTING, State.CLOSED}),
    State.CONNECTING: frozenset({State.OPEN, State.UNUSABLE, State.CLOSED}),
    State.OPEN: frozenset({State.CLOSED}),
    State.UNUSABLE: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


@dataclass(slots=True)
class Place:
    """One subscription of the socket.

    ``info`` is the client's info as others see it in this channel, JSON text. ``expires_at`` is the end of the token
    that it was granted by, in seconds since 1970. ``present`` and ``announced`` say whether the client is entered in
    the channel's presence, and was announced to it.
    """

    server_side: bool = False
    positioned: bool = False
    info: bytes = b"{}"
    expires_at: float | None = None
    presence: bool = False
    announces: bool = False
    present: bool = False
    announced: bool = False
