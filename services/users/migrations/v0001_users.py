"""The tables of users and sessions."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "users",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False, unique=True),
        sa.Column("username", sa.String(64)),
        sa.Column("username_key", sa.String(64), unique=True),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("roles", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("user_id", sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("refreshed_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("reason", sa.String(16)),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("user_agent", sa.String(200), nullable=False),
    )
    op.create_index("sessions_user", "sessions", ["user_id", "created_at"])
    op.create_index("sessions_told", "sessions", ["told", "revoked_at"])
    op.create_index("sessions_expiry", "sessions", ["expires_at"])


def downgrade(op: Operations) -> None:
    """Drop the tables and what they hold."""
    op.drop_table("sessions")
    op.drop_table("users")
