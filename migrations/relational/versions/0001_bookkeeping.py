"""The bookkeeping: aggregates, bars and checkpoints."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0001"
down_revision = None

NAMES = ("checkpoints", "ohlcv_bars", "symbol_bars_aggregates")

name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
price = sa.Numeric(18, 4).with_variant(sqlite.INTEGER(), "sqlite")
volume = sa.Numeric(20, 0).with_variant(sqlite.INTEGER(), "sqlite")
moment = sa.DateTime().with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")
int64 = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
now = sa.text("CURRENT_TIMESTAMP")


def upgrade() -> None:
    # A database whose tables were made without migrations has them already.
    op.create_table(
        "symbol_bars_aggregates",
        sa.Column("symbol", name, nullable=False),
        sa.Column("trading_date", name, nullable=False),
        sa.Column("version", int64, nullable=False, server_default=sa.text("1")),
        sa.Column("is_complete", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("collection_started", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("bar_count", int64, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("symbol", "trading_date"),
        if_not_exists=True,
    )
    op.create_table(
        "ohlcv_bars",
        sa.Column("symbol", name, nullable=False),
        sa.Column("exchange", name, nullable=False, server_default=""),
        sa.Column("timeframe", name, nullable=False),
        sa.Column("timestamp_ms", int64, nullable=False),
        *(
            sa.Column(f"{each}_price", price, nullable=False)
            for each in ("open", "high", "low", "close")
        ),
        sa.Column("volume", volume, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("symbol", "exchange", "timeframe", "timestamp_ms"),
        if_not_exists=True,
    )
    op.create_table(
        "checkpoints",
        sa.Column("symbol", name, nullable=False, primary_key=True),
        sa.Column("checkpoint_data", sa.Text, nullable=False),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
        if_not_exists=True,
    )


def downgrade() -> None:
    # No older schema could hold the rows, so a table that has any stays.
    for table in NAMES:
        if context.is_offline_mode():
            op.execute(f"-- drop {table} if it is empty")
        elif not op.get_bind().execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).first():
            op.drop_table(table)
