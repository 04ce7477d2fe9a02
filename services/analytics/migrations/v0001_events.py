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
        "analytics_events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("error_code", sa.String(64)),
        sa.Column("user_id", sa.String(256)),
        sa.Column("company_id", sa.String(256)),
        sa.Column("model", sa.String(256)),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    )
    op.create_index("analytics_events_at", "analytics_events", ["at"])
    op.create_index("analytics_events_user", "analytics_events", ["user_id", "at"])
    op.create_index("analytics_events_service", "analytics_events", ["service", "at"])


def downgrade(op: Operations) -> None:
    """Drop the table and what it holds."""
    op.drop_table("analytics_events")
