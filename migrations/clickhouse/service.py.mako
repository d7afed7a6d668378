"""${message}"""

from jts_storage.migrate import tables

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    # tables.alter("your_table", "ADD COLUMN IF NOT EXISTS your_column String")
    raise NotImplementedError('Write what "${title}" changes.')


def downgrade() -> None:
    # tables.alter("your_table", "DROP COLUMN IF EXISTS your_column")
    raise NotImplementedError('Write what takes "${title}" back.')
