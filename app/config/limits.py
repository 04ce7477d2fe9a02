"""What can be set about how often somebody may ask, how much at once, and how many tokens he may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from app.config.section import Section, WrongSetting

__all__ = ["RateLimitConfig"]

_MEASURES = ("requests", "concurrent", "tokens")


class RateLimitConfig(Section):
    """How much one caller may have: `[limits.burst]` is what routes and kinds of generations name as `burst`. A limit
    has one measure, `requests`, `concurrent` or `tokens`, and holds over all replicas."""

    requests: int | None = Field(None, ge=1, le=100_000)
    """Requests that are admitted in any stretch of `window` seconds."""
    concurrent: int | None = Field(None, ge=1, le=1_000_000)
    """Requests, passed-on sockets or generations that run at once. `realtime.limits.ttl` is how long those of a replica
    that was killed are still counted."""
    tokens: int | None = Field(None, ge=1, le=10**12)
    """Tokens of language models, of prompts and answers together, in any stretch of `window` seconds: set aside at the
    start, settled at the end by what was used."""
    window: float = Field(60.0, ge=0.1, le=31 * 86_400)
    """Seconds that the window is long; of `requests` at most a day."""
    by: Literal["caller", "user", "company", "ip", "api_key", "route", "all"] = "caller"
    """Who shares one count: each signed-in user, else each address (`caller`); each user, company, address (IPv6 by
    its /64) or `X-API-Key`, and all who have none together by their address; the route, or kind of generations; or
    `all` that name this limit."""
    answer: int = Field(1024, ge=1, le=10**9)
    """Of `tokens`: what is set aside for the answer of a call that does not say how long it may become."""
    warn_at: float = Field(0.8, gt=0, le=1)
    """Of `tokens`: the part of the budget from which on a generation's listeners are told, by a `budget` event."""
    without_redis: Literal["open", "closed"] = "open"
    """What happens when Redis cannot be asked within 50 ms: requests pass uncounted (of `concurrent`, counted by each
    replica alone), or are answered 503."""

    @model_validator(mode="after")
    def _one_measure(self) -> RateLimitConfig:
        given = [name for name in _MEASURES if getattr(self, name) is not None]
        if not given:
            raise WrongSetting(("requests",), "is missing. A limit needs one of requests, concurrent and tokens")
        if len(given) > 1:
            what = f"cannot stand beside {given[0]}. Make another table of it, and name both where they hold"
            raise WrongSetting((given[1],), what)
        if self.requests is not None and self.window > 86_400:
            raise WrongSetting(("window",), "is longer than a day, which requests are not counted for")
        return self
