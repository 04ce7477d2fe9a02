"""What an upstream says of itself (its ``openapi.json``), read and checked. Pure.

Nothing of it is believed: it is cut down to what is shown, each operation and component is checked by itself, and one
that is broken is left out without the others. Reading is a generator that takes a breath between two parts, for a large
document must not hold up the loop.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi.openapi.models import Example, Header, Operation, Parameter, RequestBody, Response, Schema
from pydantic import TypeAdapter, ValidationError

from app.http.openapi.references import SECTIONS, Importer, Unusable, component_name

__all__ = ["METHODS", "Described", "UpstreamDocument", "read_document"]

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""Under a path (OpenAPI 3.1.0 section 4.8.9)."""
_MOST = 2000
"""Operations, and components, of one document."""
_LONGEST_TEXT = 20_000
_MANY_PARAMETERS = 100
_KINDS: Mapping[str, TypeAdapter[Any]] = {
    "schemas": TypeAdapter(Schema | bool),
    "responses": TypeAdapter(Response),
    "parameters": TypeAdapter(Parameter),
    "examples": TypeAdapter(Example),
    "requestBodies": TypeAdapter(RequestBody),
    "headers": TypeAdapter(Header),
}
_OPERATION = TypeAdapter(Operation)
_STATUS = re.compile(r"[1-5](?:[0-9][0-9]|XX)|default")


@dataclass(frozen=True, slots=True)
class Described:
    """An operation. ``path`` is the one at the upstream, a template; ``body`` is None where it cannot be shown whole.

    ``parameters`` are those of its path, too, and none is a reference. ``used`` are components: section and name.
    """

    path: str
    method: str
    summary: str
    parameters: tuple[dict[str, Any], ...] = ()
    body: dict[str, Any] | None = None
    used: frozenset[tuple[str, str]] = frozenset()
    schemes: tuple[dict[str, str], ...] = ()
    """Security schemes by which the upstream itself asks who calls."""


@dataclass(frozen=True, slots=True)
class UpstreamDocument:
    """``components`` are whole: what they refer to is among them. By section and name in the gateway's document."""

    title: str
    operations: tuple[Described, ...]
    components: Mapping[tuple[str, str], Any]
    uses: Mapping[tuple[str, str], frozenset[tuple[str, str]]]


def read_document(upstream: str, content: bytes, prefix: str = "") -> Generator[None, None, UpstreamDocument]:
    """Read the document of ``upstream``, whose address ends in the path ``prefix``. Raises :exc:`Unusable`."""
    document = _loaded(content)
    importer = Importer(upstream, old=document["openapi"].startswith("3.0"))
    parts = _Parts(upstream, importer, _object(document.get("components")))
    yield from parts.read()
    base = _base(document.get("servers"))
    operations: list[Described] = []
    for path, item in _object(document["paths"]).items():
        if not isinstance(item, dict) or not path.startswith("/"):
            continue
        place = _place(base + path, prefix)
        if place is None:
            continue
        for method in METHODS:
            if isinstance(item.get(method), dict):
                operations.append(parts.operation(place, method, item))
                if len(operations) > _MOST:
                    raise Unusable(f"it has more than {_MOST} operations")
                yield
    info = _object(document.get("info"))
    title = " ".join(text for key in ("title", "version") if isinstance(text := info.get(key), str))
    return UpstreamDocument(title[:200], tuple(operations), parts.components, parts.uses)


