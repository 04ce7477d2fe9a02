"""What can be set: in code by name, in the environment as ``ORGANISATIONS_<NAME>``. Durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from services.database.database import DatabaseUrl
from services.users.settings import UsersSettings

__all__ = ["OrganisationsSettings"]


class OrganisationsSettings(UsersSettings):
    """The organisations service's settings; those of users are the users service's."""

    prefix: ClassVar[str] = "ORGANISATIONS_"
    also: ClassVar[Mapping[str, str]] = {
        "database_url": "DATABASE_URL",
        "jwt_secret": "JWT_SECRET",
        "service_key": "INTERNAL_SERVICE_KEY",
        "kafka_servers": "KAFKA_BOOTSTRAP_SERVERS",
    }

    database_url: DatabaseUrl = "sqlite:///out/organisations.db"
    """``sqlite:///file`` or ``postgresql://user:password@host/name``. Also read from DATABASE_URL."""
    jwt_secret: SecretStr = SecretStr("tidegate-development-secret-not-for-production")
    """Signs access tokens (HS256): the gateway's secret. Also read from JWT_SECRET."""
    service_key: SecretStr = SecretStr("gateway-secret-key-2024")
    """What services show as X-Internal-Key or X-Service-Key below /auth. Also read from INTERNAL_SERVICE_KEY."""
    kafka_servers: str = ""
    """``host:port`` of brokers, separated by commas, that events go to; empty for no events. Also read from
    KAFKA_BOOTSTRAP_SERVERS."""
    topic_partitions: int = Field(6, ge=0, le=1000)
    """Of topics that are made where they are not there; 0 to make none."""
    outbox_limit: int = Field(100_000, ge=1)
    """Events that wait for a broker that is away; past it new ones are dropped, and counted."""
    invite_days: float = Field(7, gt=0, le=366)
    """How long an invitation is good."""
