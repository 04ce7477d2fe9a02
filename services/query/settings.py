"""What can be set: in code by name, in the environment as ``QUERY_<NAME>``. Durations are seconds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from services.library.opening import PostgresUrl
from services.web.settings import HttpUrl, ServiceSettings

__all__ = ["BUILT_IN_MODEL", "QuerySettings"]

BUILT_IN_MODEL = "extractive"


class QuerySettings(ServiceSettings):
    """The query service's settings. With ``base_url`` and ``api_key`` a language model writes the answers."""

    prefix: ClassVar[str] = "QUERY_"
    together: ClassVar[tuple[str, ...]] = ("base_url", "api_key", "model")

    library: str = Field("out/library", min_length=1)
    """The folder that the ingest service writes; not needed with a database."""
    database_url: PostgresUrl | None = None
    """``postgresql://user:password@host/name`` for the documents and their passages, the same for both services."""
    passages: int = Field(6, ge=1, le=50)
    """Passages that an answer is made of where a request names no `top_k`."""
    sentences: int = Field(4, ge=1, le=20)
    """Sentences of an answer, at most."""
    words_per_second: float = Field(60.0, ge=0, le=100_000)
    """Pace of a stream; 0 is as fast as possible. The first word never waits."""
    question_limit: int = Field(4000, ge=10, le=100_000)
    """Characters of a question."""
    max_running: int = Field(1000, ge=1)
    """Answers at once; past it a request is answered 429."""
    threads: int = Field(4, ge=1, le=64)
    """Calls to the databases at once; 256 more may wait."""
    body_limit: int = Field(256 * 1024, ge=1024)
    """Of a request, in bytes."""
    base_url: HttpUrl | None = None
    """An OpenAI-compatible server, up to and with its version: ``https://api.example.com/v1``."""
    api_key: SecretStr | None = None
    """The key for that server."""
    model: str | None = Field(None, min_length=1, max_length=200)
    """The model to ask there."""
    connect_timeout: float = Field(5.0, gt=0)
    """Until connected to it."""
    read_timeout: float = Field(60.0, gt=0)
    """Between two reads of its answer."""
    max_output: int = Field(65_536, ge=256)
    """Characters of an answer that the model writes."""
