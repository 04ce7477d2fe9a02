"""The tables of conversations, messages, prompts, documents and events."""

from alembic.operations import Operations

from services.chatui.tables import CONVERSATIONS, DOCUMENTS, MESSAGES, METADATA, OUTBOX, PROMPTS

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Create the tables and their indexes."""
    METADATA.create_all(op.get_bind(), [CONVERSATIONS, MESSAGES, PROMPTS, DOCUMENTS, OUTBOX])


def downgrade(op: Operations) -> None:
    """Drop the tables and what they hold."""
    METADATA.drop_all(op.get_bind(), [OUTBOX, DOCUMENTS, PROMPTS, MESSAGES, CONVERSATIONS])
