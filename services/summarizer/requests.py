"""What clients ask for, checked. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

__all__ = ["SummaryRequest"]


class SummaryRequest(BaseModel):
    """A text to be summarized. ``text`` may also be called ``prompt`` or ``input``."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        json_schema_extra={"example": {"text": "A long text. It has many sentences.", "sentences": 2}},
    )

    text: str = Field(validation_alias=AliasChoices("text", "prompt", "input"), max_length=2_000_000)
    sentences: int | None = Field(None, ge=1, le=100, description="How many sentences")
    ratio: float | None = Field(None, gt=0, le=1, description="Or which part of them")
    max_words: int | None = Field(None, ge=5, le=10_000, description="And at most so many words")
    language: Literal["auto", "en", "es", "fr", "de", "it", "pt", "nl", "ru", "ja", "zh"] = "auto"
    style: Literal["paragraph", "bullets"] = "paragraph"
    model: str | None = Field(None, max_length=200)
    callback_url: str | None = Field(None, max_length=2000)
    wait: bool = Field(True, alias="sync", description="Answer when it is done, or at once with 202")
    stream: bool = Field(False, description="Answer with the events of the job")
