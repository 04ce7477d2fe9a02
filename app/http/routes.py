"""The route table: which upstream a request goes to. Pure.

The first route of the file whose path and method both match is taken. If paths match but no method does, the answer is
405 with the methods of all of them; if no path matches, the request is not for the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.config import RouteConfig
from app.errors import BadRequest, ConfigError
from app.http.paths import normal_path

__all__ = ["Match", "MethodMismatch", "Route", "RouteTable", "Shadowed", "unreachable_routes"]

_NAME = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_ANY = "{}"


@dataclass(frozen=True, slots=True)
class Route:
    """One compiled route. ``index`` is its place in the file, from 0; ``methods`` are in upper case."""

    index: int
    config: RouteConfig
    methods: tuple[str, ...]
    segments: tuple[str, ...]
    """Of the path, without the ``*``; ``{}`` stands for any one segment that is not empty."""
    open_end: bool
    """The path ended in ``/*``: whatever follows the segments and a slash matches."""


class Match(NamedTuple):
    """The route of a request and the path to forward (normal form, prefix stripped, no query)."""

    route: Route
    path: str


@dataclass(frozen=True, slots=True)
class MethodMismatch:
    """The path is routed, but not for this method. ``allow`` are the methods that are, each once."""

    allow: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A route that can never be taken, and the earlier ones that take all of its requests."""

    route: RouteConfig
    by: tuple[RouteConfig, ...]


class RouteTable:
    """Compiled routes. Exact paths are looked up; the others are tried in the file's order."""

    def __init__(self, routes: Sequence[RouteConfig]) -> None:
        """Raises :exc:`~app.errors.ConfigError` for a path that no request can have, or a prefix that is not its."""
        self._exact: dict[str, list[Route]] = {}
        self._patterns: list[tuple[Route, re.Pattern[str]]] = []
        for route in _compile(routes):
            if route.open_end or _ANY in route.segments:
                self._patterns.append((route, _pattern(route)))
            else:
                self._exact.setdefault("/" + "/".join(route.segments), []).append(route)

    def match(self, method: str, raw_path: bytes) -> Match | MethodMismatch | None:
        """Return where a request goes. ``raw_path`` is percent-encoded and has no query.

        None says that the path is in no route. Raises :exc:`~app.errors.BadRequest` for a path that cannot be read in
        one way only.
        """
        path = normal_path(raw_path)
        found: Route | None = None
        others: list[Route] = []
        for route in self._exact.get(path, ()):
            if method in route.methods:
                found = route
                break
            others.append(route)
        for route, pattern in self._patterns:
            if found is not None and found.index < route.index:
                break
            if pattern.fullmatch(path):
                if method in route.methods:
                    found = route
                    break
                others.append(route)
        if found is not None:
            return Match(found, _strip(path, found.config.strip_prefix))
        if others:
            return MethodMismatch(tuple(dict.fromkeys(m for route in others for m in route.methods)))
        return None


def unreachable_routes(routes: Sequence[RouteConfig]) -> list[Shadowed]:
    """Return the routes that are never taken: earlier ones take every request they match.

    Raises :exc:`~app.errors.ConfigError` as :class:`RouteTable` does.
    """
    compiled = _compile(routes)
    shadowed = []
    for route in compiled:
        left = set(route.methods)
        by = []
        for earlier in compiled[: route.index]:
            if left & set(earlier.methods) and _covers(earlier, route):
                left -= set(earlier.methods)
                by.append(earlier.config)
        if not left:
            shadowed.append(Shadowed(route.config, tuple(by)))
    return shadowed


def _compile(routes: Iterable[RouteConfig]) -> list[Route]:
    compiled = []
    for index, config in enumerate(routes):
        open_end = config.path.endswith("/*")
        path = config.path[:-2] if open_end else config.path
        _check(config, path)
        segments = tuple(_ANY if _NAME.fullmatch(part) else part for part in path.split("/")[1:])
        methods = tuple(dict.fromkeys(method.upper() for method in config.methods))
        compiled.append(Route(index, config, methods, segments, open_end))
    return compiled


def _check(config: RouteConfig, path: str) -> None:
    """A path that is not in the normal form would never be matched: say so at start-up."""
    sample = "/".join("x" if _NAME.fullmatch(part) else part for part in path.split("/"))
    try:
        normal = normal_path(sample.encode("ascii")) if path else ""
    except (ValueError, BadRequest) as error:
        raise ConfigError(f"the route {config.path}: {error}") from None
    if normal != sample:
        raise ConfigError(f"the route {config.path}: no request has this path; write it as {normal or '/'}")
    prefix = config.strip_prefix
    if not prefix:
        return
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise ConfigError(f"the route {config.path}: strip_prefix must start with / and not end with one")
    if path != prefix and not path.startswith(prefix + "/"):
        raise ConfigError(f"the route {config.path}: strip_prefix {prefix} is not the beginning of its path")


def _pattern(route: Route) -> re.Pattern[str]:
    parts = "".join("/[^/]+" if part == _ANY else "/" + re.escape(part) for part in route.segments)
    return re.compile(parts + "/.*" if route.open_end else parts)


def _strip(path: str, prefix: str) -> str:
    return (path[len(prefix) :] or "/") if prefix else path


def _covers(earlier: Route, later: Route) -> bool:
    """Whether every path that ``later`` matches is one that ``earlier`` matches, too."""
    long, short = len(later.segments), len(earlier.segments)
    if earlier.open_end:
        if long < short or (long == short and not later.open_end):
            return False
    elif later.open_end or long != short:
        return False
    pairs = zip(earlier.segments, later.segments, strict=False)
    return all(mine == other or (mine == _ANY and other != "") for mine, other in pairs)
