"""The tables of a library in PostgreSQL. What changes here needs a migration. Times are Unix times in seconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.postgresql import TSVECTOR

__all__ = ["DOCUMENTS", "METADATA", "PASSAGES"]

METADATA = MetaData()
DOCUMENTS = Table(
    "library_documents",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("shelf", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("owner", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text),
    Column("pages", Integer, nullable=False, server_default="0"),
    Column("passages", Integer, nullable=False, server_default="0"),
    Column("characters", BigInteger, nullable=False, server_default="0"),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Index("library_documents_digest", "shelf", "digest", unique=True),
    Index("library_documents_age", "shelf", "created", "id"),
)
PASSAGES = Table(
    "library_passages",
    METADATA,
    Column("document", String(64), ForeignKey("library_documents.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("shelf", String(32), nullable=False),
    Column("page", Integer, nullable=False),
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
    # Characters of the text.
    Column("size", Integer, nullable=False),
    # The words of heading (A) and text (D), and the shelf as one more word, which no text has.
    Column("words", TSVECTOR, nullable=False),
    Index("library_passages_words", "words", postgresql_using="gin"),
)
