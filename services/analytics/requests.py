"""Events as the gateway sends them, checked. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

__all__ = ["Event", "Events"]

_CONFIG = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a character that cannot be stored")
    return text


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]
Text = Annotated[str, Field(max_length=256), AfterValidator(_storable)]
Count = Annotated[int, Field(ge=0, lt=2**62)]


class Event(BaseModel):
    """One request or generation. What else is sent is not kept."""

    model_config = _CONFIG

    id: Name
    service: Name
    status: Literal["success", "error"]
    timestamp: AwareDatetime
    latency_ms: float = Field(0.0, ge=0)
    kind: Annotated[str, Field(max_length=16), AfterValidator(_storable)] = "call"
    status_code: int | None = Field(None, ge=100, le=599)
    error_code: Annotated[str, Field(max_length=64), AfterValidator(_storable)] | None = None
    user_id: Text | None = None
    company_id: Text | None = None
    model: Text | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None

    def row(self) -> dict[str, Any]:
        """The event as it is stored."""
        moment = self.timestamp.astimezone(UTC)
        counts = {"prompt_tokens": self.prompt_tokens or 0, "completion_tokens": self.completion_tokens or 0}
        kept = self.model_dump(exclude={"timestamp"}) | counts
        return kept | {"at": moment.timestamp(), "day": f"{datetime.date(moment):%Y-%m-%d}"}


class Events(BaseModel):
    """Several at once."""

    model_config = _CONFIG

    events: list[Event] = Field(max_length=1000)
