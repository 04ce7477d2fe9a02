"""What alembic runs for every service: each has its own steps."""
