"""What can be set: in code by name, in the environment as ``USERS_<NAME>``. Durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from services.database.database import DatabaseUrl
from services.web.settings import HttpUrl, ServiceSettings

__all__ = ["DEVELOPMENT_SECRET", "UsersSettings"]

DEVELOPMENT_SECRET = "dev-super-secret-access-key-2024"


class UsersSettings(ServiceSettings):
    """The users service's settings."""

    prefix: ClassVar[str] = "USERS_"
    together: ClassVar[tuple[str, ...]] = ("gateway_url", "gateway_key")
    also: ClassVar[Mapping[str, str]] = {
        "jwt_secret": "JWT_SECRET_KEY",
        "access_minutes": "JWT_ACCESS_TOKEN_EXPIRE_MINUTES",
    }

    database_url: DatabaseUrl = "sqlite:///out/users.db"
    """``sqlite:///file`` or ``postgresql://user:password@host/name``."""
    jwt_secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    """Signs access tokens (HS256): the gateway's secret. Also read from JWT_SECRET_KEY."""
    access_minutes: float = Field(15, gt=0, le=43_200)
    """How long an access token is good. Also read from JWT_ACCESS_TOKEN_EXPIRE_MINUTES."""
    refresh_days: float = Field(30, gt=0, le=366)
    """How long a session lives without being used."""
    issuer: str | None = None
    """The claim ``iss``, where the gateway wants one."""
    audience: str | None = None
    """The claim ``aud``, likewise."""
    gateway_url: HttpUrl | None = None
    """The gateway that is told of sessions that end, so that it closes their sockets."""
    gateway_key: SecretStr | None = None
    """One of its ``server_api.keys``."""
    login_failures: int = Field(10, ge=1, le=10_000)
    """Wrong passwords of one account from one address in a window; ten times as many of one account, or one address."""
    login_window: int = Field(900, ge=1, le=86_400)
    """Seconds that a wrong password counts."""
    sessions_per_user: int = Field(50, ge=1, le=10_000)
    """The oldest ends when there are more."""
    hash_workers: int = Field(2, ge=1, le=64)
    """Passwords that are hashed at once, each in a thread."""
    hash_memory: int = Field(65_536, ge=1024, le=4 * 1024 * 1024)
    """KiB that a hash takes. When it is changed, passwords are hashed anew as their users sign in."""
    hash_queue: int = Field(64, ge=0, le=10_000)
    """Passwords that wait for it; one more is answered 503."""
    body_limit: int = Field(64 * 1024, ge=1024)
