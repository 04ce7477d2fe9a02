"""Run by alembic, over the connection that :mod:`app.events.sql.migrating` hands it."""

from alembic import context

from app.events.sql.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    version_table="tidegate_events_version",
    # The database may be shared: other tables are none of our business.
    include_name=lambda name, kind, _: kind != "table" or name in METADATA.tables,
)
with context.begin_transaction():
    context.run_migrations()
