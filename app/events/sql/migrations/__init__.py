"""The steps from one form of the table to the next, for alembic."""
