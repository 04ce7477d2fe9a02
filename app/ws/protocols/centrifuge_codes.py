"""The Centrifuge protocol's numbers: errors of a command, ends of a connection, ends of a subscription.

An error is *temporary* when the same command may succeed later. Connections that end with 3500–3999 or 4500–4999 are
not taken up again by a client, all others are; subscriptions that end with 2500 or more are. A reason is never empty
and never JSON: the JavaScript client would read a connection's end wrongly. The text below each says when it comes, for
``docs/protocol.md``.
"""

from __future__ import annotations

from typing import NamedTuple

from app.errors import (
    BadRequest,
    BrokerUnavailable,
    PermissionDenied,
    SlowConsumer,
    TidegateError,
    TokenRevoked,
    TooManyRequests,
    Unauthenticated,
)

__all__ = [
    "ALREADY_SUBSCRIBED",
    "BAD_REQUEST",
    "CLOSE_BAD_REQUEST",
    "CLOSE_CHANNEL_LIMIT",
    "CLOSE_CONNECTION_LIMIT",
    "CLOSE_EXPIRED",
    "CLOSE_INSUFFICIENT",
    "CLOSE_INTERNAL",
    "CLOSE_INVALID_TOKEN",
    "CLOSE_NOT_AVAILABLE",
    "CLOSE_NO_PONG",
    "CLOSE_PERMISSION_DENIED",
    "CLOSE_PROTOCOL",
    "CLOSE_SHUTDOWN",
    "CLOSE_SLOW",
    "CLOSE_STALE",
    "CLOSE_SUBSCRIPTION_EXPIRED",
    "CLOSE_TOO_MANY_ERRORS",
    "CLOSE_TOO_MANY_REQUESTS",
    "EXPIRED",
    "INTERNAL",
    "LIMIT_EXCEEDED",
    "LOST_PLACE",
    "METHOD_NOT_FOUND",
    "NOT_AVAILABLE",
    "PERMISSION_DENIED",
    "SUBSCRIPTION_EXPIRED",
    "TOKEN_EXPIRED",
    "TOO_MANY_REQUESTS",
    "UNKNOWN_CHANNEL",
    "UNRECOVERABLE",
    "Disconnect",
    "Disconnected",
    "Fault",
    "Refused",
    "Unsubscription",
    "disconnect_of",
    "fault_of",
]


class Fault(NamedTuple):
    """The error of one command."""

    code: int
    message: str
    temporary: bool = False


class Disconnect(NamedTuple):
    """The end of a connection."""

    code: int
    reason: str


class Unsubscription(NamedTuple):
    """The end of a subscription that its client did not ask for."""

    code: int
    reason: str


INTERNAL = Fault(100, "internal server error", temporary=True)
"""Something here failed, or the log does not answer; try again."""
UNKNOWN_CHANNEL = Fault(102, "unknown channel")
"""The channel's namespace is not configured, or there is no such generation."""
PERMISSION_DENIED = Fault(103, "permission denied")
"""The channel's settings or its token do not allow it, or a token is refreshed of a channel that the client is not
in.
"""
METHOD_NOT_FOUND = Fault(104, "method not found")
"""There is no such `rpc`."""
ALREADY_SUBSCRIBED = Fault(105, "already subscribed")
"""The client is in this channel."""
LIMIT_EXCEEDED = Fault(106, "limit exceeded")
"""It is in `max_channels` already."""
BAD_REQUEST = Fault(107, "bad request")
"""A member's value can't be: a channel's name is too long, data is no JSON, a filter is none or not allowed."""
NOT_AVAILABLE = Fault(108, "not available")
"""The channel keeps no history or no presence, or this is not done here (`ping`, maps)."""
TOKEN_EXPIRED = Fault(109, "token expired")
"""The token of `connect`, `subscribe` or `sub_refresh` has expired: come again with a fresh one."""
EXPIRED = Fault(110, "expired")
"""The token is good, but what it grants is over (`expire_at`)."""
TOO_MANY_REQUESTS = Fault(111, "too many requests", temporary=True)
"""A limit was reached for now; try again."""
UNRECOVERABLE = Fault(112, "unrecoverable position")
"""`history` or a `subscribe` that insists asked for what follows a position that is not kept."""

