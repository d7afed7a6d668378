"""The tables: what they hold, how it is ordered, and what of it is the latest.

Candles and symbols are upserts. A row is replaced by one of the same sort key and a higher version,
and reads ask for the latest with FINAL. A deleted candle is a row too: a later version that says
so, which reads leave out. The engine is not told of that column: it would then merge every row of
every read, even where no two rows compete (docs/decisions/ has the figures).

What a candle was before it was corrected or deleted is kept in a table of its own, so that reads of
what is the latest pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from clickhouse_sqlalchemy import engines, types
from sqlalchemy import Column, MetaData, Table, func, text

from jts_storage.clickhouse.sqlalchemy_internals import NamedMergeTree
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.models.tables import TableModel

AnyTableModel: TypeAlias = TableModel[Any, Any]

DEDUPLICATION_WINDOW = 1_000
"""How many of the latest inserts are remembered, so that a repeated one is recognised."""

_LOCAL_SUFFIX = "_local"
_REPLICA_PATH = "/clickhouse/tables/{shard}/{database}/{table}"


def _key(name: str) -> Column[str]:
    return Column(name, types.LowCardinality(types.String), nullable=False)


def _number(name: str, kind: Any) -> Column[Any]:
    # Codecs were chosen by measuring: docs/decisions/ has the figures.
    return Column(name, kind, clickhouse_codec=("T64", "LZ4"))


def _candle() -> Iterator[Column[Any]]:
    yield from map(_key, ("symbol", "exchange", "timeframe"))
    yield Column("timestamp", types.DateTime64(3, "UTC"), clickhouse_codec=("Delta(8)", "LZ4"))
    for price in ("open", "high", "low", "close"):
        yield _number(price, types.Decimal(18, 4))
    yield _number("volume", types.UInt64)


CANDLES: Final = Table(
    "candles",
    MetaData(),
    *_candle(),
    Column("version", types.UInt64, clickhouse_codec=("Delta(8)", "ZSTD(1)")),
    Column("is_deleted", types.UInt8, server_default=text("0")),
    Column("since", types.UInt64, server_default=text("0"), clickhouse_codec=("T64", "LZ4")),
)
"""The columns of candles; `build` gives them an engine.

`since` is the version that first had these values, where a later one wrote the same again; 0 where
that is the row's own.
"""

HISTORY: Final = Table(
    "candles_history",
    MetaData(),
    *_candle(),
    _number("since", types.UInt64),
    _number("ended", types.UInt64),
    Column("source", types.LowCardinality(types.String)),
)
"""What candles were, from the version `since` until the version `ended` replaced or deleted it.

`source` is what the commit that ended it said of itself.
"""

CANDLES_ORDER: Final = ("timeframe", "symbol", "exchange", "timestamp")
"""How they lie on disk: what reads one timeframe of a whole market reads no row of another."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables that statements use, and those that hold the rows (the same, but on a cluster)."""

    metadata: MetaData
    candles: Table
    symbols: Table
    history: Table


@dataclass(frozen=True, slots=True)
class _Layout:
    """How rows lie on disk, and how a cluster spreads them.

    :param sharded_by: a column of the key: rows of one key must meet on one shard, or FINAL could
        not merge them.
    :param version: the column by which the later of two rows is known; None where rows are only
        appended.
    """

    order_by: Sequence[str]
    sharded_by: str
    version: str | None
    partition_by: Any = None


@lru_cache(maxsize=8)
def build(cluster: str | None = None, *, partition_by_year: bool = False) -> Tables:
    """The tables of the kit for one server, or for a cluster of that name.

    :param partition_by_year: split candles by year, for those who drop whole years; it costs
        writes and reads that cross years.
    """
    metadata = MetaData()
    year, kept_year = (
        func.toYear(table.c.timestamp) if partition_by_year else None
        for table in (CANDLES, HISTORY)
    )
    layout = _Layout(CANDLES_ORDER, "symbol", "version", year)
    candles = _laid_out(CANDLES, layout, metadata, cluster)
    # A commit that is repeated, or finished by another process, keeps the same rows once.
    kept = _Layout((*CANDLES_ORDER, "since"), "symbol", "ended", kept_year)
    symbols = table_of(SYMBOLS, metadata, cluster)
    return Tables(metadata, candles, symbols, _laid_out(HISTORY, kept, metadata, cluster))


def table_of(model: AnyTableModel, metadata: MetaData, cluster: str | None) -> Table:
    """The model's table with its engine, in `metadata`; on a cluster with the local ones."""
    version = model.version if model.mode == "upsert" else None
    layout = _Layout(model.order_by, model.key[0], version, model.partition_by)
    return _laid_out(model.table, layout, metadata, cluster)


def _laid_out(bare: Table, layout: _Layout, metadata: MetaData, cluster: str | None) -> Table:
    if cluster is None:
        return _with_engine(bare, layout, metadata, bare.name, None)
    _with_engine(bare, layout, metadata, local_name(bare.name), cluster)
    engine = spread(cluster, bare.name, bare.c[layout.sharded_by])
    bare.to_metadata(metadata)
    return Table(bare.name, metadata, engine, clickhouse_cluster=cluster, extend_existing=True)


def _with_engine(
    bare: Table, layout: _Layout, metadata: MetaData, name: str, cluster: str | None
) -> Table:
    c = bare.to_metadata(metadata, name=name).c
    engine = rows(
        is_replicated=cluster is not None,
        version=None if layout.version is None else c[layout.version],
        order_by=tuple(c[key] for key in layout.order_by),
        partition_by=layout.partition_by,
    )
    on: dict[str, Any] = {} if cluster is None else {"clickhouse_cluster": cluster}
    return Table(name, metadata, engine, extend_existing=True, **on)


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


def local_name(name: str) -> str:
    """Return what a table is called that holds the rows of one host."""
    return f"{name}{_LOCAL_SUFFIX}"


def on_all(name: str, cluster: str | None) -> str:
    """A table's name, and what says that all servers of a cluster are meant."""
    return name if cluster is None else f"{name} ON CLUSTER {cluster}"


def holding(name: str, cluster: str | None) -> str:
    """The table that holds the rows, and what a cluster needs beside it to change them."""
    return on_all(name if cluster is None else local_name(name), cluster)


def spread(cluster: str, name: str, sharded_by: Column[Any]) -> engines.Distributed:
    """The engine that spreads rows over the local tables of a cluster."""
    return engines.Distributed(
        cluster, text("currentDatabase()"), local_name(name), func.cityHash64(sharded_by)
    )
