"""What can be set about the microservices behind the gateway."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator

from app.config.section import Section

__all__ = ["UpstreamConfig"]

_ADDRESS = re.compile(r"^https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^?#\s]*)?$")


class UpstreamConfig(Section):
    """A microservice: one or more addresses that serve the same."""

    targets: tuple[str, ...]
    """`http://host:port` or `https://host:port`, with a path prefix where it has one."""
    connect_timeout: float = Field(5.0, gt=0)
    """How long connecting may take."""
    response_timeout: float = Field(60.0, gt=0)
    """From the request's last byte to the answer's head."""
    idle_timeout: float = Field(60.0, gt=0)
    """Between two reads of the answer's body."""
    max_connections: int = Field(1000, ge=1)
    """Open connections to one target; past it a request is answered 503 at once."""
    keepalive: float = Field(30.0, ge=0)
    """How long an unused connection is kept."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Set on every request, for example `authorization`. Values are secret."""
    health_path: str | None = "/health"
    """What the readiness probe asks for; empty for none."""

    @field_validator("targets")
    @classmethod
    def _targets_are_urls(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets:
            raise ValueError('is empty. Name at least one address, for example ["http://127.0.0.1:8002"]')
        for target in targets:
            if "@" in target:
                raise ValueError("holds a password in an address. Put it under headers, as authorization")
            if not _ADDRESS.match(target):
                raise ValueError(f"holds {target!r}, which is not of the form http://host:port")
        return targets
