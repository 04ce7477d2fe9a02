"""The model's shape, for those who look for a key: below each key its kind, and the names near a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args, get_origin

from app.config.model import Config
from app.config.section import Section

__all__ = ["Key", "child", "dotted", "find", "is_section", "is_table", "near", "settings"]

Key = tuple[str | int, ...]


def dotted(key: Key) -> str:
    """Return a key as people write it: ``routes[0].path``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def is_section(kind: Any) -> bool:
    """Whether ``kind`` is a table with known keys."""
    return isinstance(kind, type) and issubclass(kind, Section)


def is_table(kind: Any) -> bool:
    """Whether ``kind`` holds keys of its own, so that it is not one value."""
    return is_section(kind) or get_origin(kind) is dict or (get_origin(kind) is tuple and is_section(get_args(kind)[0]))


def child(kind: Any, name: str | int) -> Any | None:
    """Return the kind of what is called ``name`` in a value of ``kind``; None when nothing can be."""
    if is_section(kind):
        field = kind.model_fields.get(name)
        return None if field is None else _without_none(field.annotation)
    if get_origin(kind) is dict and isinstance(name, str):
        return get_args(kind)[1]
    if get_origin(kind) is tuple and isinstance(name, int):
        return get_args(kind)[0]
    return None


def find(key: Key) -> Any | None:
    """Return the kind of ``key``; None when there is no such setting."""
    kind: Any = Config
    for name in key:
        kind = child(kind, name)
    return kind


def settings(kind: Any = Config, key: Key = ()) -> Iterator[Key]:
    """Yield the keys of all single values whose tables have fixed names."""
    for name in kind.model_fields:
        below = child(kind, name)
        if is_section(below):
            yield from settings(below, (*key, name))
        elif not is_table(below):
            yield (*key, name)


def near(key: Key) -> Key | None:
    """Return the setting that was probably meant by ``key``, which is none."""
    *above, name = key
    table = find(tuple(above))
    if table is not None and is_section(table):
        close = difflib.get_close_matches(str(name), list(table.model_fields), n=1)
        if close:
            return (*above, close[0])
    return next((other for other in settings() if other[-1] == name), None)


def _without_none(annotation: Any) -> Any:
    arguments = get_args(annotation)
    if NoneType in arguments:
        return next(argument for argument in arguments if argument is not NoneType)
    return annotation
