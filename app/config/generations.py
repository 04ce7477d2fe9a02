"""What can be set about generations."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from app.config.section import Section

__all__ = ["GenerationConfig", "GenerationsConfig"]

_ON_LAST_DISCONNECT = re.compile(r"^(continue|cancel|cancel_after:\d{1,5}(\.\d+)?)$")


class GenerationConfig(Section):
    """How one kind of generation (`[generations.kinds.chat]`) reaches its upstream."""

    upstream: str
    """The name of a table under `[upstreams]`."""
    path: str = "/v1/chat/completions"
    """Where the upstream takes the request."""
    format: Literal["openai-chat"] = "openai-chat"
    """What the upstream speaks."""
    model: str | None = None
    """The model asked for when the client names none."""
    first_event_timeout: float = Field(60.0, gt=0)
    """How long the upstream may take until its first event."""
    idle_timeout: float = Field(60.0, gt=0)
    """How long the upstream may be silent between two events."""
    total_timeout: float = Field(600.0, gt=0)
    """How long the whole generation may take."""


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
    on_last_disconnect: str = "continue"
    """When nobody listens any more and the client did not say: `continue`, `cancel`, `cancel_after:<seconds>`."""
    kinds: dict[str, GenerationConfig] = Field(default_factory=dict)
    """What clients may ask for: `[generations.kinds.chat]` serves `"kind": "chat"`."""

    @field_validator("on_last_disconnect")
    @classmethod
    def _a_policy(cls, policy: str) -> str:
        if not _ON_LAST_DISCONNECT.match(policy):
            raise ValueError("must be continue, cancel, or cancel_after:<seconds>, for example cancel_after:30")
        return policy
