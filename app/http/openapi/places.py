"""Where a client finds what an upstream has at a path: a route read backwards. Pure.

Paths are templates: ``/users/{id}``. A route says how a client's path becomes the upstream's; here both sides are
compared segment by segment, and where the one has a name and the other a text, the text is what a client writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.config.routes import REST
from app.errors import BadRequest
from app.http.paths import normal_path
from app.http.routes import ANY, Match, Route, RouteTable

__all__ = ["NAMES", "general_place", "is_reachable", "places"]

NAMES = re.compile(r"\{([^{}/]{1,64})\}")
"""In a template; the group is the parameter's name."""
_MANY = 4
"""Parameters in one segment: with more, to look for them could take very long."""
_SAMPLE = "x0x"
"""Stands for any value of a parameter."""


def places(route: Route, path: str) -> Iterator[str]:
    """Yield the templates by which a client reaches the upstream's ``path`` over ``route``.

    There are none where the route does not lead there. Whether an earlier route takes that place is not looked at:
    :func:`is_reachable` does.
    """
    if route.config.rewrite:
        place = _rewritten(route, path.split("/")[1:])
        if place is not None:
            yield place
        return
    prefix = route.config.strip_prefix
    for candidate in dict.fromkeys((prefix + path, prefix or path) if path == "/" else (prefix + path,)):
        segments = _unified(route, candidate.split("/")[1:])
        if segments is not None:
            yield "/" + "/".join(segments)


def general_place(route: Route) -> str:
    """Return where a client reaches a route of which no more is known than the configuration says."""
    names = tuple(name for name, _ in route.names)
    segments = _named(route, {})
    if route.open_end:
        rest = REST
        while rest in names:
            rest += "_"
        segments.append(f"{{{rest}}}")
    return "/" + "/".join(segments)


def is_reachable(table: RouteTable, route: Route | None, method: str, path: str) -> bool:
    """Whether a request to the template ``path`` goes to ``route``; None stands for the gateway itself."""
    host = ""
    if route is not None and route.config.hosts:
        host = route.config.hosts[0].replace("*", _SAMPLE, 1)
    sample = NAMES.sub(_SAMPLE, path)
    try:
        if "{" in sample or "}" in sample or normal_path(sample.encode("ascii")) != sample:
            return False
        found = table.match(method.upper(), sample.encode("ascii"), host)
    except (BadRequest, UnicodeEncodeError):
        return False
    if route is None:
        return found is None
    return isinstance(found, Match) and found.route is route


def _rewritten(route: Route, theirs: list[str]) -> str | None:
    rewrite = route.config.rewrite.split("/")[1:]
    rest: list[str] | None = None
    if rewrite[-1] == f"{{{REST}}}" and not any(name == REST for name, _ in route.names):
        if len(theirs) < len(rewrite):
            return None
        rest, theirs = theirs[len(rewrite) - 1 :], theirs[: len(rewrite) - 1]
        rewrite = rewrite[:-1]
    if len(theirs) != len(rewrite):
        return None
    bound: dict[str, str] = {}
    for ours, other in zip(rewrite, theirs, strict=True):
        values = _values(ours, other)
        if values is None or any(bound.get(name, value) != value for name, value in values.items()):
            return None
        bound |= values
    segments = _named(route, bound)
    if route.open_end:
        if rest is None:
            return None  # Whatever a client writes there leads to the same: the general place says so.
        segments += rest
    return "/" + "/".join(segments)


def _values(ours: str, theirs: str) -> dict[str, str] | None:
    """Return what the names in a segment of ``rewrite`` stand for where it is the upstream's; None if it never is."""
    names = NAMES.findall(ours)
    if not names:
        return {} if _meets(theirs, ours) else None
    if ours == f"{{{names[0]}}}":
        return {names[0]: theirs} if theirs else None
    if NAMES.search(theirs):
        return {}
    match = re.fullmatch(_pattern(ours), theirs)
    return None if match is None else dict(zip(names, match.groups(), strict=True))


def _unified(route: Route, segments: list[str]) -> list[str] | None:
    """Return a client's path where it is of ``route``, with the route's text where the path has a parameter."""
    fixed = len(route.segments)
    if (len(segments) <= fixed) if route.open_end else (len(segments) != fixed):
        return None
    found = []
    for ours, theirs in zip(route.segments, segments, strict=False):
        if ours == ANY:
            if not theirs:
                return None
            found.append(theirs)
        elif _meets(theirs, ours):
            found.append(ours)
        else:
            return None
    return found + segments[fixed:]


def _meets(template: str, text: str) -> bool:
    """Whether a segment with or without parameters can be ``text``."""
    if template == text:
        return True
    return 0 < len(NAMES.findall(template)) <= _MANY and re.fullmatch(_pattern(template), text) is not None


def _pattern(template: str) -> str:
    """Return the regular expression of a segment; each parameter is at least one character."""
    parts = NAMES.split(template)
    return "".join("(.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))


def _named(route: Route, bound: dict[str, str]) -> list[str]:
    names = {place: name for name, place in route.names}
    return [
        segment if (name := names.get(index)) is None else bound.get(name, f"{{{name}}}")
        for index, segment in enumerate(route.segments)
    ]
