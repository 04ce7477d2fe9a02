"""The table of events. Its columns are the event's fields; what changes here needs a migration."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Double, Index, Integer, MetaData, String, Table

__all__ = ["EVENTS", "METADATA"]

METADATA = MetaData()
EVENTS = Table(
    "tidegate_events",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("service", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("status_code", Integer),
    Column("error_code", String(64)),
    Column("user_id", String),
    Column("company_id", String),
    Column("route", String),
    Column("upstream", String),
    Column("model", String(256)),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("tokens_source", String(16)),
    Column("request_id", String(128)),
    Column("generation_id", String(64)),
    Index("tidegate_events_timestamp", "timestamp"),
    Index("tidegate_events_user", "user_id", "timestamp"),
    Index("tidegate_events_service", "service", "timestamp"),
    Index("tidegate_events_company", "company_id", "timestamp"),
)
