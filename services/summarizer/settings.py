"""What can be set: in code by name, in the environment as ``SUMMARIZER_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from services.studio.settings import StudioSettings
from services.web.settings import HttpUrl

__all__ = ["SummarizerSettings"]


class SummarizerSettings(StudioSettings):
    """The summarizer's settings. With ``base_url`` and ``api_key`` a language model writes."""

    prefix: ClassVar[str] = "SUMMARIZER_"
    together: ClassVar[tuple[str, ...]] = ("base_url", "api_key")

    storage: str = Field("out/summaries", min_length=1)
    max_text: int = Field(200_000, ge=100, le=2_000_000)
    """Characters of one text."""
    base_url: HttpUrl | None = None
    """An OpenAI-compatible server, up to and with its version: ``https://api.example.com/v1``."""
    api_key: SecretStr | None = None
    model: str = Field("gpt-4o-mini", min_length=1, max_length=200)
    """The model there."""
    read_timeout: float = Field(60.0, gt=0)
    """Seconds between two reads of its answer."""
    body_limit: int = Field(4 * 1024 * 1024, ge=1024)
