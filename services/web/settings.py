"""The base of every service's settings: in code by name, in the environment as ``<PREFIX><NAME>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

__all__ = ["HttpUrl", "ServiceSettings", "SettingsError"]


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""The address of a server, to which paths are joined: without a slash at its end."""


class SettingsError(ValueError):
    """Raised at start-up: the message names the setting and the cure."""


class ServiceSettings(BaseModel):
    """Settings that can be read from variables that begin with ``prefix``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: ClassVar[str] = ""
    also: ClassVar[Mapping[str, str]] = {}
    """Other variables that are read where a setting's own is not there: by the setting's name."""
    together: ClassVar[tuple[str, ...]] = ()
    """Settings of which all are set, or none."""

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

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if len({getattr(self, name) is None for name in self.together}) > 1:
            names = " and ".join(self.prefix + name.upper() for name in self.together)
            raise ValueError(f"{names} go together: set all of them, or none")
        return self

    @classmethod
    def _named(cls, location: tuple[int | str, ...]) -> str:
        return f"{cls.prefix}{str(location[0]).upper()}: " if location else ""
