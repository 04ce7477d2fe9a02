"""The tables, beside those of the users service in one database. What changes here needs a migration."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, MetaData, String, Table

from services.topics.outbox import outbox_table

__all__ = ["ACTIVE", "INVITES", "MEMBERS", "METADATA", "ORGANISATIONS", "OUTBOX"]

METADATA = MetaData()
ORGANISATIONS = Table(
    "organisations",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("created_at", Double, nullable=False),
)
MEMBERS = Table(
    "members",
    METADATA,
    Column("org_id", String(32), ForeignKey("organisations.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", String(32), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("joined_at", Double, nullable=False),
    Index("members_user", "user_id"),
)
INVITES = Table(
    "invites",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("org_id", String(32), ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("email", String(254), nullable=False),
    Column("role", String(16), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("invited_by", String(32), nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("accepted_at", Double),
)
# The organisation that a user's tokens are for.
ACTIVE = Table(
    "active_organisations",
    METADATA,
    Column("user_id", String(32), primary_key=True),
    Column("org_id", String(32), ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
)
OUTBOX = outbox_table(METADATA, "organisations")
