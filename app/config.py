"""The configuration: one TOML file, the environment on top.

``${NAME}`` and ``${NAME:-default}`` inside the file's strings come from the environment; every scalar can also be set
as ``GATEWAY_<SECTION>__<KEY>``, which wins over the file. What is not known is an error: a misspelt key would otherwise
be a default in production. Durations are seconds, sizes are bytes. ``docs/configuration.md`` lists every key; a test
compares the two.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from app.errors import ConfigError

__all__ = [
    "DEVELOPMENT_SECRET",
    "AuthConfig",
    "BrokerConfig",
    "ChannelConfig",
    "Config",
    "GenerationConfig",
    "GenerationsConfig",
    "RealtimeConfig",
    "RouteConfig",
    "ServerConfig",
    "UpstreamConfig",
    "load_config",
]

DEVELOPMENT_SECRET = "tidegate-development-secret-not-for-production"
_PREFIX = "GATEWAY_"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerConfig(_Section):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    environment: Literal["development", "production"] = "development"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    allowed_origins: tuple[str, ...] = ()
    """Exact origins (``https://app.example.com``) from which browsers may connect; ``*`` allows all. The gateway's own
    origin is always allowed."""
    body_limit: int = Field(10 * 1024 * 1024, ge=1)
    playground: bool = True


class AuthConfig(_Section):
    """How tokens are verified. One of ``secret`` and ``public_key`` goes with the algorithms."""

    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    public_key: str | None = None
    """PEM text, or the path of a PEM file, for RS256 and ES256."""
    algorithms: tuple[Literal["HS256", "RS256", "ES256"], ...] = ("HS256",)
    audience: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    required_claims: tuple[str, ...] = ("exp", "sub")
    leeway: float = Field(0.0, ge=0, le=300)
    cache_size: int = Field(10_000, ge=0)
    user_claim: str = "sub"
    """Claim paths: dots descend into objects."""
    company_claim: str = "company_id"
    email_claim: str = "email"
    roles_claim: str = "roles"
    ticket_ttl: float = Field(30.0, gt=0, le=300)


class ChannelConfig(_Section):
    """What a channel keeps and who may use it."""

    history_size: int = Field(0, ge=0)
    history_ttl: float = Field(0.0, ge=0)
    allow_subscribe: bool = False
    """Whether any authenticated client may subscribe."""


class RealtimeConfig(_Section):
    """Sockets and channels."""

    insecure: bool = False
    """Development only: sockets without a token are let in as anonymous."""
    query_token: bool = False
    """Whether ``?token=`` is accepted. It ends up in logs of proxies: prefer a ticket."""
    max_message: int = Field(64 * 1024, ge=1024)
    """Largest frame that a client may send."""
    send_queue: int = Field(1024 * 1024, ge=16 * 1024)
    """Bytes that may wait for a slow socket before it is closed with ``slow_consumer``."""
    auth_timeout: float = Field(10.0, gt=0)
    ping_interval: float = Field(25.0, gt=0)
    pong_timeout: float = Field(20.0, gt=0)
    expiry_warning: float = Field(60.0, ge=0)
    """How long before a token's expiry its socket is warned."""
    max_subscriptions: int = Field(512, ge=1)
    max_pending_commands: int = Field(64, ge=1)
    channel: ChannelConfig = ChannelConfig()
    """For channels whose name has no namespace."""
    namespaces: dict[str, ChannelConfig] = {}


class BrokerConfig(_Section):
    """The log that replicas share. Without ``redis_url`` it is this process's memory."""

    redis_url: SecretStr | None = None
    key_prefix: str = "tg:"
    embedded: bool = False
    """Start a private Valkey on a socket in a temporary folder; several workers without a ``redis_url`` need it."""
    connect_timeout: float = Field(2.0, gt=0)
    command_timeout: float = Field(5.0, gt=0)


class GenerationConfig(_Section):
    """How one kind of generation (``[generations.kinds.chat]``) reaches its upstream."""

    upstream: str
    path: str = "/v1/chat/completions"
    format: Literal["openai-chat"] = "openai-chat"
    model: str | None = None
    """The model asked for when the client names none."""
    first_event_timeout: float = Field(60.0, gt=0)
    idle_timeout: float = Field(60.0, gt=0)
    total_timeout: float = Field(600.0, gt=0)


class GenerationsConfig(_Section):
    """Generations: their leases, limits, and how long they are kept."""

    lease: float = Field(5.0, gt=0.2)
    """A replica that did not renew for so long has lost its streams."""
    retention: float = Field(900.0, gt=0)
    """How long a finished generation can be read."""
    max_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Largest log of one generation."""
    max_running: int = Field(10_000, ge=1)
    """Generations that run on one replica at once."""
    max_running_per_user: int = Field(64, ge=1)
    """Of one user's, on one replica."""
    on_last_disconnect: str = Field("continue", pattern=r"^(continue|cancel|cancel_after:\d{1,5}(\.\d+)?)$")
    kinds: dict[str, GenerationConfig] = {}


class UpstreamConfig(_Section):
    """A microservice: one or more addresses that serve the same."""

    targets: tuple[str, ...]
    """``http://host:port`` or ``https://host:port``, with a path prefix where it has one."""
    connect_timeout: float = Field(5.0, gt=0)
    response_timeout: float = Field(60.0, gt=0)
    """From the request's last byte to the answer's head."""
    idle_timeout: float = Field(60.0, gt=0)
    """Between two reads of the answer's body."""
    max_connections: int = Field(1000, ge=1)
    """Open connections to one target; past it a request is answered 503 at once."""
    keepalive: float = Field(30.0, ge=0)
    """How long an unused connection is kept."""
    headers: dict[str, SecretStr] = {}
    """Set on every request, for example ``authorization``. Values are secret."""
    health_path: str | None = "/health"
    """What the readiness probe asks for; empty for none."""

    @field_validator("targets")
    @classmethod
    def _targets_are_urls(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets:
            raise ValueError("name at least one address")
        for target in targets:
            if not re.match(r"^https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^?#\s]*)?$", target):
                raise ValueError(f"{target!r} is not of the form http://host:port")
        return targets


class RouteConfig(_Section):
    """Requests that are passed on to an upstream. The first route of the file that matches is taken."""

    path: str
    """An exact path, or a prefix that ends in ``/*``; ``{name}`` stands for one segment."""
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    upstream: str
    strip_prefix: str = ""
    auth: Literal["none", "optional", "required"] = "required"
    body_limit: int | None = Field(None, ge=1)
    """Overrides ``server.body_limit``."""

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, path: str) -> str:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise ValueError(f"{path!r} must start with / and may hold * only as a last segment")
        return path


class Config(_Section):
    """All of it."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    realtime: RealtimeConfig = RealtimeConfig()
    broker: BrokerConfig = BrokerConfig()
    generations: GenerationsConfig = GenerationsConfig()
    upstreams: dict[str, UpstreamConfig] = {}
    routes: tuple[RouteConfig, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for kind, generation in self.generations.kinds.items():
            if generation.upstream not in self.upstreams:
                raise ValueError(f"generations.kinds.{kind}.upstream names {generation.upstream!r}, "
                                 f"which is not under [upstreams]")  # fmt: skip
        for route in self.routes:
            if route.upstream not in self.upstreams:
                raise ValueError(f"the route {route.path} names {route.upstream!r}, which is not under [upstreams]")
        return self
