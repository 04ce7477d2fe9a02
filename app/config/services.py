"""What can be set about the services behind the gateway: generations, upstreams, routes."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from app.config.section import UPPER_CASE, Section

__all__ = ["GenerationConfig", "GenerationsConfig", "RouteConfig", "UpstreamConfig"]

_ADDRESS = re.compile(r"^https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^?#\s]*)?$")
_ON_LAST_DISCONNECT = re.compile(r"^(continue|cancel|cancel_after:\d{1,5}(\.\d+)?)$")


class GenerationConfig(Section):
    """How one kind of generation (`[generations.kinds.chat]`) reaches its upstream."""

    upstream: str
    """The name of a table under `[upstreams]`."""
    path: str = "/v1/chat/completions"
    """Where the upstream takes the request."""
    format: Literal["openai-chat"] = "openai-chat"
    """What the upstream speaks."""
    model: str | None = None
    """The model asked for when the client names none."""
    first_event_timeout: float = Field(60.0, gt=0)
    """How long the upstream may take until its first event."""
    idle_timeout: float = Field(60.0, gt=0)
    """How long the upstream may be silent between two events."""
    total_timeout: float = Field(600.0, gt=0)
    """How long the whole generation may take."""


class GenerationsConfig(Section):
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
    on_last_disconnect: str = "continue"
    """When nobody listens any more and the client did not say: `continue`, `cancel`, `cancel_after:<seconds>`."""
    kinds: dict[str, GenerationConfig] = Field(default_factory=dict)
    """What clients may ask for: `[generations.kinds.chat]` serves `"kind": "chat"`."""

    @field_validator("on_last_disconnect")
    @classmethod
    def _a_policy(cls, policy: str) -> str:
        if not _ON_LAST_DISCONNECT.match(policy):
            raise ValueError("must be continue, cancel, or cancel_after:<seconds>, for example cancel_after:30")
        return policy


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


class RouteConfig(Section):
    """Requests that are passed on to an upstream. The first route of the file that matches is taken."""

    path: str
    """An exact path, or a prefix that ends in `/*`; `{name}` stands for one segment."""
    methods: tuple[Annotated[str, UPPER_CASE], ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    """The methods that are passed on; others are answered 405."""
    upstream: str
    """The name of a table under `[upstreams]`."""
    strip_prefix: str = ""
    """What is taken off the front of the path before it is passed on."""
    auth: Literal["none", "optional", "required"] = "required"
    """Whether a token is not looked at, verified where there is one, or demanded."""
    body_limit: int | None = Field(None, ge=1)
    """Overrides `server.body_limit`."""

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, path: str) -> str:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise ValueError("must start with / and may hold * only as a last segment, for example /v1/*")
        return path
