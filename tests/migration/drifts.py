"""Kinds of drift of ClickHouse tables that hold rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.migration.test_drift import CANDLES, ORDER, SYMBOLS, WINDOW


@dataclass(frozen=True)
class Drift:
    """
    :param keeps: whether the drift itself lost no value.
    """

    name: str
    statements: tuple[str, ...]
    keeps: bool = True

    def __str__(self) -> str:
        return self.name


def altered(name: str, change: str, *, table: str = "candles", **options: Any) -> Drift:
    return Drift(name, (f"ALTER TABLE {table} {change}",), **options)


def remade(name: str, create: str, *, table: str = "candles", select: str = "*") -> Drift:
    return Drift(
        name,
        (
            f"RENAME TABLE {table} TO away",
            create,
            f"INSERT INTO {table} SELECT {select} FROM away",
            "DROP TABLE away SYNC",
        ),
    )


def candles(
    columns: str = CANDLES, engine: str = "ReplacingMergeTree(version)", order: str = ORDER
) -> str:
    return f"{columns} ENGINE = {engine}{order}{WINDOW}"


SYMBOLS_UTC = SYMBOLS.format(zone="UTC")
MICROSECONDS = CANDLES.replace("DateTime64(3, 'UTC') CODEC(Delta(8), LZ4)", "DateTime64(6, 'UTC')")

DRIFTS = [
    altered("narrower volume", "MODIFY COLUMN volume UInt32 CODEC(T64, LZ4)"),
    altered("finer prices", "MODIFY COLUMN open Decimal(18, 6) CODEC(T64, LZ4)"),
    altered("signed volume", "MODIFY COLUMN volume Int64"),
    altered("volume of floats", "MODIFY COLUMN volume Float64 CODEC(NONE)"),
    altered("volume as text", "MODIFY COLUMN volume String CODEC(NONE)"),
    altered("nullable volume", "MODIFY COLUMN volume Nullable(UInt64)"),
    altered("nullable sector", "MODIFY COLUMN sector Nullable(String)", table="symbols"),
    altered("fixed name", "MODIFY COLUMN name FixedString(40)", table="symbols"),
    altered("market as text", "MODIFY COLUMN market String", table="symbols"),
    altered("zone", "MODIFY COLUMN updated_at DateTime64(3, 'Asia/Seoul')", table="symbols"),
    altered("default", "MODIFY COLUMN is_deleted DEFAULT 1"),
    altered("codec", "MODIFY COLUMN close CODEC(ZSTD(1))"),
    altered("statistics", "ADD STATISTICS volume TYPE minmax"),
    altered("index", "ADD INDEX by_volume volume TYPE minmax GRANULARITY 2"),
    altered("constraint", "ADD CONSTRAINT positive CHECK volume >= 0"),
    altered("window", "MODIFY SETTING non_replicated_deduplication_window = 10"),
    altered("throws", "MODIFY SETTING parts_to_throw_insert = 1"),
    altered("delays", "MODIFY SETTING parts_to_delay_insert = 2"),
    altered("read only", "MODIFY SETTING table_readonly = 1"),
    altered("column order", "MODIFY COLUMN volume UInt64 FIRST"),
    altered("surplus column", "ADD COLUMN note String DEFAULT 'x'"),
    altered("computed column", "ADD COLUMN middle Decimal(18, 4) MATERIALIZED (high + low) / 2"),
    altered("column dropped", "DROP COLUMN volume", keeps=False),
    altered("renamed sector", "RENAME COLUMN sector TO branch", table="symbols"),
    Drift(
        "renamed and moved",
        (
            "ALTER TABLE symbols RENAME COLUMN sector TO branch",
            "ALTER TABLE symbols MODIFY COLUMN branch String FIRST",
        ),
    ),
    Drift(
        "two renamed",
        (
            "ALTER TABLE candles RENAME COLUMN high TO top, RENAME COLUMN low TO bottom",
            "ALTER TABLE candles MODIFY COLUMN bottom Decimal(18, 4) CODEC(NONE)",
        ),
    ),
    altered(
        "order by one column more",
        "ADD COLUMN extra UInt8, MODIFY ORDER BY (timeframe, symbol, exchange, timestamp, extra)",
    ),
    altered("ttl of a column", "MODIFY COLUMN low TTL toDateTime(timestamp) + INTERVAL 15 YEAR"),
    altered("ttl", "MODIFY TTL toDateTime(timestamp) + INTERVAL 15 YEAR"),
    remade("by month", candles(order=f" PARTITION BY toYYYYMM(timestamp){ORDER}")),
    remade("longer key", candles(order=ORDER.replace("timestamp)", "timestamp, volume)"))),
    remade("other key", candles(order=" ORDER BY (symbol, exchange, timeframe, timestamp)")),
    remade("engine drops the deleted", candles(engine="ReplacingMergeTree(version, is_deleted)")),
    remade("no version", candles(engine="ReplacingMergeTree")),
    remade("plain MergeTree", candles(engine="MergeTree")),
    remade("microseconds in the key", candles(MICROSECONDS)),
    remade(
        "nullable key",
        candles(
            CANDLES.replace(
                "exchange LowCardinality(String)", "exchange LowCardinality(Nullable(String))"
            )
        )
        + ", allow_nullable_key = 1",
    ),
    remade("shorter primary key", candles(order=f" PRIMARY KEY timeframe{ORDER}")),
    remade(
        "plain MergeTree and a nullable price",
        candles(
            CANDLES.replace("open Decimal(18, 4) CODEC(T64, LZ4)", "open Nullable(Decimal(18, 4))"),
            "MergeTree",
        ),
    ),
    remade(
        "versions of symbols by moment",
        f"{SYMBOLS_UTC} ENGINE = ReplacingMergeTree(updated_at) ORDER BY code{WINDOW}",
        table="symbols",
    ),
    Drift(
        "view", ("RENAME TABLE candles TO rows", "CREATE VIEW candles AS SELECT * FROM rows FINAL")
    ),
    Drift(
        "materialised view in the place",
        (
            "RENAME TABLE candles TO rows",
            "CREATE MATERIALIZED VIEW candles ENGINE = MergeTree ORDER BY timestamp POPULATE"
            " AS SELECT * FROM rows",
        ),
    ),
    Drift("renamed away", ("RENAME TABLE candles TO candles_away",)),
    Drift("detached", ("DETACH TABLE candles PERMANENTLY",)),
    Drift("dropped", ("DROP TABLE symbols SYNC",), keeps=False),
    Drift("log emptied", ("TRUNCATE TABLE jts_schema_log",)),
    Drift("log of versions gone", ("DROP TABLE jts_schema_log SYNC",)),
    Drift(
        "view that writes to a table",
        (
            "CREATE TABLE counts (symbol String, n UInt64) ENGINE = MergeTree ORDER BY symbol",
            "CREATE MATERIALIZED VIEW counting TO counts AS"
            " SELECT symbol, count() AS n FROM candles GROUP BY symbol",
        ),
    ),
    Drift(
        "view with rows of its own",
        (
            "CREATE MATERIALIZED VIEW counting ENGINE = SummingMergeTree ORDER BY symbol POPULATE"
            " AS SELECT symbol, count() AS n FROM candles GROUP BY symbol",
        ),
    ),
    Drift(
        "mutation that fails",
        ("ALTER TABLE candles UPDATE volume = throwIf(1) WHERE 1 SETTINGS mutations_sync = 0",),
    ),
]
