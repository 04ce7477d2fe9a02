"""What can be set: in code by name, in the environment as ``SPEECH_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.studio.settings import StudioSettings

__all__ = ["SpeechSettings"]


class SpeechSettings(StudioSettings):
    """The speech service's settings."""

    prefix: ClassVar[str] = "SPEECH_"

    storage: str = Field("out/speech", min_length=1)
    max_text: int = Field(5000, ge=1, le=100_000)
    """Characters of one request."""
    max_streams: int = Field(64, ge=1, le=10_000)
    """Streamed answers at once. What a slow listener has not taken waits in memory, at most his whole recording."""
