"""Routes of a file over those of a preset. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from app.config.routes import RouteConfig
from app.config.variables import expanded

__all__ = ["overlaid"]

_EVERY_METHOD = RouteConfig.model_fields["methods"].default


class _Place(NamedTuple):
    """What a route takes."""

    path: str
    hosts: frozenset[str]
    methods: frozenset[str]

    def covers(self, other: _Place) -> bool:
        return self.path == other.path and self.hosts == other.hosts and self.methods >= other.methods


def overlaid(below: list[Any], above: list[Any], environ: Mapping[str, str]) -> list[Any]:
    """Return the routes of both as one list, as they were written.

    A route of ``above`` takes the place of those of ``below`` that have its path, its hosts and no methods but its own.
    The others stand in front, for the first that matches is taken.
    """
    places = [_place(route, environ) for route in above]
    replaced: set[int] = set()
    joined: list[Any] = []
    for route in below:
        place = _place(route, environ)
        by = next((index for index, mine in enumerate(places) if place and mine and mine.covers(place)), None)
        if by is None:
            joined.append(route)
        elif by not in replaced:
            replaced.add(by)
            joined.append(above[by])
    return [route for index, route in enumerate(above) if index not in replaced] + joined


def _place(route: Any, environ: Mapping[str, str]) -> _Place | None:
    """Return None for what is no route: the model will say what is wrong with it."""
    if not isinstance(route, dict):
        return None
    methods = route.get("methods", _EVERY_METHOD)
    try:
        path, hosts, methods = (
            [expanded(str(text), environ) for text in (each if isinstance(each, list | tuple) else [each])]
            for each in (route.get("path"), route.get("hosts", []), methods)
        )
    except ValueError:
        return None
    return _Place(path[0], frozenset(map(str.lower, hosts)), frozenset(map(str.upper, methods)))
