"""Run by alembic, over the connection that :mod:`services.database.database` hands it."""

from alembic import context

attributes = context.config.attributes
tables = attributes["metadata"].tables
context.configure(
    connection=attributes["connection"],
    target_metadata=attributes["metadata"],
    version_table=attributes["version_table"],
    # The database may be shared: other tables are none of this service's business.
    include_name=lambda name, kind, _: kind != "table" or name in tables,
)
with context.begin_transaction():
    context.run_migrations()
