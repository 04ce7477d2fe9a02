"""What all tables of the configuration have in common."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

__all__ = ["LOWER_CASE", "UPPER_CASE", "Section", "WrongSetting", "networks"]

LOWER_CASE = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
UPPER_CASE = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class WrongSetting(ValueError):
    """A value that can't stand beside another. ``key`` is the one to mend, relative to the section that raises this."""

    def __init__(self, key: tuple[str | int, ...], what: str) -> None:
        super().__init__(what)
        self.key = key


class Section(BaseModel):
    """A table of the file. What it does not know is an error: a misspelt key would be a default in production."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Take what a variable of the environment can hold, which is text, for what is meant."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        is_switch = annotation is bool or bool in get_args(annotation)
        if isinstance(value, bool) != is_switch and value is not None and not isinstance(value, str):
            raise ValueError("must be true or false" if is_switch else f"must not be {str(value).lower()}")
        if value == "" and type(None) in get_args(annotation):
            return None
        if isinstance(value, str) and get_origin(annotation) is tuple:
            return _list_of(value)
        return value


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``value`` if it holds networks and addresses only. Raises :exc:`ValueError`."""
    for text in value:
        try:
            ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text[:64]!r} is no network. Write 10.0.0.0/8 or ::1") from None
    return value


def _list_of(text: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        values = json.loads(text)
    except ValueError:
        raise ValueError('begins like a JSON list and is none. Write a, b or ["a", "b"]') from None
    assert isinstance(values, list), "JSON text that begins with [ is a list"
    return values
