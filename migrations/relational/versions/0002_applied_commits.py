"""The commits whose bookkeeping is here, so that recovery applies each once."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
moment = sa.DateTime().with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")


def upgrade() -> None:
    op.create_table(
        "applied_commits",
        sa.Column("id", name, nullable=False, primary_key=True),
        sa.Column(
            "applied_at", moment, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP")
        ),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("applied_commits")
