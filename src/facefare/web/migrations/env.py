"""Alembic's entry: runs on the connection that `upgrade` hands over. Migrations are written by hand."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
