"""The tables: what they hold, how it is ordered, and what of it is the latest.

Both are upserts. A row is replaced by one of the same sort key and a higher version, and reads ask
for the latest with FINAL. A deleted candle is a row too: a later version that says so, which reads
leave out. The engine is not told of that column: it would then merge every row of every read,
even where no two rows compete (docs/decisions/ has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clickhouse_sqlalchemy import engines, types
from clickhouse_sqlalchemy.sql import Select
from sqlalchemy import Column, MetaData, Table, func, text

DEDUPLICATION_WINDOW = 1_000
"""How many of the latest inserts are remembered, so that a repeated one is recognised."""

_LOCAL_SUFFIX = "_local"
_REPLICA_PATH = "/clickhouse/tables/{shard}/{database}/{table}"


class LatestRows(engines.MergeTree):  # type: ignore[misc]
    """ReplacingMergeTree(version), replicated on a cluster."""

    def __init__(self, *, version: str, replicated: bool, **options: Any):
        super().__init__(**options)
        self.version, self.replicated = version, replicated

    @property
    def name(self) -> str:
        return "ReplicatedReplacingMergeTree" if self.replicated else "ReplacingMergeTree"

    def get_parameters(self) -> list[Any]:
        place = [f"'{_REPLICA_PATH}'", "'{replica}'"] if self.replicated else []
        return [*place, text(self.version)]


class LatestSelect(Select):  # type: ignore[misc]
    """A SELECT of the latest rows, FINAL in every case.

    The library's own has no cache key, since its clauses come and go; this one is always alike,
    so SQLAlchemy compiles it once.
    """

    inherit_cache = True
    _final_clause = True


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables that statements use, and those that hold the rows (the same, but on a cluster)."""

    metadata: MetaData
    candles: Table
    symbols: Table


@lru_cache(maxsize=8)
def build(cluster: str | None = None, *, partition_by_year: bool = False) -> Tables:
    """The models for one server, or for a cluster of that name.

    :param partition_by_year: split candles by year, for those who drop whole years; it costs
        writes and reads that cross years.
    """
    metadata = MetaData()
    candles = _table(
        metadata,
        "candles",
        cluster,
        LatestRows(
            version="version",
            replicated=cluster is not None,
            order_by=("symbol", "exchange", "timeframe", "timestamp"),
            partition_by=func.toYear(text("timestamp")) if partition_by_year else None,
            **_window(cluster),
        ),
        _candle_columns(),
    )
    symbols = _table(
        metadata,
        "symbols",
        cluster,
        LatestRows(
            version="version",
            replicated=cluster is not None,
            order_by=("code",),
            **_window(cluster),
        ),
        _symbol_columns(),
    )
    if cluster is None:
        return Tables(metadata, candles, symbols)
    return Tables(
        metadata,
        _distributed(metadata, "candles", cluster, "symbol", _candle_columns()),
        _distributed(metadata, "symbols", cluster, "code", _symbol_columns()),
    )


def _candle_columns() -> list[Column[Any]]:
    # Codecs were chosen by measuring: docs/decisions/ has the figures.
    price = types.Decimal(18, 4)
    return [
        Column("symbol", types.LowCardinality(types.String), nullable=False),
        Column("exchange", types.LowCardinality(types.String), nullable=False),
        Column("timeframe", types.LowCardinality(types.String), nullable=False),
        Column("timestamp", types.DateTime64(3, "UTC"), clickhouse_codec=("Delta(8)", "LZ4")),
        *(
            Column(name, price, clickhouse_codec=("T64", "LZ4"))
            for name in ("open", "high", "low", "close")
        ),
        Column("volume", types.UInt64, clickhouse_codec=("T64", "LZ4")),
        Column("version", types.UInt64, clickhouse_codec=("T64", "LZ4")),
        Column("is_deleted", types.UInt8, server_default=text("0")),
    ]


def _symbol_columns() -> list[Column[Any]]:
    return [
        Column("code", types.String, primary_key=True),
        Column("name", types.String),
        Column("market", types.LowCardinality(types.String)),
        Column("sector", types.String),
        Column("is_active", types.UInt8),
        Column("updated_at", types.DateTime64(3, "UTC")),
        # Other programs name no version: theirs is the moment of their write.
        Column("version", types.UInt64, server_default=text("toUnixTimestamp64Nano(now64(9))")),
    ]


def _table(
    metadata: MetaData,
    name: str,
    cluster: str | None,
    engine: engines.MergeTree,
    columns: list[Column[Any]],
) -> Table:
    if cluster is None:
        return Table(name, metadata, *columns, engine)
    return Table(f"{name}{_LOCAL_SUFFIX}", metadata, *columns, engine, clickhouse_cluster=cluster)


def _distributed(
    metadata: MetaData, name: str, cluster: str, sharded_by: str, columns: list[Column[Any]]
) -> Table:
    engine = engines.Distributed(
        cluster,
        text("currentDatabase()"),
        f"{name}{_LOCAL_SUFFIX}",
        func.cityHash64(text(sharded_by)),
    )
    return Table(name, metadata, *columns, engine, clickhouse_cluster=cluster)


def _window(cluster: str | None) -> dict[str, int]:
    prefix = "non_replicated" if cluster is None else "replicated"
    return {f"{prefix}_deduplication_window": DEDUPLICATION_WINDOW}
