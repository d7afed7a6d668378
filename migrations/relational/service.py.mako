"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    with op.batch_alter_table("balances") as table:
        table.add_column(sa.Column("note", sa.Text()))


def downgrade() -> None:
    with op.batch_alter_table("balances") as table:
        table.drop_column("note")
