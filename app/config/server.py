"""What can be set about the listening server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.config.section import LOWER_CASE, Section

__all__ = ["ServerConfig"]


class ServerConfig(Section):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for all of the machine's."""
    port: int = Field(8080, ge=0, le=65535)
    """The port to listen on; 0 lets the system choose."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that share the port, and the Redis of `broker`; where there is none they start an embedded Valkey."""
    environment: Literal["development", "production"] = "development"
    """In production the development secret, a short secret and `realtime.insecure` are refused."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LOWER_CASE] = "info"
    """What is logged: this and what is worse."""
    log_format: Literal["console", "json"] = "console"
    """Lines for people, or one JSON object a line."""
    allowed_origins: tuple[str, ...] = ()
    """Exact origins (`https://app.example.com`) from which browsers may connect; `*` allows all. The gateway's own
    origin is always allowed."""
    body_limit: int = Field(10 * 1024 * 1024, ge=1)
    """Largest body of a request."""
    drain_delay: float = Field(0.0, ge=0, le=300)
    """After SIGTERM readiness says 503, and requests are still taken for so long, until load balancers have noticed."""
    drain_window: float = Field(5.0, ge=0, le=300)
    """Over this time, after that, sockets are sent away, each at its own moment."""
    drain_grace: float = Field(10.0, ge=0, le=600)
    """How long after SIGTERM running generations may finish; what runs on is ended as `interrupted`."""
    stop_timeout: float = Field(30.0, gt=0, le=600)
    """How long requests in flight may take to finish once the port is closed."""
    playground: bool = True
    """Whether the page to try the gateway is served, at `/playground/`."""
