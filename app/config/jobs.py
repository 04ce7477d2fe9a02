"""What can be set about jobs: work that an upstream begins with one request and tells of elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field, model_validator

from app.config.section import Section, WrongSetting

__all__ = ["JOB_FORMATS", "JobConfig", "RouteGenerationConfig"]

_PATH_INTO = re.compile(r"^(\$\.)?[^.\[\]]+(\.[^.\[\]]+|\[(\d+|\*)\])*$")
_CANCEL = re.compile(r"^(GET|POST|PUT|DELETE) /\S*$")
JOB_FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "poll": ("jobs", "replicate"),
        "call": ("automatic1111",),
        "stream": ("jobs", "replicate"),
        "push": ("jobs", "replicate"),
        "websocket": ("comfyui", "screenshot-to-code"),
    }
)
"""The formats of each source."""


class JobConfig(Section):
    """Work that goes on after the answer to the request that began it (`[generations.kinds.<name>.job]`)."""

    source: Literal["poll", "call", "stream", "push", "websocket"] = "poll"
    """How the gateway learns of it: it asks again and again; so it does beside a request whose answer is the result; it
    reads a stream; the upstream posts; it reads a WebSocket ([sources](sources.md))."""
    format: Literal["jobs", "replicate", "automatic1111", "comfyui", "screenshot-to-code"] = "jobs"
    """What the upstream says there ([formats](formats.md))."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Where things stand in the documents of `jobs`: `status = "$.state"`, `percent = "$.progress.percent"`."""
    id: str = "$.id"
    """Where the job's id stands in the first answer."""
    path: str = ""
    """Where the job is asked for, read, or (`comfyui`) connected to: `/jobs/{id}`. Of `poll` and `stream` also where in
    the first answer the address stands (`$.urls.stream`): its path and query are taken, whatever its host."""
    upstream: str = ""
    """Of `poll` and `stream`: the upstream that tells of the job, where it is not the one that began it."""
    cancel: str = ""
    """What ends the job at the upstream: `DELETE /jobs/{id}`; empty where nothing does."""
    interval: float = Field(0.25, gt=0, le=60)
    """Shortest pause between two questions: at the beginning, near the end, and where something moves."""
    interval_max: float = Field(5.0, gt=0, le=600)
    """Longest pause, where nothing moves. A `Retry-After` of the upstream may be longer."""
    max_body: int = Field(16 * 1024 * 1024, ge=1024)
    """Largest answer to a question, and largest message of a WebSocket."""
    links_from: str = ""
    """The beginning of links to results that only the gateway can follow: `http://image:8000`."""
    links_to: str = ""
    """What clients get in its place; empty for links on the gateway itself, by a route of the same path."""
    webhook: str = ""
    """The table under `[generations.webhooks]` that takes what the upstream posts; empty for
    `/api/v1/generations/{id}/events` alone."""

    @property
    def id_path(self) -> str:
        """Where the job's id stands: ComfyUI calls it otherwise."""
        return "$.prompt_id" if self.format == "comfyui" and self.id == "$.id" else self.id

    @property
    def found_path(self) -> bool:
        """Whether ``path`` leads into the first answer."""
        return self.path.startswith("$.")

    @model_validator(mode="after")
    def _can_be_followed(self) -> JobConfig:
        if self.format not in JOB_FORMATS[self.source]:
            raise WrongSetting(
                ("format",), f"goes not with source = {self.source}, which has {_or(JOB_FORMATS[self.source])}"
            )
        if self.fields and self.format != "jobs":
            raise WrongSetting(("fields",), 'goes with format = "jobs" alone')
        told = self.source in {"poll", "stream"}
        if told and not self.path.startswith(("/", "$.")):
            raise WrongSetting(("path",), "must say where the job is asked for, for example /jobs/{id}")
        if self.cancel and not _CANCEL.fullmatch(self.cancel):
            raise WrongSetting(("cancel",), 'must be a method and a path, for example "DELETE /jobs/{id}"')
        if not told and self.path and not self.path.startswith("/"):
            raise WrongSetting(("path",), "must start with /")
        if not told and self.upstream:
            raise WrongSetting(("upstream",), "goes with source = poll or stream alone")
        if self.found_path:
            check_path_into(("path",), self.path)
        if self.interval_max < self.interval:
            raise WrongSetting(("interval_max",), "is shorter than interval")
        if self.webhook and self.source != "push":
            raise WrongSetting(("webhook",), 'goes with source = "push" alone')
        check_path_into(("id",), self.id)
        return self


class RouteGenerationConfig(JobConfig):
    """`[routes.generation]`: an answer on this route begins a job, which is followed as a generation."""

    source: Literal["poll", "stream", "push", "websocket"] = "poll"
    """As that of a kind's job; `websocket` is of `comfyui` alone. What is one call, or begun on a socket, has none."""
    kind: str
    """What the generation is called: `image`. Other than a kind that clients start, it needs no table of its own."""
    children: str = ""
    """Where the ids of several jobs stand that one answer began: `$.generations[*].id`; then `id` is that of the batch,
    which is a generation over them."""
    limits: tuple[str, ...] = ()
    """Names of tables under `[limits]` that let the request in, as those of a kind do: budgets hold until the job has
    ended. Those of the kind that is called so, if there is one, hold, too."""
    first_event_timeout: float = Field(60.0, gt=0)
    """How long the upstream may take until it says something of the job."""
    idle_timeout: float = Field(60.0, gt=0)
    """How long it may then be silent, or not to be reached."""
    total_timeout: float = Field(3600.0, gt=0)
    """How long the job may take."""

    @model_validator(mode="after")
    def _names_its_children(self) -> RouteGenerationConfig:
        if self.format == "screenshot-to-code":
            raise WrongSetting(("format",), "is begun on a socket of its own, not by a request")
        if self.children:
            check_path_into(("children",), self.children)
            if self.found_path:
                raise WrongSetting(("path",), "must be one path for all children: /jobs/{id}")
        return self


def check_path_into(key: tuple[str, ...], path: str) -> None:
    """Raises :exc:`~app.config.section.WrongSetting` for what is no path into an answer."""
    if not _PATH_INTO.fullmatch(path):
        raise WrongSetting(key, "must be a path into the answer, for example $.generation_id or $.jobs[*].id")


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(names)
