"""The tables of organisations, members, invitations and events."""

from alembic.operations import Operations

from services.organisations.tables import ACTIVE, INVITES, MEMBERS, METADATA, ORGANISATIONS, OUTBOX

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Create the tables and their indexes."""
    METADATA.create_all(op.get_bind(), [ORGANISATIONS, MEMBERS, INVITES, ACTIVE, OUTBOX])


def downgrade(op: Operations) -> None:
    """Drop the tables and what they hold."""
    METADATA.drop_all(op.get_bind(), [OUTBOX, ACTIVE, INVITES, MEMBERS, ORGANISATIONS])
