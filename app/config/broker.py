"""What can be set about the log that replicas share."""

from __future__ import annotations

from pydantic import Field, SecretStr

from app.config.section import Section

__all__ = ["BrokerConfig"]


class BrokerConfig(Section):
    """The log that replicas share. Without `redis_url` it is this process's memory."""

    redis_url: SecretStr | None = None
    """`redis://[user:password@]host:port/number`, `rediss://` for TLS, `unix://` for a socket."""
    key_prefix: str = "tg:"
    """What the name of every key in Redis begins with."""
    embedded: bool = False
    """Start a private Valkey on a socket in a temporary folder; several workers without a `redis_url` do so anyway."""
    connect_timeout: float = Field(2.0, gt=0)
    """How long connecting to Redis may take."""
    command_timeout: float = Field(5.0, gt=0)
    """How long an answer of Redis may take."""
