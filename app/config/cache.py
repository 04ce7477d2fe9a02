"""What can be set about the response cache."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.config.section import Section

__all__ = ["CacheConfig", "RouteCacheConfig"]


class CacheConfig(Section):
    """The store of the response cache. Which routes use it, and how, is in `[routes.cache]`."""

    store: Literal["memory", "redis"] = "memory"
    """`memory` for each process by itself, `redis` for all replicas together in the Redis of `[broker]`."""
    size: int = Field(64 * 1024 * 1024, ge=0)
    """The most bytes in memory; what was used least recently goes. A Redis has its own `maxmemory`."""
    max_ttl: float = Field(86400.0, gt=0)
    """The longest that anything is kept, whatever its answer says."""


class RouteCacheConfig(Section):
    """The route's answers are stored and given again as RFC 9111 says. Its presence turns the cache on."""

    per: Literal["user", "company", "all"] = "user"
    """Who shares answers on a route that looks at tokens: nobody, the callers of one company, or all. Beyond one user,
    only answers with `public`, `s-maxage` or `must-revalidate` are stored."""
    default_ttl: float | None = Field(None, ge=0)
    """How long answers are fresh that do not say so themselves; none to store only those that do."""
    max_body: int = Field(1024 * 1024, ge=0)
    """Larger bodies are not stored."""
    stale_while_revalidate: float = Field(0.0, ge=0)
    """How long a stale answer is given while a new one is fetched, where the answer does not say."""
    stale_if_error: float = Field(0.0, ge=0)
    """How long a stale answer is given instead of a 500, 502, 503 or 504, where the answer does not say."""
    store_cookies: bool = False
    """Store answers with `Set-Cookie`, too, cookies and all."""
    clients_may_refresh: bool = True
    """Obey `no-cache`, `no-store`, `max-age` and `min-fresh` of a request, which make the gateway ask the upstream."""