CLOSE_SHUTDOWN = Disconnect(3001, "shutdown")
"""The replica stops: another one goes on."""
CLOSE_INTERNAL = Disconnect(3004, "internal server error")
"""A fault of the gateway's own."""
CLOSE_EXPIRED = Disconnect(3005, "connection expired")
"""The connection's token has ended and was not refreshed in time, or by one that had expired itself."""
CLOSE_SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
"""A subscription that the server made has ended."""
CLOSE_SLOW = Disconnect(3008, "slow")
"""More waited for this reader than `send_queue` holds."""
CLOSE_INSUFFICIENT = Disconnect(3010, "insufficient state")
"""A subscription that the server made has a gap: what was missed is recovered by coming again."""
CLOSE_NO_PONG = Disconnect(3012, "no pong")
"""A ping was not answered in time."""
CLOSE_TOO_MANY_REQUESTS = Disconnect(3013, "too many requests")
"""Commands went on coming faster than `realtime.limits` allow."""
CLOSE_INVALID_TOKEN = Disconnect(3500, "invalid token")
"""A token is none of ours, or another user's, client's or channel's."""
CLOSE_BAD_REQUEST = Disconnect(3501, "bad request")
"""A frame holds no command, a command comes before `connect` or after one that failed, or nobody says who connects."""
CLOSE_STALE = Disconnect(3502, "stale")
"""No `connect` came, or none that succeeded."""
CLOSE_CONNECTION_LIMIT = Disconnect(3504, "connection limit")
"""As many sockets as `realtime.limits` allow are open already: of this address, this user, this company, or in all."""
CLOSE_CHANNEL_LIMIT = Disconnect(3505, "channel limit")
"""The token names more than `max_channels` channels."""
CLOSE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
"""A binary frame in the JSON flavour, a text frame in the protobuf one."""
CLOSE_PERMISSION_DENIED = Disconnect(3507, "permission denied")
"""The token names no user, and anonymous clients are not let in."""
CLOSE_NOT_AVAILABLE = Disconnect(3508, "not available")
"""`send`: there is nobody to send a message to."""
CLOSE_TOO_MANY_ERRORS = Disconnect(3509, "too many errors")
"""`max_errors` commands in a row came to nothing."""

LOST_PLACE = Unsubscription(2500, "insufficient state")
"""The channel has a gap: subscribe again, and recover."""
SUBSCRIPTION_EXPIRED = Unsubscription(2501, "subscription expired")
"""The subscription's token has ended and was not refreshed in time."""


class Refused(TidegateError):
    """A command is answered by ``fault``."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Disconnected(TidegateError):
    """A command ends the connection."""

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(disconnect.reason)
        self.disconnect = disconnect


_OWN = {BadRequest: 107, PermissionDenied: 103, TooManyRequests: 111, BrokerUnavailable: 100, Unauthenticated: 101}
"""The protocol's own numbers for errors of ours; others go by their HTTP status, which is a custom code (400–599)."""


def fault_of(error: TidegateError) -> Fault:
    """Return what answers a command that failed with ``error``."""
    if isinstance(error, Refused):
        return error.fault
    for kind, code in _OWN.items():
        if isinstance(error, kind):
            return Fault(code, error.message, error.retryable)
    if type(error) is TidegateError:
        return INTERNAL
    return Fault(error.status, error.message, error.retryable)


def disconnect_of(error: TidegateError) -> Disconnect:
    """Return what ends a connection that failed with ``error``."""
    if isinstance(error, Disconnected):
        return error.disconnect
    if isinstance(error, TokenRevoked):
        return CLOSE_INVALID_TOKEN
    return CLOSE_SLOW if isinstance(error, SlowConsumer) else CLOSE_INTERNAL
