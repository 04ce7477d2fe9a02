"""What is wrong with a configuration, in words that name the cure and never show a secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from app.config.environment import variable_of
from app.config.schema import Key, dotted, find, near
from app.config.section import WrongSetting

__all__ = ["faults_of"]

_LONGEST_VALUE = 60
_MUST_BE = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "model_type": "must be a table",
    "string_type": "must be a text in quotes",
    "tuple_type": "must be a list",
}


def faults_of(error: ValidationError) -> Iterator[tuple[Key, str]]:
    """Yield each fault's key and what is wrong with it, to be read after the key."""
    for details in error.errors(include_url=False):
        key: Key = details["loc"]
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, WrongSetting):
            yield (*key, *cause.key), f"{cause}."
        elif isinstance(cause, ValueError):
            yield key, f"{cause}."
        else:
            yield key, _words(details, key)


def _words(details: ErrorDetails, key: Key) -> str:
    kind = details["type"]
    if kind == "missing":
        return f"is missing. Add it to the file, or set {variable_of(key)}."
    if kind == "extra_forbidden":
        meant = near(key)
        cure = (
            "Remove it; docs/configuration.md lists all settings."
            if meant is None
            else f"Did you mean {dotted(meant)}?"
        )
        return f"is not a setting. {cure}"
    value = _shown(details["input"], key)
    if kind == "literal_error":
        return f"must be {details['ctx']['expected']}{value}{_nearest(details)}"
    must_be = _MUST_BE.get(kind) or details["msg"].replace("Input should be", "must be")
    return f"{must_be}{value}."


def _shown(value: Any, key: Key) -> str:
    """Return the wrong value for the message, where it is short and no secret."""
    secret = find(key) is SecretStr or "public_key" in key
    if secret or not isinstance(value, str | int | float) or len(str(value)) > _LONGEST_VALUE:
        return ""
    return f", not {value!r}"


def _nearest(details: ErrorDetails) -> str:
    allowed = [part.strip("'") for part in details["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    close = difflib.get_close_matches(str(details["input"]), allowed, n=1)
    return f". Did you mean {close[0]!r}?" if close else "."
