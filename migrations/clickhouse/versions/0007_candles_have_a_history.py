"""Candles that are corrected or deleted are kept, with the versions that they had."""

from jts_storage.migrate import tables

revision = "0007"
down_revision = "0006"

PRICES = ", ".join(
    f"{name} Decimal(18, 4) CODEC(T64, LZ4)" for name in ("open", "high", "low", "close")
)


def history() -> tables.Definition:
    return tables.Definition(
        columns="symbol LowCardinality(String), exchange LowCardinality(String),"
        " timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),"
        f" {PRICES}, volume UInt64 CODEC(T64, LZ4), since UInt64 CODEC(T64, LZ4),"
        " ended UInt64 CODEC(T64, LZ4), source LowCardinality(String)",
        engine="ReplacingMergeTree",
        arguments="ended",
        order_by="(timeframe, symbol, exchange, timestamp, since)",
        partition_by="toYear(timestamp)" if tables.run().partition_by_year else None,
        sharded_by="symbol",
        settings={"non_replicated_deduplication_window": 1000},
    )


def upgrade() -> None:
    tables.alter("candles", "ADD COLUMN IF NOT EXISTS since UInt64 DEFAULT 0 CODEC(T64, LZ4)")
    tables.create("candles_history", history())


def downgrade() -> None:
    # On a cluster the tables that hold the rows stay behind.
    tables.drop_if_empty("candles_history")
    # It is gone for every reader at once; the parts are rewritten behind that.
    behind = "SETTINGS alter_sync = 0, mutations_sync = 0"
    tables.alter("candles", f"DROP COLUMN IF EXISTS since {behind}")
