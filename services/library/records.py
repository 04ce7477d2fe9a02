"""What the library holds, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Document", "Found", "NewDocument", "Passage", "Status"]

Status = Literal["waiting", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document. ``page`` counts from 1; 0 where the document has no pages."""

    text: str
    heading: str = ""
    page: int = 0


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document that was just taken in; ``digest`` is the SHA-256 of its file in hexadecimal."""

    id: str
    title: str
    filename: str
    kind: str
    bytes: int
    digest: str
    owner: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the library knows it. ``created`` and ``updated`` are seconds since 1970."""

    id: str
    title: str
    filename: str
    kind: str
    bytes: int
    digest: str
    owner: str
    status: Status
    error: str | None
    pages: int
    passages: int
    characters: int
    created: float
    updated: float

    def shown(self) -> dict[str, Any]:
        """The document's JSON."""
        return {
            "id": self.id,
            "document_id": self.id,
            "title": self.title,
            "filename": self.filename,
            "format": self.kind,
            "bytes": self.bytes,
            "sha256": self.digest,
            "uploaded_by": self.owner,
            "status": self.status,
            "error": self.error,
            "pages": self.pages,
            "passages": self.passages,
            "characters": self.characters,
            "created": round(self.created, 3),
            "updated": round(self.updated, 3),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search found. ``score`` is BM25's, the greater the better."""

    document: str
    title: str
    number: int
    page: int
    heading: str
    text: str
    score: float
