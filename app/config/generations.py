"""What can be set about generations."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from app.config.jobs import JobConfig
from app.config.section import Section, WrongSetting
from app.config.uploads import UploadConfig
from app.config.webhooks import WebhookConfig

__all__ = ["GenerationConfig", "GenerationsConfig"]

_ON_LAST_DISCONNECT = re.compile(r"^(continue|cancel|cancel_after:\d{1,5}(\.\d+)?)$")
_PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "openai-images": "/v1/images/generations",
    "anthropic": "/v1/messages",
    "ollama": "/api/chat",
    "ollama-generate": "/api/generate",
    "vercel-ai": "/api/chat",
    "json-lines": "/generate",
}
"""Where each format has its requests by default."""
_JOB_PATHS = {
    "automatic1111": "/sdapi/v1/txt2img",
    "comfyui": "/prompt",
    "screenshot-to-code": "/generate-code",
}
_CONVERSATIONS = frozenset(_PATHS) - {"openai-images", "json-lines", "vercel-ai"}
"""Formats whose requests are made of the same input."""
_PREFILLED = frozenset({"anthropic", "ollama", "openai-chat"})
"""Formats in which an answer's beginning can be given."""
_FIELDS = frozenset(
    [
        "text",
        "reasoning",
        "done",
        "reason",
        "error",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "stage",
        "step",
        "total",
        "percent",
        "preview",
        "artifact",
        "mime",
        "index",
        "path",
        "file",
        "append",
    ]
)


StreamFormat = Literal[
    "openai-chat",
    "openai-responses",
    "openai-images",
    "anthropic",
    "ollama",
    "ollama-generate",
    "vercel-ai",
    "json-lines",
]


class GenerationConfig(Section):
    """How one kind of generation (`[generations.kinds.chat]`) reaches its upstream."""

    upstream: str
    """The name of a table under `[upstreams]`."""
    analytics: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """The service of which its generations are events, for example `llm_chat`; empty for the kind's own name."""
    path: str | None = None
    """Where the upstream takes the request; none: where its format has it, `/v1/chat/completions` for `openai-chat`."""
    format: StreamFormat = "openai-chat"
    """What the upstream speaks ([formats](formats.md))."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Where things stand in the objects of `json-lines`: `text = "choices.0.text"`, `done = "type=end"`."""
    model: str | None = None
    """The model asked for when the client names none."""
    job: JobConfig | None = None
    """`[generations.kinds.image.job]`: the answer to the request says that a job was begun, which is followed then;
    without it the answer is the stream."""
    preset: dict[str, Any] = Field(default_factory=dict)
    """Members of the request's body that clients cannot set otherwise: `{ sync = false }`. With a `job` the rest of the
    body is the client's `input`."""
    first_event_timeout: float = Field(60.0, gt=0)
    """How long the upstream may take until its first event."""
    idle_timeout: float = Field(60.0, gt=0)
    """How long the upstream may be silent between two events."""
    total_timeout: float = Field(600.0, gt=0)
    """How long the whole generation may take."""
    failover: Literal["off", "restart", "continue"] = "off"
    """What happens when the upstream breaks off before it was done, is silent for too long, or answers 429 or 5xx: the
    generation fails, or another one goes on in the same sequence, from its beginning or from the text so far."""
    failover_to: tuple[str, ...] = ()
    """Upstreams that go on, in turn; none: the same one, where another target may do."""
    failover_attempts: int = Field(2, ge=1, le=10)
    """How often one generation goes on at most."""
    failover_models: dict[str, str] = Field(default_factory=dict)
    """What is asked for at another upstream, by its name, where its models are called otherwise."""
    failover_formats: dict[str, StreamFormat] = Field(default_factory=dict)
    """What another upstream speaks, by its name, where that is not the kind's `format`; both take a chat's `input`."""
    failover_paths: dict[str, str] = Field(default_factory=dict)
    """Where another upstream takes the request, by its name; none: `path`, or where its own format has it."""
    failover_preset: dict[str, Any] = Field(default_factory=dict)
    """Members of the request's body with which an upstream goes on with a text:
    `{ continue_final_message = true, add_generation_prompt = false }` for vLLM."""
    limits: tuple[str, ...] = ()
    """Names of tables under `[limits]`: a generation is let in by all of them, or refused with 429."""
    drain_after_cancel: float = Field(0.0, ge=0, le=600)
    """After a cancel the upstream is listened to for so long, for its own figures of the tokens that it used. Readers
    have the end at once, but the upstream works on; 0 ends its work at once."""
    max_bytes: int | None = Field(None, ge=1024)
    """Largest log of one generation; none: `generations.max_bytes`. Images in base 64 need more."""

    @property
    def path_or_default(self) -> str:
        """Where the upstream takes the request."""
        return self.path or (_PATHS[self.format] if self.job is None else _JOB_PATHS[self.job.format])

    def format_at(self, upstream: str) -> StreamFormat:
        """What ``upstream`` speaks, one of those that go on."""
        return self.failover_formats.get(upstream, self.format)

    def path_at(self, upstream: str) -> str:
        """Where ``upstream`` takes the request."""
        own = self.failover_paths.get(upstream)
        if own is None and self.format_at(upstream) != self.format:
            return _PATHS[self.format_at(upstream)]
        return own or self.path_or_default

    @model_validator(mode="after")
    def _fields_are_known(self) -> GenerationConfig:
        if self.job is not None and self.path is None and self.job.format not in _JOB_PATHS:
            raise WrongSetting(("path",), "is missing: where does the upstream take the request that begins a job?")
        self._failover_fits()
        if self.preset and self.job is None:
            raise WrongSetting(("preset",), "goes with a job alone")
        if self.fields and self.format != "json-lines":
            raise WrongSetting(("fields",), 'goes with format = "json-lines" alone')
        for name in self.fields:
            if name not in _FIELDS:
                raise WrongSetting(("fields", name), f"is none of {', '.join(sorted(_FIELDS))}")
        return self

    def _failover_fits(self) -> None:
        if self.failover == "off":
            return
        if self.job is not None:
            raise WrongSetting(("failover",), "does not go with a job, which is followed where it is")
        for name in self.failover_models:
            if name not in {self.upstream, *self.failover_to}:
                raise WrongSetting(("failover_models", name), "is neither upstream nor one of failover_to")
        for key, names in (("failover_formats", [*self.failover_formats]), ("failover_paths", [*self.failover_paths])):
            for name in names:
                if name not in self.failover_to:
                    raise WrongSetting((key, name), "is not one of failover_to")
        for name, path in self.failover_paths.items():
            if not path.startswith("/"):
                raise WrongSetting(("failover_paths", name), "must start with /")
        formats = {self.format, *self.failover_formats.values()}
        if self.failover == "continue" and not formats <= _PREFILLED:
            known = ", ".join(sorted(_PREFILLED))
            raise WrongSetting(("failover",), f"is continue, which goes with a format of {known} alone. Set restart")
        if len(formats) > 1 and not formats <= _CONVERSATIONS:
            raise WrongSetting(("failover_formats",), "may differ among formats of language models alone")


