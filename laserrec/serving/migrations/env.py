"""Run migrations on the connection that `SqlStore.open` hands over."""

from alembic import context

from laserrec.serving.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
