"""Runs the migrations on the connection that the store hands over, inside its transaction."""

from alembic import context

from provider_agent.coordinator.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite changes a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
