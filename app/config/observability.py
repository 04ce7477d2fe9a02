"""What can be set about what is seen of a running gateway: lines of requests, figures, traces."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from app.config.section import Section, networks

__all__ = ["AccessLogConfig", "MetricsConfig", "TracingConfig"]

_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AccessLogConfig(Section):
    """One line for each request and each socket at its end, where `log_level` is `info` or `debug`."""

    share: float = Field(1.0, ge=0, le=1)
    """Of all requests and sockets so many get one: 0 for none, 0.1 for a tenth. Those that went wrong by no fault of
    the client's, and slow ones, always do."""
    slow: float = Field(5.0, gt=0)
    """A request is slow when its answer took so many seconds to begin."""


class MetricsConfig(Section):
    """What is measured, for Prometheus, at `/metrics`; with several workers of all of them together."""

    enabled: bool = True
    """Whether it can be read."""
    key: SecretStr | None = None
    """Who asks must send it, as `Authorization: Bearer …` or `X-API-Key`; then `networks` does not count."""
    networks: tuple[str, ...] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
    """Without a key only clients with addresses in these networks get an answer on the gateway's own port: by default
    this machine and private networks. A request that some proxy passed on counts as its client's, if the proxy is in
    `server.trusted_proxies`, and is refused if not. `0.0.0.0/0` and `::/0` are everybody."""
    host: str = "127.0.0.1"
    """The address of the other port."""
    port: int = Field(0, ge=0, le=65535)
    """Serve `/metrics` on this port instead of the gateway's own; 0 for no other port."""

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)


class TracingConfig(Section):
    """Spans for OpenTelemetry, of the traces that are marked to be recorded (`server.trace_share`). Needs the extra
    `tidegate[otel]`."""

    enabled: bool = False
    """Whether spans are made and sent."""
    endpoint: str = "http://127.0.0.1:4318/v1/traces"
    """Where a collector takes them, by OTLP over HTTP."""
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], SecretStr] = Field(default_factory=dict)
    """Sent with them, such as a collector's key."""
    service_name: str = "tidegate"
    """As whose spans they are shown."""
    queue: int = Field(4096, ge=64, le=1_000_000)
    """Spans that may wait to be sent; more are dropped."""
    flush_interval: float = Field(2.0, gt=0, le=60)
    """Seconds after which those that wait are sent."""

    @field_validator("service_name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _SERVICE.fullmatch(value):
            raise ValueError("write letters, digits, dots, dashes and underscores, at most 64")
        return value

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("write a URL such as http://collector:4318/v1/traces")
        return value
