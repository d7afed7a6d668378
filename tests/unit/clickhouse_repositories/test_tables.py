"""The DDL, word by word: on one server, by year, and on a cluster."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Table
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.manager import ClickHouseManager

_CANDLES = (
    "symbol LowCardinality(String), exchange LowCardinality(String),"
    " timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),"
    " open Decimal(18, 4) CODEC(T64, LZ4), high Decimal(18, 4) CODEC(T64, LZ4),"
    " low Decimal(18, 4) CODEC(T64, LZ4), close Decimal(18, 4) CODEC(T64, LZ4),"
    " volume UInt64 CODEC(T64, LZ4), version UInt64 CODEC(Delta(8), ZSTD(1)),"
    " is_deleted UInt8 DEFAULT 0, since UInt64 DEFAULT 0 CODEC(T64, LZ4)"
)
_SYMBOLS = (
    "code String, name String, market LowCardinality(String), sector String, is_active UInt8,"
    " updated_at DateTime64(3, 'UTC'), version UInt64 DEFAULT toUnixTimestamp64Nano(now64(9))"
)
_KEY = "ORDER BY (timeframe, symbol, exchange, timestamp)"
_PLACE = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"


def ddl(table: Table) -> str:
    manager = ClickHouseManager(ClickHouseConfig())
    text = str(CreateTable(table).compile(dialect=manager.engine.dialect))
    return re.sub(r"\( ", "(", re.sub(r"\s+", " ", text)).replace(" )", ")").strip()


def test_on_one_server() -> None:
    built = tables.build()
    assert ddl(built.candles) == (
        f"CREATE TABLE candles ({_CANDLES}) ENGINE = ReplacingMergeTree(version) {_KEY}"
        " SETTINGS non_replicated_deduplication_window=1000"
    )
    assert ddl(built.symbols) == (
        f"CREATE TABLE symbols ({_SYMBOLS}) ENGINE = ReplacingMergeTree(version)"
        " ORDER BY code SETTINGS non_replicated_deduplication_window=1000"
    )


def test_by_year() -> None:
    partitioned = ddl(tables.build(partition_by_year=True).candles)
    assert f"PARTITION BY toYear(timestamp) {_KEY}" in partitioned


def test_on_a_cluster() -> None:
    built = tables.build("jts")
    local = built.metadata.tables["candles_local"]
    assert ddl(local) == (
        f"CREATE TABLE candles_local ON CLUSTER jts ({_CANDLES})"
        f" ENGINE = ReplicatedReplacingMergeTree({_PLACE}, version) {_KEY}"
        " SETTINGS replicated_deduplication_window=1000"
    )
    assert ddl(built.candles) == (
        f"CREATE TABLE candles ON CLUSTER jts ({_CANDLES})"
        " ENGINE = Distributed(jts, currentDatabase(), candles_local, cityHash64(symbol))"
    )
    assert ddl(built.symbols).endswith("symbols_local, cityHash64(code))")
    assert "ReplicatedReplacingMergeTree" in ddl(built.metadata.tables["symbols_local"])


@pytest.mark.parametrize("cluster", [None, "jts"])
def test_the_distributed_table_comes_after_the_one_it_stands_for(cluster: str | None) -> None:
    names = list(tables.build(cluster).metadata.tables)
    assert names == (
        ["candles", "symbols", "candles_history"]
        if cluster is None
        else [
            f"{name}{end}"
            for name in ("candles", "symbols", "candles_history")
            for end in ("_local", "")
        ]
    )
