"""The table of events. What changes here needs a migration."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table

__all__ = ["EVENTS", "METADATA"]

METADATA = MetaData()
EVENTS = Table(
    "analytics_events",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("service", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    # Unix seconds, and the day of it in UTC, by which is grouped.
    Column("at", Double, nullable=False),
    Column("day", String(10), nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("status_code", Integer),
    Column("error_code", String(64)),
    Column("user_id", String(256)),
    Column("company_id", String(256)),
    Column("model", String(256)),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Index("analytics_events_at", "at"),
    Index("analytics_events_user", "user_id", "at"),
    Index("analytics_events_service", "service", "at"),
)
