"""The gateway's own document, its routes and what upstreams tell become one document. Pure.

What a client cannot reach is not there: each path is looked up in the route table as a request would be. What comes
first in the file comes first here, and paths that differ only in the names of their parameters are one (OpenAPI 3.1.0
section 4.8.8).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from app.http.openapi.describing import ANSWERS_TAG, SCHEMES, described, general
from app.http.openapi.document import METHODS, UpstreamDocument
from app.http.openapi.places import NAMES, general_place, is_reachable, places
from app.http.openapi.references import component_name
from app.http.routes import Route, RouteTable

__all__ = ["merge"]

_PROBLEM_RESPONSE = {
    "description": "A problem of the gateway's (RFC 9457); `X-Gateway-Error` tells it from the upstream's own.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}},
}
_NOT_BESIDE_OTHERS = frozenset({"head", "options"})
"""Methods that say nothing of their own; shown where a route has no others, or its upstream describes them."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


def merge(
    own: Mapping[str, Any], table: RouteTable, documents: Mapping[str, UpstreamDocument]
) -> Generator[None, None, dict[str, Any]]:
    """Return the whole document; ``own`` is left as it is. Takes a breath between two parts."""
    merging = _Merging(table)
    merging.take_own(own["paths"])
    yield
    for route in table.routes:
        yield from merging.take(route, documents.get(route.config.upstream))
    components = {section: dict(items) for section, items in own.get("components", {}).items()}
    for (section, name), document in sorted(merging.used().items(), key=_first):
        components.setdefault(section, {})[name] = document.components[section, name]
    components.setdefault("securitySchemes", {}).update(SCHEMES | merging.schemes)
    components.setdefault("responses", {})["Problem"] = _PROBLEM_RESPONSE
    return {**own, "paths": merging.paths(), "components": components, "tags": _tags(own, table.routes, documents)}


def _first(pair: tuple[tuple[str, str], object]) -> tuple[str, str]:
    return pair[0]


class _Path:
    """A template and what can be done there, by method."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.operations: dict[str, dict[str, Any]] = {}


class _Merging:
    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._paths: dict[str, _Path] = {}
        self._ids: set[str] = set()
        self._used: dict[tuple[str, str], UpstreamDocument] = {}
        self.schemes: dict[str, dict[str, str]] = {}

    def paths(self) -> dict[str, dict[str, Any]]:
        return {path.template: path.operations for path in self._paths.values() if path.operations}

    def used(self) -> dict[tuple[str, str], UpstreamDocument]:
        """Return all components that are shown, those that others refer to as well, each with whose it is."""
        found: dict[tuple[str, str], UpstreamDocument] = {}
        waiting = list(self._used.items())
        while waiting:
            key, document = waiting.pop()
            if key not in found:
                found[key] = document
                waiting += [(below, document) for below in document.uses[key]]
        return found

    def take_own(self, paths: Mapping[str, Mapping[str, Any]]) -> None:
        for template, item in paths.items():
            if is_reachable(self._table, None, "GET", template):
                place = self._paths.setdefault(NAMES.sub("{}", template), _Path(template))
                place.operations.update(item)

    def take(self, route: Route, document: UpstreamDocument | None) -> Generator[None, None, None]:
        """Add what is reachable by ``route``: what the upstream tells, or else that there is something."""
        told = False
        for theirs in document.operations if document is not None else ():
            if theirs.method.upper() not in route.methods:
                continue
            for path in places(route, theirs.path):
                if self._add(route, theirs.method, path, described(route, theirs, path)):
                    told = True
                    assert document is not None
                    if theirs.body is not None:
                        self._used.update(dict.fromkeys(theirs.used, document))
                        self._add_schemes(route, path, theirs.method, theirs.schemes)
                yield
        if not told:
            path = general_place(route)
            for method in _shown(route):
                self._add(route, method, path, general(route, method, path))
            yield

    def _add(self, route: Route, method: str, path: str, operation: dict[str, Any]) -> bool:
        names = NAMES.findall(path)
        if len(set(names)) != len(names) or not is_reachable(self._table, route, method, path):
            return False
        place = self._paths.setdefault(NAMES.sub("{}", path), _Path(path))
        if method in place.operations:
            return False
        _rename(operation, dict(zip(names, NAMES.findall(place.template), strict=True)))
        base, number = operation["operationId"], 1
        while operation["operationId"] in self._ids:
            number += 1
            operation["operationId"] = f"{base}_{number}"
        self._ids.add(operation["operationId"])
        place.operations[method] = operation
        return True

    def _add_schemes(self, route: Route, path: str, method: str, schemes: Iterable[dict[str, str]]) -> None:
        """Where the gateway asks for nothing, what the upstream asks for is what counts."""
        if route.config.auth != "none":
            return
        operation = self._paths[NAMES.sub("{}", path)].operations[method]
        for scheme in schemes:
            kind = scheme.get("scheme") or f"{scheme['in']}_{scheme['name']}"
            name = component_name(route.config.upstream, _NOT_IN_NAMES.sub("_", kind))
            self.schemes[name] = scheme
            operation["security"] = [*operation["security"], {name: []}]


def _rename(operation: dict[str, Any], names: Mapping[str, str]) -> None:
    operation["parameters"] = [
        {**each, "name": names[each["name"]]} if each["in"] == "path" else each for each in operation["parameters"]
    ]


def _shown(route: Route) -> list[str]:
    methods = [method.lower() for method in route.methods if method.lower() in METHODS]
    others = [method for method in methods if method not in _NOT_BESIDE_OTHERS]
    return others or methods


def _tags(
    own: Mapping[str, Any], routes: Iterable[Route], documents: Mapping[str, UpstreamDocument]
) -> list[dict[str, str]]:
    """Return the tags in the order in which they are shown: the gateway's own first."""
    tags = {
        tag: "The gateway's own."
        for item in own["paths"].values()
        for operation in item.values()
        for tag in operation.get("tags", ())
    }
    for route in routes:
        name = route.config.upstream
        if not name:
            tags[ANSWERS_TAG] = "What the gateway answers by itself."
        elif name in documents and documents[name].title:
            tags[name] = f"Passed on to the upstream `{name}`, which calls itself {documents[name].title}."
        else:
            tags[name] = f"Passed on to the upstream `{name}`."
    return [{"name": name, "description": text} for name, text in tags.items()]
