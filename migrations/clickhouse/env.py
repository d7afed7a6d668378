"""What Alembic runs; the kit hands it the connection and the options."""

from jts_storage.migrate.environment import run

run()
