"""Alembic's steps for the library in PostgreSQL."""
