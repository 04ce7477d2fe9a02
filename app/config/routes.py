"""What can be set about the requests that are passed on to upstreams."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from app.config.section import UPPER_CASE, Section

__all__ = ["RouteConfig"]


class RouteConfig(Section):
    """Requests that are passed on to an upstream. The first route of the file that matches is taken."""

    path: str
    """An exact path, or a prefix that ends in `/*`; `{name}` stands for one segment."""
    methods: tuple[Annotated[str, UPPER_CASE], ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    """The methods that are passed on; others are answered 405."""
    upstream: str
    """The name of a table under `[upstreams]`."""
    strip_prefix: str = ""
    """What is taken off the front of the path before it is passed on."""
    auth: Literal["none", "optional", "required"] = "required"
    """Whether a token is not looked at, verified where there is one, or demanded."""
    body_limit: int | None = Field(None, ge=1)
    """Overrides `server.body_limit`."""

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, path: str) -> str:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise ValueError("must start with / and may hold * only as a last segment, for example /v1/*")
        return path
