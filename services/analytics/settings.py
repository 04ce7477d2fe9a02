"""What can be set: in code by name, in the environment as ``ANALYTICS_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from services.database.database import DatabaseUrl
from services.web.settings import ServiceSettings

__all__ = ["AnalyticsSettings"]


class AnalyticsSettings(ServiceSettings):
    """The analytics service's settings."""

    prefix: ClassVar[str] = "ANALYTICS_"

    database_url: DatabaseUrl = "sqlite:///out/analytics.db"
    """``sqlite:///file`` or ``postgresql://user:password@host/name``."""
    ingest_key: SecretStr | None = None
    """Whoever posts events must send it as X-API-Key. Without one, whoever reaches the service may."""
    retention_days: int = Field(400, ge=1, le=36_500)
    """Older events are deleted."""
    max_events: int = Field(1000, ge=1, le=1000)
    """Of one request."""
    body_limit: int = Field(4 * 1024 * 1024, ge=1024)