class GenerationsConfig(Section):
    """Generations: their leases, limits, and how long they are kept."""

    lease: float = Field(5.0, gt=0.2)
    """A replica that did not renew for so long has lost its streams."""
    retention: float = Field(900.0, gt=0)
    """How long a finished generation can be read."""
    max_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Largest log of one generation."""
    max_running: int = Field(10_000, ge=1)
    """Generations that run on one replica at once."""
    max_running_per_user: int = Field(64, ge=1)
    """Of one user's, on one replica."""
    inline_previews: int = Field(16 * 1024, ge=0)
    """Characters of base 64 that a preview's message may hold; of a larger one readers get a link."""
    preview_ttl: float = Field(300.0, gt=0)
    """How long such a link is good. Only the last preview of each result is kept."""
    file_rollup: float = Field(0.25, ge=0, le=5)
    """How long small changes of a file are gathered into one event; the first one, and one after a pause, is told at
    once. 0 tells each by itself."""
    file_patience: float = Field(2.0, ge=0, le=60)
    """How long they wait for more where the events of a file would cost more than a third of its text. A file costs at
    most 1.5 times its size where it is written at 400 characters a second or faster; at 100, with 8 seconds."""
    on_last_disconnect: str = "continue"
    """When nobody listens any more and the client did not say: `continue`, `cancel`, `cancel_after:<seconds>`."""
    upload: UploadConfig = UploadConfig()
    """`[generations.upload]`: what may come with a start that is sent as a form."""
    webhooks: dict[str, WebhookConfig] = Field(default_factory=dict)
    """`[generations.webhooks.replicate]` takes signed posts at `/api/v1/webhooks/replicate`."""
    kinds: dict[str, GenerationConfig] = Field(default_factory=dict)
    """What clients may ask for: `[generations.kinds.chat]` serves `"kind": "chat"`."""

    @field_validator("on_last_disconnect")
    @classmethod
    def _a_policy(cls, policy: str) -> str:
        if not _ON_LAST_DISCONNECT.match(policy):
            raise ValueError("must be continue, cancel, or cancel_after:<seconds>, for example cancel_after:30")
        return policy
