"""The tables of documents and their passages."""

from alembic.operations import Operations

from services.library.tables import DOCUMENTS, METADATA, PASSAGES

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Create the tables and their indexes."""
    METADATA.create_all(op.get_bind(), [DOCUMENTS, PASSAGES])
    # Rows of up to a page stay whole: a search looks at the words of each of very many passages.
    op.execute("ALTER TABLE library_passages SET (toast_tuple_target = 8160)")


def downgrade(op: Operations) -> None:
    """Drop the tables and what they hold."""
    METADATA.drop_all(op.get_bind(), [PASSAGES, DOCUMENTS])
