"""Candles become rows that a later version replaces, on one exchange each."""

from dataclasses import replace

from jts_storage.migrate import tables
from jts_storage.migrate.copying import WRITTEN, Copy

revision = "0002"
down_revision = "0001"

KEY = ("symbol", "exchange", "timeframe", "timestamp")
PRICES = ("open", "high", "low", "close")
CARRIED = (*KEY, *PRICES, "volume")


def upserts() -> tables.Definition:
    prices = ", ".join(f"{name} Decimal(18, 4) CODEC(T64, LZ4)" for name in PRICES)
    return tables.Definition(
        columns="symbol LowCardinality(String), exchange LowCardinality(String),"
        " timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(DoubleDelta),"
        f" {prices}, volume UInt64 CODEC(T64, LZ4), version UInt64 CODEC(DoubleDelta, LZ4),"
        " is_deleted UInt8 DEFAULT 0",
        engine="ReplacingMergeTree",
        arguments="version",
        order_by=f"({', '.join(KEY)})",
        partition_by="toYear(timestamp)" if tables.run().partition_by_year else None,
        sharded_by="symbol",
        settings={"non_replicated_deduplication_window": 1000},
        marker=("version", "UInt64"),
    )


def as_jts_had_them() -> tables.Definition:
    return tables.Definition(
        columns="symbol String, exchange String, timeframe String, timestamp DateTime64(3),"
        " open Decimal64(4), high Decimal64(4), low Decimal64(4), close Decimal64(4),"
        " volume UInt64",
        engine="MergeTree",
        order_by="(symbol, timeframe, timestamp)",
        marker=("symbol", "String"),
    )


# Of rows with the same key the one inserted last counts; any later write goes before it.
LATEST_WRITTEN = Copy(
    values={name: name for name in CARRIED} | {"version": WRITTEN, "is_deleted": "0"},
    key=KEY,
    latest=WRITTEN,
    compared={name: name for name in CARRIED},
    summed=[f"reinterpret({name}, 'Int64')" for name in (*PRICES, "volume")],
    grouped_by={
        "symbol": "symbol",
        "exchange": "exchange",
        "timeframe": "timeframe",
        "day": "toDate32(timestamp, 'UTC')",
    },
)
WITHOUT_VERSIONS = replace(
    LATEST_WRITTEN,
    values={name: name for name in CARRIED},
    source_is_ours=True,
    source_where="NOT is_deleted",
    is_repeatable=False,
)


def upgrade() -> None:
    tables.replace("candles", upserts(), LATEST_WRITTEN)


def downgrade() -> None:
    tables.replace("candles", as_jts_had_them(), WITHOUT_VERSIONS, keep=False)
