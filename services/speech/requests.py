"""What clients ask for, checked. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

__all__ = ["OpenAIRequest", "SpeechRequest"]

_CONFIG = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class SpeechRequest(BaseModel):
    """A text to be spoken. ``prompt`` may also be called ``text`` or ``input``."""

    model_config = _CONFIG | ConfigDict(json_schema_extra={"example": {"prompt": "Hola, ¿qué tal?", "voice": "es"}})

    prompt: str = Field(validation_alias=AliasChoices("prompt", "text", "input"), max_length=100_000)
    voice: str = Field("en", min_length=1, max_length=64, description="A language, such as en, es, pt-br, zh-CN")
    model: str = Field("espeak", max_length=64, description="espeak or espeak-slow; gtts and gtts-slow mean the same")
    format: Literal["mp3", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    pitch: int | None = Field(None, ge=0, le=100)
    callback_url: str | None = Field(None, max_length=2000)
    wait: bool = Field(True, alias="sync", description="Answer when all is spoken, or at once with 202")
    pieces: bool = Field(False, description="Have the sound among the job's events, in base 64, while it is spoken")
    stream: Literal["audio", "sse", "jsonl"] | bool = Field(
        False, description="audio (or true): the sound as it comes; sse, jsonl: events with the sound in base 64"
    )


class OpenAIRequest(BaseModel):
    """``POST /v1/audio/speech`` of OpenAI's API."""

    model_config = _CONFIG

    input: str = Field(max_length=100_000)
    model: str = Field("tts-1", max_length=64)
    voice: str = Field("alloy", min_length=1, max_length=64)
    response_format: Literal["mp3", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
