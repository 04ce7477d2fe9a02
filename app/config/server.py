"""What can be set about the listening server."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from app.config.edge import CompressionConfig, CorsConfig, RequestsConfig, SecurityHeadersConfig
from app.config.observability import AccessLogConfig
from app.config.section import LOWER_CASE, Section, networks

__all__ = ["HealthPagesConfig", "ServerConfig", "StormConfig"]

_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class StormConfig(Section):
    """How many handshakes of sockets a process takes. Who comes beyond is told to come back, by 503 and a time of his
    own, before anything is verified."""

    accept_rate: float = Field(5000.0, ge=0)
    """Handshakes a second that one process takes; 0 for any number."""
    accept_burst: int = Field(10_000, ge=1)
    """So many may come at once when it was quiet before."""
    at_once: int = Field(5000, ge=1)
    """Handshakes that may be at work at once: they wait for Redis, where tickets and limits are."""
    per_ip_rate: float = Field(0.0, ge=0)
    """Handshakes a second from one address (IPv6: from one /64); 0 for any number."""
    per_ip_burst: int = Field(100, ge=1)
    """So many may come from it at once."""
    retry_after: int = Field(10, ge=1, le=300)
    """Who is refused is told to come back after 1 to so many seconds."""


class HealthPagesConfig(Section):
    """What `/health` says, for those who know it from another program, and where else it is."""

    service: str = "tidegate"
    """The name that it gives."""
    version: str = ""
    """The version that it gives; empty for the gateway's own."""
    fields: tuple[Literal["status", "service", "version", "timestamp", "services"], ...] = (
        "status",
        "service",
        "version",
        "timestamp",
    )
    """What it says, in this order. For `services` all upstreams are asked, once a second at most; with one of them
    unhealthy the `status` is `degraded`."""
    ready_names_upstreams: bool = False
    """Whether `/health/ready` asks the upstreams, too, once a second at most, and names those that are not well within
    half a second as `unavailable`. It is 200 all the same: without one upstream the others are still served."""
    paths: tuple[str, ...] = ()
    """Further places of the pages: below `/healthz` there are `/healthz/live`, `/healthz/ready` and
    `/healthz/detailed`, too."""
    auth: Literal["none", "optional"] = "none"
    """`optional`: a token that is shown at `paths` must be valid (401)."""
    limits: tuple[str, ...] = ()
    """Names of tables under `[limits]` whose header fields answers at `paths` have, as those of routes do: how whoever
    asks stands. These pages themselves are not counted, and never 429."""

    @field_validator("paths")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            if not _PATH.fullmatch(path):
                raise ValueError(f"holds {path[:128]!r}. Write a path without a slash at its end, such as /healthz")
        return value


class ServerConfig(Section):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for all of the machine's."""
    port: int = Field(8080, ge=0, le=65535)
    """The port to listen on; 0 lets the system choose."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that share the port, and the Redis of `broker`; where there is none they start an embedded Valkey."""
    environment: Annotated[Literal["development", "test", "testing", "staging", "production"], LOWER_CASE] = (
        "development"
    )
    """In production, and in staging, known or short secrets and `realtime.insecure` are refused."""
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], LOWER_CASE] = "info"
    """What is logged: this and what is worse."""
    log_format: Literal["console", "json"] = "console"
    """Lines for people, or one JSON object a line."""
    allowed_origins: tuple[str, ...] = ()
    """Exact origins (`https://app.example.com`) from which browsers may connect; `*` allows all. The gateway's own
    origin is always allowed."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`, `::1`) of the proxies in front of the gateway. Only what they say of a client's address
    is believed."""
    forwarded_header: Annotated[Literal["x-forwarded-for", "forwarded"], LOWER_CASE] = "x-forwarded-for"
    """The header in which they say it. The other one may be the client's own invention and is not looked at."""
    trusted_hosts: tuple[Annotated[str, LOWER_CASE], ...] = ()
    """Names by which the gateway may be asked, without port: `api.example.com`, or `*.example.com` for any name below.
    Others get 421, but for the health probes. Empty for any name."""
    body_limit: int = Field(10 * 1024 * 1024, ge=1)
    """Largest body of a request."""
    trace_share: float = Field(1.0, ge=0, le=1)
    """Of the traces that begin at the gateway, because the client sent no valid `traceparent`, so many are marked to be
    recorded; clients decide about theirs."""
    drain_delay: float = Field(0.0, ge=0, le=300)
    """After SIGTERM readiness says 503, and requests are still taken for so long, until load balancers have noticed."""
    drain_window: float = Field(5.0, ge=0, le=300)
    """Over this time, after that, sockets are sent away, each at its own moment."""
    drain_grace: float = Field(10.0, ge=0, le=600)
    """How long after SIGTERM running generations may finish; what runs on is ended as `interrupted`."""
    pid_file: str | None = None
    """Where the gateway writes its process id, for `tidegate drain`."""
    stop_timeout: float = Field(30.0, gt=0, le=600)
    """How long requests in flight may take to finish once the port is closed."""
    access_log: AccessLogConfig = AccessLogConfig()
    requests: RequestsConfig = RequestsConfig()
    storm: StormConfig = StormConfig()
    cors: CorsConfig = CorsConfig()
    security_headers: SecurityHeadersConfig = SecurityHeadersConfig()
    compression: CompressionConfig = CompressionConfig()
    health: HealthPagesConfig = HealthPagesConfig()
    playground: bool = True
    """Whether the page to try the gateway is served, at `/playground/`."""

    @property
    def guarded(self) -> bool:
        """Whether what is for development only is refused."""
        return self.environment in ("staging", "production")

    @field_validator("trusted_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host[:128]!r} is no host name. Write api.example.com or *.example.com")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)
