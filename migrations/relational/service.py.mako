"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    # with op.batch_alter_table("your_table") as table:
    #     table.add_column(sa.Column("your_column", sa.Text()))
    raise NotImplementedError('Write what "${title}" changes.')


def downgrade() -> None:
    # with op.batch_alter_table("your_table") as table:
    #     table.drop_column("your_column")
    raise NotImplementedError('Write what takes "${title}" back.')
