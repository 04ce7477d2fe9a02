"""What can be set about analytics events."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from app.config.kafka import KafkaSinkConfig
from app.config.section import Section, WrongSetting

__all__ = ["EVENT_FIELDS", "EventSinkConfig", "EventsConfig"]

EVENT_FIELDS = (
    "id",
    "kind",
    "service",
    "status",
    "timestamp",
    "latency_ms",
    "status_code",
    "error_code",
    "user_id",
    "company_id",
    "route",
    "upstream",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "tokens_source",
    "request_id",
    "generation_id",
)
"""What an event says; ``docs/events.md`` explains each."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_IN_PATHS = frozenset({"id", "kind", "service", "status"})
"""Never longer than a few characters, and of none but safe ones."""


class EventSinkConfig(Section):
    """Where events go. Each sink has a queue of its own, so that one that hangs holds up no other."""

    kind: Literal["http", "kafka", "log", "sql"]
    """`http` posts them to an upstream, `kafka` writes them to a topic, `log` writes a line for each, `sql` stores them
    in a database."""
    name: str = Field("", pattern=r"^[a-z0-9_-]{0,64}$")
    """What logs and figures call it; empty for its kind."""
    upstream: str = ""
    """For `http`: the name of a table under `[upstreams]`."""
    path: str = "/events"
    """For `http`: where events are posted to. With `batch = false` it may hold `{service}`, `{kind}`, `{status}`,
    `{id}`."""
    batch: bool = True
    """For `http`: whether a request carries a list of events, `{"events": [...]}`, or one event each."""
    fields: dict[str, str] = Field(default_factory=dict)
    """For `http` and `kafka`: other names for what an event says, `"metadata.response_time" = "latency_ms"`; dots make
    objects, `"=text"` stands for the text. Empty for all fields under their own names."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """For `http`: further headers, for example an API key."""
    concurrency: int = Field(4, ge=1, le=64)
    """For `http` with `batch = false`: requests at once."""
    url: SecretStr | None = None
    """For `sql`: `sqlite:///events.db`, `postgresql://user:password@host/database`."""
    retention_days: float | None = Field(90.0, gt=0)
    """For `sql`: older events are deleted; none to keep them for ever."""
    timeout: float = Field(10.0, gt=0)
    """How long one delivery may take."""
    kafka: KafkaSinkConfig = KafkaSinkConfig()

    @property
    def label(self) -> str:
        """What logs and figures call it."""
        return self.name or self.kind

    @field_validator("fields")
    @classmethod
    def _fields_are_known(cls, fields: dict[str, str]) -> dict[str, str]:
        for source in fields.values():
            if not source.startswith("=") and source not in EVENT_FIELDS:
                raise ValueError(f"names {source!r}; an event has {', '.join(EVENT_FIELDS)}, and =text stands for text")
        for name in fields:
            if any(other.startswith(f"{name}.") for other in fields):
                raise ValueError(f"has {name!r} both as a value and as an object")
        return fields

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> EventSinkConfig:
        if self.kind == "http" and not self.upstream:
            raise WrongSetting(("upstream",), "is missing. Name a table under [upstreams]")
        if self.kind == "sql" and self.url is None:
            raise WrongSetting(("url",), 'is missing. Write for example "sqlite:///events.db"')
        if self.kind == "kafka" and not self.kafka.bootstrap_servers:
            raise WrongSetting(("kafka", "bootstrap_servers"), 'is missing. Write for example ["kafka:9092"]')
        if not self.path.startswith("/"):
            raise WrongSetting(("path",), "must start with /")
        for name in _PLACEHOLDER.findall(self.path):
            if name not in _IN_PATHS:
                raise WrongSetting(("path",), f"holds {{{name}}}; {', '.join(sorted(_IN_PATHS))} may stand there")
            if self.batch:
                raise WrongSetting(("path",), f"holds {{{name}}}, but a batch has many. Set batch to false")
        return self


class EventsConfig(Section):
    """One event for each request of a route with `analytics`, and for each generation, without any text of users.

    They are queued in memory and delivered in the background; what a killed process had queued is lost."""

    enabled: bool = True
    """Whether events are made, where there are sinks."""
    max_events: int = Field(10_000, ge=1)
    """Events that wait for one sink; those that come when so many wait are dropped, and counted."""
    max_bytes: int = Field(16 * 1024 * 1024, ge=1024)
    """What they may take, likewise."""
    batch_size: int = Field(500, ge=1, le=10_000)
    """Events of one delivery at most."""
    flush_interval: float = Field(1.0, gt=0)
    """How long an event waits for others to be delivered with."""
    backoff: float = Field(0.5, gt=0)
    """The pause after a failed delivery, doubled with each further one, with some randomness."""
    max_backoff: float = Field(30.0, gt=0)
    """The longest such pause; a sink's `Retry-After` may make it longer, up to ten times this."""
    stop_timeout: float = Field(5.0, ge=0)
    """How long the last events may take to be delivered when the gateway stops."""
    sinks: tuple[EventSinkConfig, ...] = ()
    """Each is a table `[[events.sinks]]`."""

    @model_validator(mode="after")
    def _sinks_have_names_of_their_own(self) -> EventsConfig:
        labels = [sink.label for sink in self.sinks]
        for index, label in enumerate(labels):
            if label in labels[:index]:
                raise WrongSetting(("sinks", index, "name"), f"is {label} like another's. Give each a name of its own")
        return self
