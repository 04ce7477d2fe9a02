"""Which setting a variable of the environment is: ``GATEWAY_SERVER__PORT`` is ``server.port``.

Two underscores go one table down. A name that the file gave a table (``[upstreams.Chat-Service]``) is found in any
case and with underscores for other signs; a route is found by its number. Variables that begin with ``GATEWAY_`` but
hold no two underscores belong to others (Kubernetes sets ``GATEWAY_PORT`` for a service named gateway) unless they are
a setting's name with one underscore too few.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args, get_origin

from app.config.model import Config
from app.config.schema import Key, child, is_section, is_table, settings

__all__ = ["PREFIX", "UnknownVariable", "key_of", "variable_of"]

PREFIX = "GATEWAY_"


class UnknownVariable(Exception):
    """The variable looks like a setting and is none. The text says what is wrong and what to do."""


def variable_of(key: Key) -> str:
    """Return the variable that sets ``key``."""
    return PREFIX + "__".join(str(part) for part in key).upper()


def key_of(variable: str, value: str, data: dict[str, Any]) -> Key | None:
    """Return the key that ``variable`` sets, None when it is not the gateway's.

    ``data`` is the file's content, for the names of its tables. Raises :exc:`UnknownVariable`.
    """
    if not variable.startswith(PREFIX):
        return None
    name = variable.removeprefix(PREFIX).lower()
    if "__" not in name:
        if not value.startswith("tcp://"):  # as Kubernetes writes the address of a service
            _refuse_forgotten_underscore(name)
        return None
    kind: Any = Config
    here: Any = data
    key: Key = ()
    segments = name.split("__")
    for depth, segment in enumerate(segments):
        part = _part(kind, segment, here)
        below = None if part is None else child(kind, part)
        if part is None or below is None:
            raise UnknownVariable(_unknown(kind, key, segments[depth:], here))
        kind, key = below, (*key, part)
        here = _below(here, part)
    if is_table(kind):
        raise UnknownVariable("is a table, not a value. Add two underscores and the name of a key in it.")
    return key


def _part(kind: Any, segment: str, here: Any) -> str | int | None:
    """Return how the table writes ``segment``."""
    if get_origin(kind) is tuple:
        count = len(here) if isinstance(here, list) else 0
        return int(segment) if segment.isdecimal() and int(segment) <= count else None
    if get_origin(kind) is not dict:
        return segment
    for name in here if isinstance(here, dict) else ():
        if re.sub(r"[^a-z0-9]", "_", str(name).lower()) == segment:
            return str(name)
    return segment if is_section(get_args(kind)[1]) else segment.replace("_", "-")


def _below(here: Any, part: str | int) -> Any:
    if isinstance(here, dict):
        return here.get(part)
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return here[part]
    return None


def _unknown(kind: Any, key: Key, rest: list[str], here: Any) -> str:
    if get_origin(kind) is tuple:
        count = len(here) if isinstance(here, list) else 0
        return f"must name one of the {count} {key[-1]} by its number, counted from 0, or {count} to add one."
    names = list(kind.model_fields) if is_section(kind) else []
    close = difflib.get_close_matches(rest[0], names, n=1)
    if close:
        return f"is not a setting. Did you mean {variable_of((*key, close[0], *rest[1:]))}?"
    return "is not a setting. Remove it, or see docs/configuration.md for those that are."


def _refuse_forgotten_underscore(name: str) -> None:
    if name in Config.model_fields:
        raise UnknownVariable("is a table, not a value. Add two underscores and the name of a key in it.")
    for key in settings():
        if name == "_".join(str(part) for part in key):
            raise UnknownVariable(f"is not a setting. Did you mean {variable_of(key)}?")
