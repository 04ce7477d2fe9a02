"""Who asks, by what a request says: for limits of requests, and of generations however they are started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.auth.identity import Identity
from app.limits.shares import Caller
from app.observe.request_context import context_of

__all__ = ["counted_caller"]


def counted_caller(scope: Mapping[str, Any], identity: Identity) -> Caller:
    """Return by what the caller of a request is counted; ``scope`` is ASGI's, of type ``http`` or ``websocket``."""
    key = next((value for name, value in scope["headers"] if name == b"x-api-key"), None)
    return Caller(identity, context_of(scope).client, key)
