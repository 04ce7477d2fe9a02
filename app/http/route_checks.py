"""What is wrong with a table of routes that can be said before any request comes. Pure.

An unreachable route is an error: somebody wrote it for requests that another one takes. The other findings are
warnings, for each can be meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from app.config import RouteConfig
from app.config.routes import AnswerConfig
from app.http.own_paths import OwnPaths
from app.http.routes import ANY, Route, compile_routes

__all__ = ["Finding", "Shadowed", "findings", "unreachable_routes"]


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A route that can never be taken, and the earlier ones that take all of its requests."""

    route: Route
    by: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that may not be meant, in words for whoever wrote the file."""

    route: Route
    what: str


def unreachable_routes(routes: Sequence[RouteConfig]) -> list[Shadowed]:
    """Return the routes that are never taken: earlier ones take every request they match.

    Raises :exc:`~app.errors.ConfigError` as :class:`~app.http.routes.RouteTable` does.
    """
    compiled = compile_routes(routes)
    shadowed = []
    for route in compiled:
        left = _takes(route)
        by = []
        for earlier in compiled[: route.index]:
            if left & _takes(earlier) and _covers(earlier, route):
                left -= _takes(earlier)
                by.append(earlier)
        if not left:
            shadowed.append(Shadowed(route, tuple(by)))
    return shadowed


def findings(routes: Sequence[RouteConfig], own: OwnPaths | None = None) -> list[Finding]:
    """Return what is ambiguous or unsafe, in the file's order. ``own`` are the gateway's own paths."""
    compiled, own = compile_routes(routes), OwnPaths() if own is None else own
    return [
        Finding(route, what)
        for route in compiled
        for what in (*_doubts(route, compiled[: route.index]), *_doubts_about_own(route, compiled, own))
    ]


def _doubts(route: Route, earlier: Sequence[Route]) -> Iterator[str]:
    config = route.config
    for other in earlier:
        if not _takes(other) & _takes(route) or not _meet(other, route):
            continue
        if not _covers(other, route) and not _covers(route, other):
            yield (f"and {other.config.path} match some of the same requests, and the earlier one takes them. "
                   "If that is not meant, make one of the two narrower")  # fmt: skip
        elif _opens(other, route):
            yield (f"asks for a token, but {other.config.path}, which is earlier, takes some of its requests without "
                   "one")  # fmt: skip
    if config.auth == "none" and config.forward_authorization is None and config.upstream and route.open_end:
        yield "passes everything below it on without looking at a token. Set auth, or name the paths that are public"
    if config.auth != "none" and config.forward_authorization:
        yield "passes the caller's token on: the upstream can act as the caller everywhere until the token ends"


def _doubts_about_own(route: Route, routes: Sequence[Route], own: OwnPaths) -> Iterator[str]:
    """Whether the route has a path of the gateway's own, or looks as if it had one."""
    if not route.open_end and not route.names:
        if route.config.path in own:
            yield "takes the place of the gateway's own answer at this path"
        return
    if ANY in route.segments[:1] or not route.segments:
        return  # A route for all that is left.
    named = {other.config.path for other in routes}
    kept = [each for each in own.patterns if each not in named and _covers(route, _own_route(each))]
    if kept:
        yield (f"does not get {' and '.join(kept)}, where the gateway answers itself. If the upstream is to answer "
               "there, write a route with that very path")  # fmt: skip


@lru_cache(maxsize=256)
def _own_route(path: str) -> Route:
    return compile_routes([RouteConfig(path=path, answer=AnswerConfig())])[0]


def _takes(route: Route) -> set[str]:
    """Return the methods, and ``websocket`` (which is the name of none) where handshakes are passed on."""
    return {*route.methods, "websocket"} if route.config.websocket else set(route.methods)


def _opens(earlier: Route, later: Route) -> bool:
    wider = earlier.open_end and not _covers(later, earlier)
    return wider and earlier.config.auth != "required" and later.config.auth == "required"


def _covers(earlier: Route, later: Route) -> bool:
    """Whether every path that ``later`` matches is one that ``earlier`` matches, too."""
    if earlier.config.hosts and not set(later.config.hosts or ("",)) <= set(earlier.config.hosts):
        return False
    long, short = len(later.segments), len(earlier.segments)
    if earlier.open_end:
        if long < short or (long == short and not later.open_end):
            return False
    elif later.open_end or long != short:
        return False
    pairs = zip(earlier.segments, later.segments, strict=False)
    return all(mine == other or (mine == ANY and other != "") for mine, other in pairs)


def _meet(one: Route, other: Route) -> bool:
    """Whether some path is matched by both. Hosts with wildcards are taken to meet."""
    hosts, others = set(one.config.hosts), set(other.config.hosts)
    if hosts and others and not hosts & others and not any(name[0] == "*" for name in hosts | others):
        return False
    for mine, theirs in zip_longest(one.segments, other.segments):
        if mine is None:
            return one.open_end
        if theirs is None:
            return other.open_end
        if mine != theirs and (ANY not in (mine, theirs) or "" in (mine, theirs)):
            return False
    return one.open_end == other.open_end or len(one.segments) != len(other.segments)
