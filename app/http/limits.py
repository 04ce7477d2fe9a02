"""Limits of routes: who shares a count, and what callers are told of it.

The counts themselves are :class:`~app.streams.windows.Windows`. Every answer of a limited route says how much is left,
by the fields of the IETF's draft (draft-ietf-httpapi-ratelimit-headers: ``RateLimit-Policy``, ``RateLimit``) and, for
the tightest limit, by those that older clients know (``X-RateLimit-*``; here the reset is in seconds from now).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from starlette.types import Message, Scope, Send

from app.auth.identity import Identity
from app.auth.peer import Peers, address_group
from app.config import RateLimitConfig
from app.errors import BrokerUnavailable, RateLimited, TidegateError
from app.http.routes import Route
from app.streams.windows import Ask, Count, Windows

__all__ = ["Caller", "Limits", "Verdict", "telling"]

_NOBODY = "-"
_HEADS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. ``address`` is the client's, ``api_key`` what it sent as ``X-API-Key``, verified or not."""

    identity: Identity
    address: str | None
    api_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """``headers`` go with whatever is answered; ``refusal`` is the answer where the request is not admitted."""

    headers: tuple[tuple[bytes, bytes], ...] = ()
    refusal: TidegateError | None = None


_FREE = Verdict()


class Limits:
    """The limits of one configuration, by name."""

    def __init__(self, limits: Mapping[str, RateLimitConfig], windows: Windows, peers: Peers | None = None) -> None:
        """``peers`` tells clients' addresses from proxies'."""
        self._limits = limits
        self._windows = windows
        self._peers = Peers() if peers is None else peers

    async def admit_request(self, scope: Scope, route: Route, identity: Identity) -> Verdict:
        """Count a request (scope type ``http`` or ``websocket``) against all limits that its route names."""
        client = scope.get("client")
        address = self._peers.address(client[0] if client else None, scope["headers"])
        key = next((value for name, value in scope["headers"] if name == b"x-api-key"), None)
        return await self.admit(route.config.limits, route.label, Caller(identity, address, key))

    async def admit(self, names: Sequence[str], route: str, caller: Caller) -> Verdict:
        """Count a request of ``caller`` on ``route`` against the limits ``names``, all of them or none."""
        limits = [(name, self._limits[name]) for name in names]
        asks = [Ask(f"{name}:{_share(limit, route, caller)}", limit.requests, limit.window) for name, limit in limits]
        try:
            counts = await self._windows.take(asks)
        except BrokerUnavailable as error:
            if all(limit.without_redis == "open" for _, limit in limits):
                return _FREE
            return Verdict(refusal=error)
        told = tuple((name, ask, count) for (name, _), ask, count in zip(limits, asks, counts, strict=True))
        violated = [name for name, _, count in told if count.wait > 0]
        if not violated:
            return Verdict(_headers(told))
        wait = max(count.wait for count in counts)
        return Verdict(_headers(told), RateLimited(retry_after=wait, violated=violated))


def _share(limit: RateLimitConfig, route: str, caller: Caller) -> str:
    """Return who shares the count. What clients chose is hashed: no key of theirs lies in Redis."""
    identity = caller.identity
    user = None if identity.user_id is None else f"u:{identity.user_id}"
    match limit.by:
        case "all":
            return "all"
        case "route":
            return f"r:{route}"
        case "company" if identity.company_id is not None:
            return f"c:{identity.company_id}"
        case "api_key" if caller.api_key:
            return f"k:{sha256(caller.api_key).hexdigest()}"
        case "user" | "caller" if user is not None:
            return user
    return f"a:{address_group(caller.address or _NOBODY)}"


def _headers(told: Sequence[tuple[str, Ask, Count]]) -> tuple[tuple[bytes, bytes], ...]:
    policies = ",".join(f'"{name}";q={ask.limit};w={math.ceil(ask.window)}' for name, ask, _ in told)
    states = ",".join(f'"{name}";r={count.remaining};t={_seconds(count)}' for name, _, count in told)
    _, ask, count = min(told, key=lambda each: (each[2].remaining / each[1].limit, -each[2].reset))
    return (
        (b"ratelimit-policy", policies.encode("ascii")),
        (b"ratelimit", states.encode("ascii")),
        (b"x-ratelimit-limit", b"%d" % ask.limit),
        (b"x-ratelimit-remaining", b"%d" % count.remaining),
        (b"x-ratelimit-reset", b"%d" % _seconds(count)),
    )


def _seconds(count: Count) -> int:
    return math.ceil(count.wait or count.reset)


def telling(send: Send, verdict: Verdict) -> Send:
    """Return a ``send`` that adds what ``verdict`` says to the answer, whoever gives it."""

    async def tell(message: Message) -> None:
        if message["type"] in _HEADS:
            message["headers"] = [*message["headers"], *verdict.headers]
        await send(message)

    return tell
