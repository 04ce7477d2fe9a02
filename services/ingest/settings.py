"""What can be set: in code by name, in the environment as ``INGEST_<NAME>``. Sizes are bytes, durations seconds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.library.opening import PostgresUrl
from services.web.settings import ServiceSettings

__all__ = ["IngestSettings"]


class IngestSettings(ServiceSettings):
    """The ingest service's settings."""

    prefix: ClassVar[str] = "INGEST_"

    library: str = Field("out/library", min_length=1)
    """The folder with the companies' files, and with their databases where there is no other. The query service reads
    these, too."""
    database_url: PostgresUrl | None = None
    """``postgresql://user:password@host/name`` for the documents and their passages, the same for both services."""
    body_limit: int = Field(25 * 1024 * 1024, ge=1024)
    """Of an upload."""
    max_characters: int = Field(5_000_000, ge=1000)
    """Of one document's text; what has more is refused."""
    max_pages: int = Field(5000, ge=1)
    """Of a PDF."""
    passage_characters: int = Field(1200, ge=100, le=20_000)
    """About the length of a passage, the unit of searching."""
    read_seconds: float = Field(60.0, gt=0)
    """How long reading one HTML page or PDF may take, in a process of its own."""
    read_memory: int = Field(1024 * 1024 * 1024, ge=128 * 1024 * 1024)
    """The address space of that process."""
    workers: int = Field(2, ge=1, le=64)
    """Documents that are read at once."""
    queue_limit: int = Field(256, ge=1, le=100_000)
    """Documents that wait; one more is answered 429."""
    threads: int = Field(4, ge=1, le=64)
    """Calls to the database at once; 256 more may wait."""
