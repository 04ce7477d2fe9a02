"""What can be set about how often somebody may ask, how much at once, and how many tokens he may use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field, model_validator

from app.config.section import Section, WrongSetting

__all__ = ["RateLimitConfig", "Unit"]

_MEASURES = ("requests", "concurrent", "tokens", "images", "seconds")
Unit = Literal["tokens", "images", "seconds"]
_BUDGETS: tuple[Unit, ...] = ("tokens", "images", "seconds")
_SET_ASIDE: Mapping[Unit, int] = MappingProxyType({"tokens": 1024, "images": 1, "seconds": 60})


class RateLimitConfig(Section):
    """How much one caller may have: `[limits.burst]` is what routes and kinds of generations name as `burst`. A limit
    has one measure, `requests`, `concurrent`, `tokens`, `images` or `seconds`, and holds over all replicas."""

    requests: int | None = Field(None, ge=1, le=100_000)
    """Requests that are admitted in any stretch of `window` seconds."""
    concurrent: int | None = Field(None, ge=1, le=1_000_000)
    """Requests, passed-on sockets or generations that run at once. `realtime.limits.ttl` is how long those of a replica
    that was killed are still counted."""
    tokens: int | None = Field(None, ge=1, le=10**12)
    """Tokens of language models, of prompts and answers together, in any stretch of `window` seconds: set aside at the
    start, settled at the end by what was used."""
    images: int | None = Field(None, ge=1, le=10**9)
    """Results (`artifact`) of generations in any stretch of `window` seconds; set aside and settled like tokens. A
    request for several (`n`, `num_images`, `num_outputs`, `batch_size`) is let in for all of them, or not at all."""
    seconds: int | None = Field(None, ge=1, le=10**9)
    """Seconds that upstreams work for generations in any stretch of `window` seconds; set aside and settled like
    tokens."""
    window: float = Field(60.0, ge=0.1, le=31 * 86_400)
    """Seconds that the window is long; of `requests` at most a day."""
    by: Literal["caller", "user", "company", "ip", "api_key", "route", "all"] = "caller"
    """Who shares one count: each signed-in user, else each address (`caller`); each user, company, address (IPv6 by
    its /64) or `X-API-Key`, and all who have none together by their address; the route, or kind of generations; or
    `all` that name this limit."""
    answer: int | None = Field(None, ge=1, le=10**9)
    """Of budgets: what is set aside for the answer of a call that does not say how long it may become; none: 1024
    tokens, 1 image, 60 seconds."""
    warn_at: float = Field(0.8, gt=0, le=1)
    """Of budgets: the part of the budget from which on a generation's listeners are told, by a `budget` event."""
    without_redis: Literal["open", "closed"] = "open"
    """What happens when Redis cannot be asked within 50 ms: requests pass uncounted (of `concurrent`, counted by each
    replica alone), or are answered 503."""

    @property
    def budget(self) -> tuple[Unit, int] | None:
        """What is set aside at the start and settled at the end, and how much of it there is."""
        for unit in _BUDGETS:
            amount: int | None = getattr(self, unit)
            if amount is not None:
                return unit, amount
        return None

    @property
    def unit(self) -> Unit | None:
        return None if self.budget is None else self.budget[0]

    @property
    def set_aside(self) -> int:
        """What is set aside for an answer of unknown length."""
        return self.answer or _SET_ASIDE[self.unit or "tokens"]

    @model_validator(mode="after")
    def _one_measure(self) -> RateLimitConfig:
        given = [name for name in _MEASURES if getattr(self, name) is not None]
        if not given:
            raise WrongSetting(("requests",), f"is missing. A limit needs one of {', '.join(_MEASURES)}")
        if len(given) > 1:
            what = f"cannot stand beside {given[0]}. Make another table of it, and name both where they hold"
            raise WrongSetting((given[1],), what)
        if self.requests is not None and self.window > 86_400:
            raise WrongSetting(("window",), "is longer than a day, which requests are not counted for")
        return self
