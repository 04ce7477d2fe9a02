"""What is known of users and sessions. Times are Unix times in seconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Ended", "Session", "User"]


@dataclass(frozen=True, slots=True)
class User:
    """An account. ``password_hash`` goes no further than the check of a password."""

    id: str
    email: str
    username: str | None
    roles: tuple[str, ...]
    created_at: float
    password_hash: str


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is not over."""

    id: str
    created_at: float
    refreshed_at: float
    expires_at: float
    user_agent: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that was ended at ``revoked_at``, of which the gateway has not heard."""

    id: str
    revoked_at: float
