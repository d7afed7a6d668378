"""${message}"""

from jts_storage.migrate import tables

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    tables.execute("ALTER TABLE candles ...")


def downgrade() -> None:
    tables.execute("ALTER TABLE candles ...")
