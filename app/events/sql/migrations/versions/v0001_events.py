"""The table of events."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Create the table and its indexes."""
    op.create_table(
        "tidegate_events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("error_code", sa.String(64)),
        sa.Column("user_id", sa.String),
        sa.Column("company_id", sa.String),
        sa.Column("route", sa.String),
        sa.Column("upstream", sa.String),
        sa.Column("model", sa.String(256)),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("completion_tokens", sa.BigInteger),
        sa.Column("tokens_source", sa.String(16)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("generation_id", sa.String(64)),
    )
    for name, columns in (
        ("timestamp", ["timestamp"]),
        ("user", ["user_id", "timestamp"]),
        ("service", ["service", "timestamp"]),
        ("company", ["company_id", "timestamp"]),
    ):
        op.create_index(f"tidegate_events_{name}", "tidegate_events", columns)


def downgrade(op: Operations) -> None:
    """Drop the table and what it holds."""
    op.drop_table("tidegate_events")
