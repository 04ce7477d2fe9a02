"""Which requests the response cache serves, and under which names: routes and callers become keys."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Scope

from app.auth.identity import Identity
from app.config import RouteConfig
from app.errors import TidegateError
from app.http.cache.cache import Request, ResponseCache
from app.http.cache.keys import fingerprint, related, share_of, target_of
from app.http.cache.policy import Exposure
from app.http.edge.heads import host_name
from app.http.paths import normal_path
from app.http.routes import Match, RouteTable
from app.observe.outcomes import Outcome

__all__ = ["CachedRoutes"]

Fields = Sequence[tuple[bytes, bytes]]

_SERVED = frozenset({"GET", "HEAD"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class CachedRoutes:
    """The routes of ``table`` that have a cache, and ``cache``, which is closed by who made it."""

    def __init__(self, table: RouteTable, cache: ResponseCache) -> None:
        self.cache = cache
        self._table = table
        self._fingerprints = {
            route.index: (route, fingerprint(route.config)) for route in table.routes if route.config.cache is not None
        }

    def request(
        self,
        scope: Scope,
        match: Match,
        caller: Identity,
        forwarded: Fields,
        body: object,
        outcome: Outcome | None = None,
    ) -> Request | None:
        """Return the request as the cache sees it; None where the cache has nothing to do with it.

        ``forwarded`` are the fields that the upstream would get. What they say about the caller is in the key.
        ``outcome`` learns what came of it.
        """
        route = match.route.config
        if route.cache is None or scope["method"] not in _SERVED or body != b"":
            return None
        known, mark = self._fingerprints.get(match.route.index, (None, b""))
        if known is not match.route:
            return None  # A route of an earlier table: whatever it says is not stored among those of this one.
        share = share_of(caller, route.cache.per, _told(route, caller, forwarded))
        received: Fields = scope["headers"]
        names = {name for name, _ in received}
        key = b"%b %b %b" % (mark, scope["scheme"].encode("ascii"), share.text)
        return Request(
            route=match.route.label,
            rule=route.cache,
            target=_target(scope),
            key=key,
            head=scope["method"] == "HEAD",
            fields=received,
            forwarded=forwarded,
            exposure=Exposure(
                credentials=route.auth not in ("none", "optional") or not caller.anonymous or b"authorization" in names,
                cookie=b"cookie" in names,
                apart=share.apart,
            ),
            outcome=outcome,
        )

    async def answered(self, scope: Scope, status: int, headers: Fields) -> None:
        """Forget what an unsafe method has changed, before the client hears of it (RFC 9111 section 4.4)."""
        if scope["method"] in _SAFE or not 200 <= status < 400 or not self._fingerprints:
            return
        host = _host(scope)
        path = normal_path(scope["raw_path"])
        places = [(path, scope["query_string"]), *related(host, path, headers)]
        for path, query in dict.fromkeys(places):
            target = self._cached_target(host, path, query)
            if target is not None:
                await self.cache.invalidate(target)

    def _cached_target(self, host: bytes, path: str, query: bytes) -> str | None:
        """Return the name of a target whose answers could be stored."""
        try:
            path = normal_path(path.encode("ascii"))
            found = self._table.match("GET", path.encode("ascii"), host_name(host))
        except (TidegateError, UnicodeEncodeError):
            return None
        cached = isinstance(found, Match) and found.route.config.cache is not None
        return target_of(host, path, query) if cached else None


def _target(scope: Scope) -> str:
    return target_of(_host(scope), normal_path(scope["raw_path"]), scope["query_string"])


def _host(scope: Scope) -> bytes:
    return next((value for name, value in scope["headers"] if name == b"host"), b"")


def _told(route: RouteConfig, caller: Identity, forwarded: Fields) -> list[bytes]:
    """Return what the upstream learns of the caller beside the usual: claims, and the token where it is passed on."""
    told = []
    for name, path in route.claim_headers.items():
        told += [name.encode(), (caller.claim(path) or "").encode()]
    return told + [value for name, value in forwarded if name == b"authorization"]