class _Parts:
    """The components of a document, and its operations as they refer to them."""

    def __init__(self, upstream: str, importer: Importer, raw: dict[str, Any]) -> None:
        self._upstream = upstream
        self._importer = importer
        self._raw = raw
        self.components: dict[tuple[str, str], Any] = {}
        self.uses: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}

    def read(self) -> Generator[None, None, None]:
        """Read all components; those that are broken, or refer to such, are not there. Raises :exc:`Unusable`."""
        for section in sorted(SECTIONS):
            for name, value in _object(self._raw.get(section)).items():
                try:
                    key = (section, component_name(self._upstream, name))
                    copied, used = self._copied(value)
                    self.components[key], self.uses[key] = _checked(_KINDS[section], _without_links(copied)), used
                except Unusable:
                    continue
                if len(self.components) > _MOST:
                    raise Unusable(f"it has more than {_MOST} components")
                yield
        broken = [key for key, used in self.uses.items() if not used <= self.components.keys()]
        while broken:
            for key in broken:
                del self.components[key], self.uses[key]
            broken = [key for key, used in self.uses.items() if not used <= self.components.keys()]
            yield

    def operation(self, path: str, method: str, item: dict[str, Any]) -> Described:
        """Return one operation of a path item, without a body where it is broken."""
        raw = item[method]
        summary = raw.get("summary")
        summary = summary[:_LONGEST_TEXT] if isinstance(summary, str) else ""
        try:
            return self._whole(path, method, item, raw, summary)
        except Unusable:
            return Described(path, method, summary)

    def _whole(self, path: str, method: str, item: dict[str, Any], raw: dict[str, Any], summary: str) -> Described:
        given = {key: raw[key] for key in ("description", "requestBody", "responses", "deprecated") if key in raw}
        named: dict[tuple[Any, Any], dict[str, Any]] = {}
        used: frozenset[tuple[str, str]] = frozenset()
        for parameter in [*_list(item.get("parameters")), *_list(raw.get("parameters"))]:
            whole, of_it = self._copied(self._resolved(parameter))
            named[whole.get("name"), whole.get("in")] = whole
            used |= of_it
        if len(named) > _MANY_PARAMETERS:
            raise Unusable("it has too many parameters")
        body, of_body = self._copied(given)
        used |= of_body
        if not used <= self.components.keys():
            raise Unusable("it refers to a component that is broken, or not there")
        for status, response in _object(body.get("responses")).items():
            if not _STATUS.fullmatch(status):
                raise Unusable("an answer has a status that is none")
            _checked(_KINDS["responses"], _without_links(response))
        _checked(_OPERATION, {**body, "parameters": list(named.values())})
        return Described(path, method, summary, tuple(named.values()), body, used, self._schemes(raw))

    def _copied(self, value: Any) -> tuple[Any, frozenset[tuple[str, str]]]:
        self._importer.used = set()
        return self._importer.copy(value), frozenset(self._importer.used)

    def _resolved(self, parameter: Any) -> dict[str, Any]:
        """Return a parameter as it is, also where it is a reference: its name decides what becomes of it."""
        if isinstance(parameter, dict) and isinstance(parameter.get("$ref"), str):
            section, name = self._importer.target(parameter["$ref"])
            parameter = _object(self._raw.get(section)).get(name)
        if not isinstance(parameter, dict) or "$ref" in parameter:
            raise Unusable("a parameter is none")
        return parameter

    def _schemes(self, raw: dict[str, Any]) -> tuple[dict[str, str], ...]:
        """Return the schemes by which the upstream itself asks who calls; those of OAuth end in a bearer token."""
        known = _object(self._raw.get("securitySchemes"))
        found = []
        for demand in _list(raw.get("security"))[:8]:
            for name in _object(demand):
                scheme = _object(known.get(name))
                if scheme.get("type") == "apiKey" and scheme.get("in") in ("header", "query", "cookie"):
                    found.append({"type": "apiKey", "in": scheme["in"], "name": str(scheme.get("name"))[:100]})
                elif scheme.get("type") == "http" and str(scheme.get("scheme")).lower() == "basic":
                    found.append({"type": "http", "scheme": "basic"})
                elif scheme:
                    found.append({"type": "http", "scheme": "bearer"})
        return tuple(found)


def _loaded(content: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise Unusable("it is no JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("openapi"), str):
        raise Unusable("it is no OpenAPI document")
    if not document["openapi"].startswith("3."):
        raise Unusable("it is of a version of OpenAPI that is not known here")
    if not isinstance(document.get("paths"), dict):
        raise Unusable("it has no paths")
    return document


def _checked(kind: TypeAdapter[Any], value: Any) -> Any:
    """Return ``value`` if it is of the kind, or a reference. Raises :exc:`Unusable`."""
    if isinstance(value, dict) and set(value) == {"$ref"}:
        return value
    try:
        kind.validate_python(value)
    except (ValidationError, RecursionError):
        raise Unusable("a part of it is not as the specification says") from None
    return value


def _without_links(value: Any) -> Any:
    """Take a response's links off: they name operations by ids, which are others here."""
    if isinstance(value, dict) and "description" in value and isinstance(value.get("links"), dict):
        value.pop("links")
    return value


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _base(servers: Any) -> str:
    """Return the path that the first of ``servers`` puts in front of all paths (OpenAPI 3.1.0 section 4.8.5)."""
    server = _object(next(iter(_list(servers)), None))
    url = server.get("url")
    if not isinstance(url, str):
        return ""
    for name, variable in _object(server.get("variables")).items():
        url = url.replace(f"{{{name}}}", str(_object(variable).get("default", "")))
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return path.rstrip("/") if path.startswith("/") else ""


def _place(path: str, prefix: str) -> str | None:
    """Return what the gateway asks for where the upstream means ``path``; None where it cannot."""
    if len(path) > 1024 or "?" in path or "#" in path:
        return None
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        return path[len(prefix) :] or "/"
    return path
