"""The base of every service's settings: in code by name, in the environment as ``<PREFIX><NAME>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["ServiceSettings", "SettingsError"]


class SettingsError(ValueError):
    """Raised at start-up: the message names the setting and the cure."""


class ServiceSettings(BaseModel):
    """Settings that can be read from variables that begin with ``prefix``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: ClassVar[str] = ""
    also: ClassVar[Mapping[str, str]] = {}
    """Other variables that are read where a setting's own is not there: by the setting's name."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **overrides: object) -> Self:
        """Settings from the variables (an empty one counts as not set); ``overrides`` win where not None.

        Raises ``SettingsError``. Variables of other names are not touched.
        """
        found: dict[str, object] = {}
        for name in cls.model_fields:
            if given := environ.get(cls.prefix + name.upper()) or environ.get(cls.also.get(name, "")):
                found[name] = given
        found.update({name: value for name, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            # The input is left out: it may be a key.
            problems = error.errors(include_input=False)
            texts = (f"{cls._named(problem['loc'])}{problem['msg']}" for problem in problems)
            raise SettingsError("; ".join(texts)) from None

    @classmethod
    def _named(cls, location: tuple[int | str, ...]) -> str:
        return f"{cls.prefix}{str(location[0]).upper()}: " if location else ""
