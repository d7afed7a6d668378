"""The tables in which the migrations of ClickHouse keep what they have done, and their lock."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from clickhouse_sqlalchemy import engines, types
from sqlalchemy import Column, MetaData, Table, text
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse.constructs import ddl_of
from jts_storage.clickhouse.sqlalchemy_internals import NamedMergeTree

LOG_TABLE: Final = "jts_schema_log"
LOCK_TABLE: Final = "jts_schema_lock"

_REPLICA_PATH = "'/clickhouse/tables/{database}/{table}'"
_REPLICA = "'{shard}-{replica}'"


@cache
def version_table(cluster: str | None, name: str) -> Table:
    """The table of Alembic, in which it updates its only row."""
    return _table(
        name,
        cluster,
        Column("version_num", types.String, nullable=False),
        order_by=text("tuple()"),
    )


@cache
def log_table(cluster: str | None, name: str = LOG_TABLE) -> Table:
    identity = Column("id", types.UInt64)
    return _table(
        name,
        cluster,
        identity,
        Column("revision", types.String),
        Column("title", types.String),
        Column("direction", types.LowCardinality(types.String)),
        Column("checksum", types.String),
        Column("kit", types.String),
        _moment(),
        order_by=identity,
    )


@cache
def lock_table(cluster: str | None) -> Table:
    number = Column("number", types.UInt64)
    window = "non_replicated" if cluster is None else "replicated"
    return _table(
        LOCK_TABLE,
        cluster,
        number,
        Column("event", types.LowCardinality(types.String)),
        Column("owner", types.String),
        _moment(),
        order_by=number,
        **{f"{window}_deduplication_window": 1_000},
    )


def create_statement(table: Table) -> str:
    """What makes a table where it is not there yet."""
    return ddl_of(CreateTable(table, if_not_exists=True))


def _table(name: str, cluster: str | None, *columns: Column[Any], **engine: Any) -> Table:
    if cluster is None:
        return Table(name, MetaData(), *columns, engines.MergeTree(**engine))
    # Every host of the cluster has the same rows, whatever its shard.
    kept = NamedMergeTree("ReplicatedMergeTree", [_REPLICA_PATH, _REPLICA], **engine)
    return Table(name, MetaData(), *columns, kept, clickhouse_cluster=cluster)


def _moment() -> Column[Any]:
    return Column("at", types.DateTime64(3, "UTC"), server_default=text("now64(3)"))
