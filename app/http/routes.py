"""The route table: which upstream a request goes to. Pure.

The first route of the file whose host, path and method all match is taken. If host and path match but no method does,
the answer is 405 with the methods of all of them; if no path matches, the request is not for the proxy.

Paths are kept in a tree of segments, so that a request costs the same with ten routes and with a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from app.config import RouteConfig
from app.errors import BadRequest, ConfigError
from app.http.header_edits import RouteHeaders
from app.http.own_paths import OwnPaths
from app.http.paths import normal_path

__all__ = ["ANY", "Match", "MethodMismatch", "Route", "RouteTable", "compile_routes"]

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KNOWN = 2048
"""Requests whose match is remembered, the latest."""
_LONGEST_KNOWN = 256
"""Bytes: longer paths are looked up each time."""
ANY = "{}"
"""Stands for any one segment that is not empty."""


@dataclass(frozen=True, slots=True)
class Route:
    """One compiled route. ``index`` is its place in the file, from 0; ``methods`` are in upper case."""

    index: int
    config: RouteConfig
    methods: tuple[str, ...]
    segments: tuple[str, ...]
    """Of the path, without the ``*``; :data:`ANY` in the place of a name."""
    open_end: bool
    """The path ended in ``/*``: whatever follows the segments and a slash matches."""
    names: tuple[tuple[str, int], ...]
    """Names in the path, each with the segment it stands for."""
    headers: RouteHeaders

    @property
    def label(self) -> str:
        return self.config.label or self.config.path


class Match(NamedTuple):
    """The route of a request and the path to forward (normal form, rewritten, no query)."""

    route: Route
    path: str


@dataclass(frozen=True, slots=True)
class MethodMismatch:
    """The path is routed, but not for this method. ``allow`` are the methods that are, each once."""

    allow: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    """A place in the tree. ``ends`` match here, ``open_ends`` whatever comes below; both in the file's order."""

    below: dict[str, _Node] = field(default_factory=dict)
    ends: list[Route] = field(default_factory=list)
    open_ends: list[Route] = field(default_factory=list)


class RouteTable:
    """Compiled routes."""

    def __init__(self, routes: Sequence[RouteConfig], own: OwnPaths | None = None) -> None:
        """``own`` are paths that only a route which names them takes from the gateway.

        Raises :exc:`~app.errors.ConfigError` for what can never be right.
        """
        self.routes = compile_routes(routes)
        self.by_host = any(route.config.hosts for route in self.routes)
        """Whether :meth:`match` looks at the host at all."""
        self.own = OwnPaths() if own is None else own
        """The gateway's."""
        self._known = lru_cache(maxsize=_KNOWN)(self._match)
        self._root = _Node()
        for route in self.routes:
            node = self._root
            for segment in route.segments:
                node = node.below.setdefault(segment, _Node())
            (node.open_ends if route.open_end else node.ends).append(route)

    def match_socket(self, raw_path: bytes, host: str = "") -> Match | None:
        """Return where a WebSocket handshake goes: only routes that say ``websocket`` count. Raises as :meth:`match`.

        None says that no such route has the path.
        """
        path, segments, candidates = self._for(raw_path, host)
        route = next((route for route in candidates if route.config.websocket), None)
        return None if route is None else Match(route, _forwarded(route, path, segments))

    def match(self, method: str, raw_path: bytes, host: str = "") -> Match | MethodMismatch | None:
        """Return where a request goes. ``raw_path`` is percent-encoded and has no query, ``host`` is in lower case.

        None says that the path is in no route. Raises :exc:`~app.errors.BadRequest` for a path that cannot be read in
        one way only.
        """
        return (self._known if len(raw_path) <= _LONGEST_KNOWN else self._match)(method, raw_path, host)

    def _match(self, method: str, raw_path: bytes, host: str) -> Match | MethodMismatch | None:
        path, segments, candidates = self._for(raw_path, host)
        others: list[Route] = []
        for route in candidates:
            if method in route.methods:
                return Match(route, _forwarded(route, path, segments))
            others.append(route)
        if others:
            return MethodMismatch(tuple(dict.fromkeys(m for route in others for m in route.methods)))
        return None

    def _for(self, raw_path: bytes, host: str) -> tuple[str, list[str], list[Route]]:
        """Return the path's normal form, its segments, and the routes that have it, in the file's order."""
        path = normal_path(raw_path)
        segments = path.split("/")[1:]
        found = _candidates(self._root, segments)
        if len(found) > 1:
            found.sort(key=_index)
        own = path in self.own
        if own or self.by_host:
            found = [
                route
                for route in found
                if not (route.config.hosts and not _is_for(route.config.hosts, host))
                and not (own and (route.open_end or route.names))
            ]
        return path, segments, found


def compile_routes(routes: Iterable[RouteConfig]) -> list[Route]:
    """Return the routes in the file's order. Raises :exc:`~app.errors.ConfigError` as :class:`RouteTable` does."""
    compiled = []
    for index, config in enumerate(routes):
        open_end = config.path.endswith("/*")
        path = config.path[:-2] if open_end else config.path
        _check(config, path)
        parts = path.split("/")[1:]
        names = tuple((name[1], place) for place, part in enumerate(parts) if (name := _NAME.fullmatch(part)))
        segments = tuple(ANY if _NAME.fullmatch(part) else part for part in parts)
        methods = tuple(dict.fromkeys(method.upper() for method in config.methods))
        compiled.append(Route(index, config, methods, segments, open_end, names, _headers(config)))
    return compiled


def _headers(config: RouteConfig) -> RouteHeaders:
    try:
        return RouteHeaders(config)
    except ValueError as error:
        raise ConfigError(f"the route {config.path}: {error}") from None


def _candidates(root: _Node, segments: list[str]) -> list[Route]:
    """Return every route whose path matches, in no particular order."""
    found: list[Route] = []
    nodes = [root]
    for segment in segments:
        deeper = []
        for node in nodes:
            if node.open_ends:
                found += node.open_ends
            literal = node.below.get(segment)
            if literal is not None:
                deeper.append(literal)
            if segment and (some := node.below.get(ANY)) is not None:
                deeper.append(some)
        if not deeper:
            return found
        nodes = deeper
    for node in nodes:
        found += node.ends
    return found


def _index(route: Route) -> int:
    return route.index


def _is_for(hosts: tuple[str, ...], host: str) -> bool:
    return any(host == name or (name[0] == "*" and host.endswith(name[1:]) and host != name[1:]) for name in hosts)


def _forwarded(route: Route, path: str, segments: list[str]) -> str:
    config = route.config
    if config.rewrite:
        values = {name: segments[place] for name, place in route.names}
        values["rest"] = "/".join(segments[len(route.segments) :])
        return _NAME.sub(lambda match: values[match[1]], config.rewrite)
    prefix = config.strip_prefix
    return (path[len(prefix) :] or "/") if prefix else path


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
