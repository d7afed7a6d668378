"""${message}"""

from jts_storage.migrate import tables

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    tables.alter("ticks", "ADD COLUMN IF NOT EXISTS venue String")


def downgrade() -> None:
    tables.alter("ticks", "DROP COLUMN IF EXISTS venue")
