"""The Centrifuge protocol's numbers: errors of a command, ends of a connection, ends of a subscription.

An error is *temporary* when the same command may succeed later. Connections that end with 3500–3999 or 4500–4999 are
not taken up again by a client, all others are; subscriptions that end with 2500 or more are. A reason is never empty
and never JSON: the JavaScript client would read a connection's end wrongly.
"""

from __future__ import annotations

from typing import NamedTuple

from app.errors import (
    BadRequest,
    BrokerUnavailable,
    PermissionDenied,
    SlowConsumer,
    TidegateError,
    TooManyRequests,
    Unauthenticated,
)

__all__ = [
    "ALREADY_SUBSCRIBED",
    "BAD_REQUEST",
    "CLOSE_BAD_REQUEST",
    "CLOSE_CHANNEL_LIMIT",
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
    "EXPIRED",
    "INTERNAL",
    "LIMIT_EXCEEDED",
    "LOST_PLACE",
    "METHOD_NOT_FOUND",
    "NOT_AVAILABLE",
    "PERMISSION_DENIED",
    "SUBSCRIPTION_EXPIRED",
    "TOKEN_EXPIRED",
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
UNAUTHORIZED = Fault(101, "unauthorized")
UNKNOWN_CHANNEL = Fault(102, "unknown channel")
PERMISSION_DENIED = Fault(103, "permission denied")
METHOD_NOT_FOUND = Fault(104, "method not found")
ALREADY_SUBSCRIBED = Fault(105, "already subscribed")
LIMIT_EXCEEDED = Fault(106, "limit exceeded")
BAD_REQUEST = Fault(107, "bad request")
NOT_AVAILABLE = Fault(108, "not available")
TOKEN_EXPIRED = Fault(109, "token expired")
EXPIRED = Fault(110, "expired")
TOO_MANY_REQUESTS = Fault(111, "too many requests", temporary=True)
UNRECOVERABLE = Fault(112, "unrecoverable position")

CLOSE_SHUTDOWN = Disconnect(3001, "shutdown")
CLOSE_INTERNAL = Disconnect(3004, "internal server error")
CLOSE_EXPIRED = Disconnect(3005, "connection expired")
CLOSE_SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
CLOSE_SLOW = Disconnect(3008, "slow")
CLOSE_INSUFFICIENT = Disconnect(3010, "insufficient state")
CLOSE_NO_PONG = Disconnect(3012, "no pong")
CLOSE_INVALID_TOKEN = Disconnect(3500, "invalid token")
CLOSE_BAD_REQUEST = Disconnect(3501, "bad request")
CLOSE_STALE = Disconnect(3502, "stale")
CLOSE_CHANNEL_LIMIT = Disconnect(3505, "channel limit")
CLOSE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
CLOSE_PERMISSION_DENIED = Disconnect(3507, "permission denied")
CLOSE_NOT_AVAILABLE = Disconnect(3508, "not available")
CLOSE_TOO_MANY_ERRORS = Disconnect(3509, "too many errors")

LOST_PLACE = Unsubscription(2500, "insufficient state")
SUBSCRIPTION_EXPIRED = Unsubscription(2501, "subscription expired")


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
    return CLOSE_SLOW if isinstance(error, SlowConsumer) else CLOSE_INTERNAL
