"""Writes the tables of the pages that list what the code knows: ``python -m docs.generate``, or ``make docs``.

A table stands between ``<!-- table: name -->`` and ``<!-- end -->``; the text around it is written by hand. A test
compares the pages with what this module would write.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app import errors
from app.config import DEVELOPMENT_SECRET, Config
from app.config.section import Section
from app.errors import TidegateError
from app.observe.families import FAMILIES
from app.ws.protocols import centrifuge_codes

__all__ = ["PAGES", "fill"]

_HERE = Path(__file__).parent
PAGES = {name: _HERE / f"{name}.md" for name in ("configuration", "errors", "observability", "protocol")}
_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """Return ``page`` with its tables made anew."""
    return _TABLE.sub(lambda match: f"{match[1]}{_TABLES[match['name']]()}{match[3]}", page)


def configuration_table() -> str:
    """Return a heading and a table for each table of the file."""
    return "\n" + "\n".join(_sections(Config, "")) + "\n"


def error_table() -> str:
    """Return one row for each error, in the order of the tree."""
    rows = ["| code | status | close code | retryable | says |", "|---|---|---|---|---|"]
    for error in _tree(TidegateError):
        close = error.close_code or ""
        retryable = "yes" if error.retryable else "no"
        rows.append(f"| `{error.code}` | {error.status} | {close} | {retryable} | {error.default_message} |")
    return "\n" + "\n".join(rows) + "\n\n"


def centrifuge_table() -> str:
    """Return one row for each code of the Centrifuge protocol: errors, ends of connections, ends of subscriptions."""
    rows = ["| code | says | then | when |", "|---|---|---|---|"]
    meanings = _below(ast.parse(inspect.getsource(centrifuge_codes)).body)
    for name, value in vars(centrifuge_codes).items():
        if isinstance(value, centrifuge_codes.Fault):
            then = "error, temporary" if value.temporary else "error"
            rows.append(f"| {value.code} | {value.message} | {then} | {_markdown(meanings[name])} |")
        elif isinstance(value, centrifuge_codes.Disconnect):
            then = "closed for good" if 3500 <= value.code < 4000 or 4500 <= value.code < 5000 else "closed, come back"
            rows.append(f"| {value.code} | {value.reason} | {then} | {_markdown(meanings[name])} |")
        elif isinstance(value, centrifuge_codes.Unsubscription):
            then = "unsubscribed, subscribe again" if value.code >= 2500 else "unsubscribed"
            rows.append(f"| {value.code} | {value.reason} | {then} | {_markdown(meanings[name])} |")
    return "\n" + "\n".join(rows) + "\n\n"


def metrics_table() -> str:
    """Return one row for each family of ``/metrics``."""
    rows = ["| name | kind | labels | says |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {_markdown(family.help)} |")
    return "\n" + "\n".join(rows) + "\n\n"


def _tree(error: type[TidegateError]) -> Iterator[type[TidegateError]]:
    yield error
    for below in error.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _tree(below)


def _sections(section: type[Section], path: str) -> Iterator[str]:
    meanings = _meanings(section)
    values = {name: field for name, field in section.model_fields.items() if _table_of(field) is None}
    if path:
        yield f"### `{path}`\n"
        yield _markdown((section.__doc__ or "").strip()) + "\n"
    if values:
        yield "| key | type | default | meaning |"
        yield "|---|---|---|---|"
        for name, field in values.items():
            meaning = _markdown(meanings.get(name, ""))
            yield f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |"
        yield ""
    for name, field in section.model_fields.items():
        below = _table_of(field)
        if below is not None:
            yield from _sections(below, _heading(path, name, field))


def _heading(path: str, name: str, field: FieldInfo) -> str:
    key = f"{path.strip('[]')}.{name}" if path else name
    if get_origin(field.annotation) is dict:
        return f"[{key}.<name>]"
    return f"[[{key}]]" if get_origin(field.annotation) is tuple else f"[{key}]"


def _table_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that ``field`` holds, alone, by name or in a list."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _meanings(section: type[Section]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in reversed(section.__mro__):
        if issubclass(each, Section):
            body = ast.parse(inspect.getsource(each)).body[0]
            assert isinstance(body, ast.ClassDef)
            found |= _below(body.body)
    return found


def _below(statements: list[ast.stmt]) -> dict[str, str]:
    """Return the text below each assignment, which Python itself does not keep, by the assigned name."""
    found: dict[str, str] = {}
    for statement, following in pairwise(statements):
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            if isinstance(target, ast.Name):
                found[target.id] = str(following.value.value)
    return found


def _type(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in signs.items()
        if getattr(bound, name, None) is not None
    ]
    return ", ".join([_type_name(field.annotation), *bounds])


def _type_name(annotation: Any) -> str:
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if NoneType in arguments:
        return _type_name(next(argument for argument in arguments if argument is not NoneType)) + ", or none"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"table of {_type_name(arguments[1])}"
    if arguments:  # Annotated
        return _type_name(arguments[0])
    names = {
        Any: "value",
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        SecretStr: "secret text",
    }
    return names[annotation]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "**required**"
    if isinstance(default, SecretStr):
        return "the development secret" if default.get_secret_value() == DEVELOPMENT_SECRET else "set"
    if default is None or default in ((), {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return ", ".join(f"`{value}`" for value in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`" if default != "" else "empty"


def _markdown(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


_TABLES = {
    "configuration": configuration_table,
    "errors": error_table,
    "centrifuge-codes": centrifuge_table,
    "metrics": metrics_table,
}


def _main() -> None:
    for path in PAGES.values():
        old = path.read_text()
        new = fill(old)
        if new != old:
            path.write_text(new)
            print(f"wrote {path}")


if __name__ == "__main__":
    _main()
