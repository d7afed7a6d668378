"""Candles lie on disk by timeframe first, so that what reads one of a whole market reads no other.

Rows keep their versions, and deleted ones are carried too: what is the latest stays the latest.
"""

from jts_storage.migrate import tables
from jts_storage.migrate.copying import Copy

revision = "0006"
down_revision = "0005"

KEY = ("symbol", "exchange", "timeframe", "timestamp")
PRICES = ("open", "high", "low", "close")
STORED = (*KEY, *PRICES, "volume", "version", "is_deleted")


def ordered_by(*key: str) -> tables.Definition:
    prices = ", ".join(f"{name} Decimal(18, 4) CODEC(T64, LZ4)" for name in PRICES)
    return tables.Definition(
        columns="symbol LowCardinality(String), exchange LowCardinality(String),"
        " timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),"
        f" {prices}, volume UInt64 CODEC(T64, LZ4), version UInt64 CODEC(T64, LZ4),"
        " is_deleted UInt8 DEFAULT 0",
        engine="ReplacingMergeTree",
        arguments="version",
        order_by=f"({', '.join(key)})",
        partition_by="toYear(timestamp)" if tables.run().partition_by_year else None,
        sharded_by="symbol",
        settings={"non_replicated_deduplication_window": 1000},
    )


TAKE_OVER = Copy(
    values={name: name for name in STORED},
    key=KEY,
    latest="version",
    compared={name: name for name in STORED},
    summed=[*(f"reinterpret({name}, 'Int64')" for name in (*PRICES, "volume")), "is_deleted"],
    grouped_by={
        "symbol": "symbol",
        "exchange": "exchange",
        "timeframe": "timeframe",
        "day": "toDate32(timestamp, 'UTC')",
    },
    source_is_ours=True,
    version="version",
)


def upgrade() -> None:
    # What the migration to versions kept has the name without a number.
    by_timeframe = ordered_by("timeframe", "symbol", "exchange", "timestamp")
    tables.replace("candles", by_timeframe, TAKE_OVER, first_number=2)


def downgrade() -> None:
    tables.replace("candles", ordered_by(*KEY), TAKE_OVER, keep=False)
