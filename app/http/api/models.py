"""Bodies of the REST API, as its OpenAPI page shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "POLICY",
    "CancelAnswer",
    "GenerationAnswer",
    "ProblemAnswer",
    "StartAnswer",
    "StartBody",
    "TicketAnswer",
    "UsageAnswers",
]


POLICY = r"^(continue|cancel|cancel_after:[0-9]{1,5}(\.[0-9]{1,3})?)$"


class OriginBody(BaseModel):
    """A completed generation of the caller's, and which of its files; all where none are named."""

    model_config = ConfigDict(extra="forbid")

    generation_id: str
    paths: list[str] | None = None


class StartBody(BaseModel):
    """A generation to start."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[str, Field(examples=["chat"])]
    input: Annotated[dict[str, Any], Field(examples=[{"message": "Hello"}])]
    upstream: str | None = None
    idempotency_key: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    """The same key and body again, by the same user, attaches to the first generation."""
    on_last_disconnect: Annotated[str | None, Field(pattern=POLICY, examples=["continue", "cancel_after:30"])] = None
    origin: Annotated[OriginBody | None, Field(alias="from")] = None
    """A completed generation whose files are given to the upstream, as ``input.files``."""


class StartAnswer(BaseModel):
    """Where the generation's events are: watch ``channel`` from ``offset`` of ``epoch`` on."""

    id: str
    channel: str
    epoch: str
    offset: int
    status: str


class FileReceiptAnswer(BaseModel):
    rev: int
    characters: int
    sha256: str


class ReceiptAnswer(BaseModel):
    """``files`` where the generation wrote some, by path."""

    offset: int
    characters: int
    sha256: str
    files: dict[str, FileReceiptAnswer] | None = None


class UsageAnswer(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    source: str


class BudgetAnswer(BaseModel):
    """Of ``tokens`` (or what else the ``unit`` is) within ``window`` seconds ``used`` by calls that ended, ``reserved``
    by those that run.

    In ``resets_in`` seconds nothing of what is used now counts any more.
    """

    limit: str
    by: str
    unit: Literal["tokens", "images", "seconds"]
    window: float
    tokens: int
    used: int
    reserved: int
    remaining: int
    resets_in: float


class UsageAnswers(BaseModel):
    budgets: list[BudgetAnswer]


class GenerationAnswer(BaseModel):
    """A generation as its events have told it up to ``offset``."""

    id: str
    kind: str
    status: Literal["queued", "started", "completed", "failed", "cancelled"]
    epoch: str
    offset: int
    upstream: str
    model: str | None
    created: float
    text: str
    reasoning: str
    tools: str
    files: dict[str, str]
    artifacts: list[dict[str, Any]]
    usage: UsageAnswer | None
    reason: str | None
    error: dict[str, Any] | None
    receipt: ReceiptAnswer | None


class CancelAnswer(BaseModel):
    """``cancelled``: it ends now, wherever it runs. ``finished``: it had ended before."""

    id: str
    status: Literal["cancelled", "finished"]


class TicketAnswer(BaseModel):
    """Open ``/api/v1/ws?ticket=…`` with it, once, within ``expires_in`` seconds."""

    ticket: str
    expires_in: float


class ProblemAnswer(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
