"""Parts of an upstream's document become parts of the gateway's: references, dialect, sizes. Pure.

A reference may only lead to a component of the same document. Whatever else it names (another file, another host, a
place that is not there) would make the reader's browser ask for it, or show nothing.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["SECTIONS", "Importer", "Unusable", "component_name"]

SECTIONS = frozenset({"schemas", "responses", "parameters", "examples", "requestBodies", "headers"})
"""Of ``components``, those that are shown."""
_DEEPEST = 64
_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")
"""OpenAPI 3.1.0 section 4.8.7."""
_NOT_IN_UPSTREAMS = re.compile(r"[^A-Za-z0-9_-]")
_REFERENCE = re.compile(r"#/components/([A-Za-z]+)/([^/]+)")
_BASES = frozenset({"$id", "$schema", "$anchor", "$dynamicAnchor", "$dynamicRef", "$vocabulary"})
"""Keywords that would change what a reference below them means; ours need none."""
_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


class Unusable(Exception):
    """A document, or a part of one, cannot be shown; the text says why, without the document's own words."""


def component_name(upstream: str, name: str) -> str:
    """Return the name of an upstream's component in the gateway's document. Raises :exc:`Unusable` for what is none.

    The first dot ends the upstream's name, so that no two upstreams' components can be called the same.
    """
    if not _NAME.fullmatch(name):
        raise Unusable("a component has a name that is none")
    return f"{_NOT_IN_UPSTREAMS.sub('_', upstream)}.{name}"


class Importer:
    """Copies parts of one upstream's document."""

    def __init__(self, upstream: str, *, old: bool) -> None:
        """``old`` says that the document is of OpenAPI 3.0, whose schemas are written otherwise than those of 3.1."""
        self._upstream = upstream
        self._old = old
        self.used: set[tuple[str, str]] = set()
        """Components that the parts copied so far refer to: section, and name in the gateway's document."""

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return ``value`` with its references leading into the gateway's document. Raises :exc:`Unusable`."""
        if depth > _DEEPEST:
            raise Unusable("it is nested too deeply")
        if isinstance(value, list):
            return [self.copy(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        copied: dict[str, Any] = {}
        for name, item in value.items():
            if name in _BASES and not isinstance(item, dict):
                continue
            if name == "$ref" and isinstance(item, str):
                copied[name] = self._moved(item)
            elif name == "discriminator" and isinstance(item, dict):
                copied[name] = self._discriminator(item)
            else:
                copied[name] = self.copy(item, depth + 1)
        return _modern(copied) if self._old else copied

    def target(self, reference: str) -> tuple[str, str]:
        """Return which component of the upstream's document a reference leads to. Raises :exc:`Unusable`."""
        match = _REFERENCE.fullmatch(reference)
        if match is None or match[1] not in SECTIONS:
            raise Unusable("it refers to something that is no component of its own")
        return match[1], match[2].replace("~1", "/").replace("~0", "~")

    def _moved(self, reference: str) -> str:
        section, name = self.target(reference)
        new = component_name(self._upstream, name)
        self.used.add((section, new))
        return f"#/components/{section}/{new}"

    def _discriminator(self, value: dict[str, Any]) -> dict[str, Any]:
        """Its mapping names schemas by reference or by bare name (OpenAPI 3.1.0 section 4.8.25)."""
        mapping = value.get("mapping")
        kept = {"propertyName": value.get("propertyName")}
        if isinstance(mapping, dict):
            pairs = [(key, str(to)) for key, to in mapping.items()]
            moved = {key: self._moved(to if "/" in to else f"#/components/schemas/{to}") for key, to in pairs}
            return {**kept, "mapping": moved}
        return kept


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """Write what OpenAPI 3.0 says in its own way as JSON Schema does; maps that only look like schemas stay."""
    nullable = schema.get("nullable")
    if isinstance(nullable, bool):
        del schema["nullable"]
        kind = schema.get("type")
        if nullable and isinstance(kind, str):
            schema["type"] = [kind, "null"]
            if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
                schema["enum"] = [*schema["enum"], None]
        elif nullable and "$ref" in schema:
            schema = {"anyOf": [schema, {"type": "null"}]}
    for exclusive, bound in _BOUNDS.items():
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    return schema
