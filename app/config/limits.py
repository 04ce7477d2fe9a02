"""What can be set about how often somebody may ask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.config.section import Section

__all__ = ["RateLimitConfig"]


class RateLimitConfig(Section):
    """How many requests one caller may make: `[limits.burst]` is what routes name as `burst`. Never is more than
    `requests` admitted in any stretch of `window` seconds, over all replicas."""

    requests: int = Field(ge=1, le=100_000)
    """Requests that are admitted within the window."""
    window: float = Field(60.0, ge=0.1, le=86_400)
    """Seconds that the window is long."""
    by: Literal["caller", "user", "company", "ip", "api_key", "route", "all"] = "caller"
    """Who shares one count: each signed-in user, else each address (`caller`); each user, company, address (IPv6 by
    its /64) or `X-API-Key`, and all who have none together by their address; the route; or `all` requests that name
    this limit."""
    without_redis: Literal["open", "closed"] = "open"
    """What happens when Redis cannot be asked within 50 ms: requests pass uncounted, or are answered 503."""
