"""The tables. What changes here needs a migration. Times are Unix times in seconds."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, MetaData, String, Table

__all__ = ["METADATA", "SESSIONS", "USERS"]

METADATA = MetaData()
USERS = Table(
    "users",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("username", String(64)),
    # Folded, so that Anna and anna are one.
    Column("username_key", String(64), unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("roles", String(255), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    # Of the one refresh token that counts. All former ones are known by their signature and their session.
    Column("token_hash", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("refreshed_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("reason", String(16)),
    # Whether the gateway knows of the revocation.
    Column("told", Boolean, nullable=False),
    Column("user_agent", String(200), nullable=False),
    Index("sessions_user", "user_id", "created_at"),
    Index("sessions_told", "told", "revoked_at"),
    Index("sessions_expiry", "expires_at"),
)
