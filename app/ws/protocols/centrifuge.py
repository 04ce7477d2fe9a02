"""The Centrifuge client protocol, v2, in any of its flavours: one socket, without I/O.

The states that it moves through are those of :mod:`~app.ws.protocols.centrifuge_state`.

Deadlines: a socket that never connects is stale, one that answers no ping is dead. A token's end is no deadline by
itself, for the client was told of it and refreshes: a while later it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, inf

from app.auth.identity import ANONYMOUS, Identity
from app.config import RealtimeConfig
from app.errors import KeysUnavailable, TidegateError
from app.streams.position import Position
from app.ws.protocols.actions import End, Leave, Send
from app.ws.protocols.centrifuge_codec import Codec
from app.ws.protocols.centrifuge_codes import (
    CLOSE_BAD_REQUEST,
    CLOSE_EXPIRED,
    CLOSE_INSUFFICIENT,
    CLOSE_INVALID_TOKEN,
    CLOSE_NO_PONG,
    CLOSE_NOT_AVAILABLE,
    CLOSE_PROTOCOL,
    CLOSE_SHUTDOWN,
    CLOSE_STALE,
    CLOSE_SUBSCRIPTION_EXPIRED,
    CLOSE_TOO_MANY_ERRORS,
    CLOSE_TOO_MANY_REQUESTS,
    LOST_PLACE,
    SUBSCRIPTION_EXPIRED,
    TOO_MANY_REQUESTS,
    Disconnect,
    Disconnected,
    Unsubscription,
    disconnect_of,
    fault_of,
)
from app.ws.protocols.centrifuge_commands import Command, Connect, Malformed, Word
from app.ws.protocols.centrifuge_json import JSON
from app.ws.protocols.centrifuge_pulse import Pulse
from app.ws.protocols.centrifuge_state import MOVES, Place, State

__all__ = ["Action", "CentrifugeProtocol"]

Action = Send | End | Leave | Command


class CentrifugeProtocol:
    """One socket. ``now`` is always in seconds since 1970; ``jitter`` (0 to 1) spreads the first pings of many.

    ``codec`` is the flavour that the socket speaks. Without ``pings`` its transport looks after that by itself.
    """

    __slots__ = (
        "_codec",
        "_config",
        "_errors",
        "_pulse",
        "_stale_at",
        "connection_id",
        "expires_at",
        "identity",
        "info",
        "pings",
        "places",
        "session_id",
        "state",
    )

    def __init__(
        self,
        config: RealtimeConfig,
        connection_id: str,
        now: float,
        jitter: float = 1.0,
        codec: Codec = JSON,
        *,
        pings: bool = True,
    ) -> None:
        self._codec = codec
        self._config = config
        self._errors = 0
        self._stale_at = now + config.auth_timeout
        first = now + config.ping_interval * (0.5 + jitter / 2) if pings else inf
        self._pulse = Pulse(first, config.ping_interval, config.centrifuge.pong_timeout)
        self.pings = pings
        self.connection_id = connection_id
        self.session_id = ""
        self.identity: Identity = ANONYMOUS
        self.info: bytes | None = None
        """What the connection token says of its bearer, JSON text."""
        self.expires_at: float | None = None
        self.places: dict[str, Place] = {}
        """Subscriptions, those that are being joined included."""
        self.state = State.FRESH

    @property
    def admitted(self) -> bool:
        """A connect command that is being carried out has named its user already."""
        return self.state in {State.CONNECTING, State.OPEN}

    # Frames.

    def receive(self, data: bytes) -> list[Action]:
        """Take a text frame's payload."""
        return self._end(CLOSE_PROTOCOL) if self._codec.binary else self._commands(data)

    def receive_binary(self, data: bytes) -> list[Action]:
        """Take a binary frame's payload."""
        return self._commands(data) if self._codec.binary else self._end(CLOSE_PROTOCOL)

    def throttled(self, data: bytes, wait: float, persists: bool) -> list[Action]:
        """Refuse a frame that came ``wait`` seconds too early. Pongs in it count: the server asked for them."""
        if persists or self.state is State.FRESH:
            return self._end(CLOSE_TOO_MANY_REQUESTS)
        actions: list[Action] = []
        try:
            for command in self._codec.commands(data):
                if command is Word.PONG:
                    actions += self._pong()
                elif not isinstance(command, Word) and self.state is not State.CLOSED:
                    actions.append(Send(self._codec.error(command.id, TOO_MANY_REQUESTS)))
        except Malformed:
            actions += self._end(CLOSE_BAD_REQUEST)
        return actions

    # Results of commands.

    def opened(self, expires_at: float | None) -> None:
        """The connect command was carried out. ``identity`` and ``info`` were set before."""
        self._move(State.OPEN)
        self.expires_at = expires_at

    def failed(self, command: Command, error: TidegateError) -> list[Action]:
        """A command came to nothing: by an answer, or by the end of the connection."""
        if self.state is State.CLOSED:
            return []
        if isinstance(error, Disconnected):
            return self._end(error.disconnect)
        if isinstance(command, Connect):
            self._move(State.UNUSABLE)
        self._errors += 1
        if self._errors >= self._config.centrifuge.max_errors:
            return self._end(CLOSE_TOO_MANY_ERRORS)
        return [Send(self._codec.error(command.id, fault_of(error)))]

    def succeeded(self) -> None:
        """A command was carried out."""
        self._errors = 0

    def closing(self, error: TidegateError) -> list[Action]:
        """The session can't go on."""
        return self._end(disconnect_of(error))

    def refused(self, error: TidegateError) -> list[Action]:
        """The handshake's credential was not accepted. Only an expired one is worth another try, or none of its own."""
        if isinstance(error, KeysUnavailable):
            return self._end(disconnect_of(error))
        return self._end(CLOSE_EXPIRED if error.retryable else CLOSE_INVALID_TOKEN)

    def dismissed(self, code: int, reason: str) -> list[Action]:
        """A back end ends the session."""
        return self._end(Disconnect(code, reason))

    def extended(self, expires_at: float | None, now: float) -> list[Action]:
        """A back end moves the session's end; None for never, a time that is over for now."""
        if self.state is State.CLOSED:
            return []
        if expires_at is not None and expires_at <= now:
            return self._end(CLOSE_EXPIRED)
        self.expires_at = expires_at
        life = {} if expires_at is None else {"expires": True, "ttl": max(1, floor(expires_at - now))}
        return [Send(self._codec.push("", "refresh", life))]

    def goaway(self, delay: float) -> list[Action]:
        """The replica stops; clients learn it from the end of the connection."""
        return []

    def gone(self) -> list[Action]:
        return self._end(CLOSE_SHUTDOWN)

    # The hub's side.

    def gap(self, channel: str) -> list[Action]:
        """What comes next on ``channel`` does not follow what was delivered. Who asked for no position does not mind.

        A client-side subscription ends so that its client comes back and recovers; of server-side ones it knows no
        other way than to connect again.
        """
        place = self.places.get(channel)
        if place is None or not place.positioned:
            return []
        if place.server_side:
            return self._end(CLOSE_INSUFFICIENT)
        return self.put_out(channel, LOST_PLACE)

    def moved(self, channel: str, position: Position) -> list[Action]:
        """The protocol has no word for a new epoch but the reply to a subscription: its client comes and gets it.

        Who comes back names where he stood, and misses nothing.
        """
        return self.gap(channel)

    def put_out(self, channel: str, why: Unsubscription) -> list[Action]:
        """End a subscription and tell the client."""
        return [Leave(channel), Send(self._codec.push(channel, "unsubscribe", why._asdict()))]

    # Time.

    def due(self) -> float:
        """Return when :meth:`tick` has something to do."""
        if self.state is not State.OPEN:
            return self._stale_at if self.state is not State.CLOSED else inf
        return min(self._pulse.due(), min(self._ends(), default=inf))

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        if self.state is State.CLOSED:
            return []
        if self.state is not State.OPEN:
            return self._end(CLOSE_STALE) if now >= self._stale_at else []
        delay = self._config.centrifuge.expired_delay
        if self.expires_at is not None and now >= self.expires_at + delay:
            return self._end(CLOSE_EXPIRED)
        if self._pulse.lost(now):
            return self._end(CLOSE_NO_PONG)
        actions: list[Action] = []
        for channel, place in list(self.places.items()):
            if place.expires_at is not None and now >= place.expires_at + delay:
                if place.server_side:
                    return self._end(CLOSE_SUBSCRIPTION_EXPIRED)
                place.expires_at = None
                actions += self.put_out(channel, SUBSCRIPTION_EXPIRED)
        if self._pulse.beat(now):
            actions.append(Send(self._codec.ping))
        return actions

    def closed(self) -> None:
        """The socket is gone."""
        self.state = State.CLOSED

    # Private.

    def _commands(self, data: bytes) -> list[Action]:
        actions: list[Action] = []
        try:
            for command in self._codec.commands(data):
                actions += self._command(command)
                if self.state is State.CLOSED:
                    break
        except Malformed:
            actions += self._end(CLOSE_BAD_REQUEST)
        return actions

    def _command(self, command: Command | Word) -> list[Action]:
        if self.state is State.UNUSABLE:
            return self._end(CLOSE_BAD_REQUEST)
        if command is Word.PONG:
            return self._pong()
        if isinstance(command, Connect):
            if self.state is not State.FRESH:
                return self._end(CLOSE_BAD_REQUEST)
            self._move(State.CONNECTING)
        elif self.state is State.FRESH:
            return self._end(CLOSE_BAD_REQUEST)
        if isinstance(command, Word):
            return self._end(CLOSE_NOT_AVAILABLE)  # There is nobody to send a message to.
        return [command]

    def _pong(self) -> list[Action]:
        """An answer to nothing is a fault of the client's."""
        return [] if self._pulse.answered() else self._end(CLOSE_BAD_REQUEST)

    def _ends(self) -> Iterator[float]:
        delay = self._config.centrifuge.expired_delay
        if self.expires_at is not None:
            yield self.expires_at + delay
        for place in self.places.values():
            if place.expires_at is not None:
                yield place.expires_at + delay

    def _end(self, disconnect: Disconnect) -> list[Action]:
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        return [End(disconnect.code, disconnect.reason)]

    def _move(self, state: State) -> None:
        assert state in MOVES[self.state], f"{self.state} does not become {state}"
        self.state = state
