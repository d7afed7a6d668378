"""The tables: what they hold, how it is ordered, and what of it is the latest.

Both are upserts. A row is replaced by one of the same sort key and a higher version, and reads ask
for the latest with FINAL. A deleted candle is a row too: a later version that says so, which reads
leave out. The engine is not told of that column: it would then merge every row of every read,
even where no two rows compete (docs/decisions/ has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clickhouse_sqlalchemy import engines, types
from sqlalchemy import Column, MetaData, Table, func, text

from jts_storage.clickhouse.sqlalchemy_internals import NamedMergeTree

DEDUPLICATION_WINDOW = 1_000
"""How many of the latest inserts are remembered, so that a repeated one is recognised."""

_LOCAL_SUFFIX = "_local"
_REPLICA_PATH = "/clickhouse/tables/{shard}/{database}/{table}"


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
    if cluster is None:
        one_server = _declared(is_replicated=False, by_year=partition_by_year)
        return Tables(metadata, *(_table(metadata, each) for each in one_server))
    for each in _declared(is_replicated=True, by_year=partition_by_year):
        _local_table(metadata, each, cluster)
    # A column belongs to one table, so the distributed tables need others.
    spread = _declared(is_replicated=True, by_year=partition_by_year)
    return Tables(metadata, *(_distributed(metadata, each, cluster) for each in spread))


@dataclass(frozen=True, slots=True)
class _Declaration:
    """A table, whatever it becomes.

    :param sharded_by: the column by which a cluster spreads the rows.
    """

    name: str
    columns: Sequence[Column[Any]]
    engine: NamedMergeTree
    sharded_by: Column[Any]


def _declared(*, is_replicated: bool, by_year: bool) -> list[_Declaration]:
    """Both tables, with columns of their own: a column belongs to one table."""
    return [
        _candles(is_replicated=is_replicated, by_year=by_year),
        _symbols(is_replicated=is_replicated),
    ]


def _candles(*, is_replicated: bool, by_year: bool) -> _Declaration:
    # Codecs were chosen by measuring: docs/decisions/ has the figures.
    name = types.LowCardinality(types.String)
    number: dict[str, Any] = {"clickhouse_codec": ("T64", "LZ4")}
    key = [Column(each, name, nullable=False) for each in ("symbol", "exchange", "timeframe")]
    timestamp = Column(
        "timestamp", types.DateTime64(3, "UTC"), clickhouse_codec=("Delta(8)", "LZ4")
    )
    prices = ("open", "high", "low", "close")
    version = Column("version", types.UInt64, **number)
    return _Declaration(
        "candles",
        [
            *key,
            timestamp,
            *(Column(each, types.Decimal(18, 4), **number) for each in prices),
            Column("volume", types.UInt64, **number),
            version,
            Column("is_deleted", types.UInt8, server_default=text("0")),
        ],
        rows(
            version=version,
            is_replicated=is_replicated,
            order_by=(*key, timestamp),
            partition_by=func.toYear(timestamp) if by_year else None,
        ),
        sharded_by=key[0],  # rows of one key must meet on one shard, or FINAL cannot merge them
    )


def _symbols(*, is_replicated: bool) -> _Declaration:
    code = Column("code", types.String, primary_key=True)
    # Other programs name no version: theirs is the moment of their write.
    moment = text("toUnixTimestamp64Nano(now64(9))")
    version = Column("version", types.UInt64, server_default=moment)
    return _Declaration(
        "symbols",
        [
            code,
            Column("name", types.String),
            Column("market", types.LowCardinality(types.String)),
            Column("sector", types.String),
            Column("is_active", types.UInt8),
            Column("updated_at", types.DateTime64(3, "UTC")),
            version,
        ],
        rows(version=version, is_replicated=is_replicated, order_by=(code,)),
        sharded_by=code,
    )


def rows(*, is_replicated: bool, version: Column[int] | None = None, **options: Any) -> Any:
    """MergeTree, or ReplacingMergeTree where a version is given; replicated on a cluster."""
    window = "replicated" if is_replicated else "non_replicated"
    options[f"{window}_deduplication_window"] = DEDUPLICATION_WINDOW
    kind = "MergeTree" if version is None else "ReplacingMergeTree"
    parameters = [] if version is None else [version]
    if is_replicated:
        return NamedMergeTree(
            f"Replicated{kind}", [f"'{_REPLICA_PATH}'", "'{replica}'", *parameters], **options
        )
    return NamedMergeTree(kind, parameters, **options)


def _table(metadata: MetaData, declared: _Declaration) -> Table:
    return Table(declared.name, metadata, *declared.columns, declared.engine)


def _local_table(metadata: MetaData, declared: _Declaration, cluster: str) -> Table:
    """The table that holds the rows of one host."""
    return Table(
        local_name(declared.name),
        metadata,
        *declared.columns,
        declared.engine,
        clickhouse_cluster=cluster,
    )


def _distributed(metadata: MetaData, declared: _Declaration, cluster: str) -> Table:
    engine = spread(cluster, declared.name, declared.sharded_by)
    return Table(declared.name, metadata, *declared.columns, engine, clickhouse_cluster=cluster)


def local_name(name: str) -> str:
    """Return what a table is called that holds the rows of one host."""
    return f"{name}{_LOCAL_SUFFIX}"


def spread(cluster: str, name: str, sharded_by: Column[Any]) -> engines.Distributed:
    """The engine that spreads rows over the local tables of a cluster."""
    return engines.Distributed(
        cluster, text("currentDatabase()"), local_name(name), func.cityHash64(sharded_by)
    )
