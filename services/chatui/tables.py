"""The tables. What changes here needs a migration. Times are Unix times in seconds."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, MetaData, String, Table, Text

from services.topics.outbox import outbox_table

__all__ = ["CONVERSATIONS", "DOCUMENTS", "MESSAGES", "METADATA", "OUTBOX", "PROMPTS"]

METADATA = MetaData()


def _owned(name: str, *columns: Column[object]) -> Table:
    """A table of what belongs to users."""
    return Table(
        name,
        METADATA,
        Column("id", String(32), primary_key=True),
        Column("user_id", String(64), nullable=False),
        *columns,
        Column("created_at", Double, nullable=False),
        Column("updated_at", Double, nullable=False),
        Index(f"{name}_user", "user_id", "created_at"),
    )


CONVERSATIONS = _owned("conversations", Column("topic", String(255), nullable=False))
MESSAGES = _owned(
    "messages",
    Column("conversation_id", String(32), ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("message", Text, nullable=False),
    Column("is_bot", Boolean, nullable=False),
)
Index("messages_conversation", MESSAGES.c.conversation_id, MESSAGES.c.created_at)
PROMPTS = _owned("prompts", Column("title", String(255), nullable=False), Column("prompt", Text, nullable=False))
DOCUMENTS = _owned("documents", Column("title", String(255), nullable=False), Column("content", Text, nullable=False))
OUTBOX = outbox_table(METADATA, "chatui")
