"""What can be set: in code by name, in the environment as ``CHAT_<NAME>``. Sizes are bytes, durations seconds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from services.web.settings import HttpUrl, ServiceSettings

__all__ = ["BUILT_IN_MODEL", "ChatSettings"]

BUILT_IN_MODEL = "opticks-4gram"


class ChatSettings(ServiceSettings):
    """The service's settings. With ``base_url`` and ``api_key`` it forwards to that server instead of answering."""

    prefix: ClassVar[str] = "CHAT_"
    together: ClassVar[tuple[str, ...]] = ("base_url", "api_key")

    tokens_per_second: float = Field(50.0, ge=0, le=100_000)
    """Pace of a stream; 0 is as fast as possible. The first token never waits."""
    base_url: HttpUrl | None = None
    """An OpenAI-compatible server, up to and with its version: ``https://api.example.com/v1``."""
    api_key: SecretStr | None = None
    """For a server that wants no key any word will do."""
    model: str | None = Field(None, min_length=1, max_length=200)
    """The model where a request names none. Without forwarding it is also the name of the built-in model."""
    body_limit: int = Field(1024 * 1024, ge=1024)
    max_messages: int = Field(256, ge=1)
    """Of one request, those of its session not counted."""
    max_tokens: int = Field(4096, ge=1)
    """The most that one answer may be asked to have."""
    max_running: int = Field(10_000, ge=1)
    """Generations at once; past it a request is answered 429."""
    max_sessions: int = Field(10_000, ge=1)
    sessions_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    """All sessions together; the least recently used goes first."""
    session_bytes: int = Field(64 * 1024, ge=1024)
    """One session; its oldest messages go first."""
    connect_timeout: float = Field(5.0, gt=0)
    read_timeout: float = Field(60.0, gt=0)
    """Forwarding: between two reads of the other server's answer."""
