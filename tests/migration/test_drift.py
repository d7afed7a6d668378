"""Every drift is seen: each alteration gives its one difference, undoing it gives none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, Table, text

from jts_storage import SeriesKey, Timeframe, migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.migrate import checks, files
from jts_storage.mongo import MongoDBManager, collection_schemas
from jts_storage.relational import SqlIngestionRepository, metadata
from jts_storage.relational.manager import DatabaseManager
from jts_storage.testing.factories import make_candles
from tests.runs import some_by_day

CANDLES = (
    "CREATE TABLE candles (symbol LowCardinality(String), exchange LowCardinality(String),"
    " timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),"
    " open Decimal(18, 4) CODEC(T64, LZ4), high Decimal(18, 4) CODEC(T64, LZ4),"
    " low Decimal(18, 4) CODEC(T64, LZ4), close Decimal(18, 4) CODEC(T64, LZ4),"
    " volume UInt64 CODEC(T64, LZ4), version UInt64 CODEC(Delta(8), ZSTD(1)),"
    " is_deleted UInt8 DEFAULT 0, since UInt64 DEFAULT 0 CODEC(T64, LZ4)) "
)
SYMBOLS = (
    "CREATE TABLE symbols (code String, name String, market LowCardinality(String),"
    " sector String, is_active UInt8, updated_at DateTime64(3, '{zone}'),"
    " version UInt64 DEFAULT toUnixTimestamp64Nano(now64(9))) "
)
ORDER = " ORDER BY (timeframe, symbol, exchange, timestamp)"
WINDOW = " SETTINGS non_replicated_deduplication_window = 1000"
REPLACING = "ENGINE = ReplacingMergeTree(version)"


@dataclass(frozen=True)
class Drift:
    """:param alter: statements or commands, those of `undo` take them back."""

    where: str
    what: str
    alter: tuple[Any, ...]
    undo: tuple[Any, ...]

    def __str__(self) -> str:
        first = self.alter[-1] if isinstance(self.alter[-1], str) else next(iter(self.alter[-1]))
        return f"{self.where}-{self.what}-{first[:40]}"


def altered(table: str, where: str, what: str, change: str, back: str) -> Drift:
    alter = f"ALTER TABLE {table} "
    return Drift(f"{table}{where}", what, (alter + change,), (alter + back,))


def remade(table: str, what: str, create: str, where: str = "") -> Drift:
    away = f"RENAME TABLE {table} TO {table}_away"
    back = (f"DROP TABLE {table} SYNC", f"RENAME TABLE {table}_away TO {table}")
    return Drift(f"{table}{where}", what, (away, create), back)


def gone(table: str) -> Drift:
    there, away = f"RENAME TABLE {table}_away TO {table}", f"RENAME TABLE {table} TO {table}_away"
    return Drift(table, "table", (away,), (there,))


CLICKHOUSE = [
    altered(
        "candles",
        ".volume",
        "column",
        "DROP COLUMN volume",
        "ADD COLUMN volume UInt64 CODEC(T64, LZ4) AFTER close",
    ),
    altered("candles", ".note", "column", "ADD COLUMN note String", "DROP COLUMN note"),
    altered(
        "candles",
        "",
        "column order",
        "MODIFY COLUMN volume UInt64 FIRST",
        "MODIFY COLUMN volume UInt64 AFTER close",
    ),
    altered(
        "symbols",
        "",
        "column order",
        "MODIFY COLUMN sector String AFTER updated_at",
        "MODIFY COLUMN sector String AFTER market",
    ),
    altered(
        "candles",
        ".open",
        "type",
        "MODIFY COLUMN open Decimal(18, 6)",
        "MODIFY COLUMN open Decimal(18, 4)",
    ),
    altered(
        "candles",
        ".open",
        "type and codec",
        "MODIFY COLUMN open Decimal(38, 4) CODEC(ZSTD(1))",
        "MODIFY COLUMN open Decimal(18, 4) CODEC(T64, LZ4)",
    ),
    altered(
        "candles", ".volume", "type", "MODIFY COLUMN volume Int64", "MODIFY COLUMN volume UInt64"
    ),
    altered(
        "candles",
        ".close",
        "codec",
        "MODIFY COLUMN close CODEC(ZSTD(1))",
        "MODIFY COLUMN close CODEC(T64, LZ4)",
    ),
    altered(
        "candles",
        ".high",
        "codec",
        "MODIFY COLUMN high REMOVE CODEC",
        "MODIFY COLUMN high CODEC(T64, LZ4)",
    ),
    altered(
        "candles",
        ".timestamp",
        "codec",
        "MODIFY COLUMN timestamp CODEC(DoubleDelta)",
        "MODIFY COLUMN timestamp CODEC(Delta(8), LZ4)",
    ),
    altered(
        "candles",
        ".is_deleted",
        "default",
        "MODIFY COLUMN is_deleted DEFAULT 1",
        "MODIFY COLUMN is_deleted DEFAULT 0",
    ),
    altered(
        "candles",
        ".is_deleted",
        "default",
        "MODIFY COLUMN is_deleted REMOVE DEFAULT",
        "MODIFY COLUMN is_deleted DEFAULT 0",
    ),
    altered(
        "candles",
        ".volume",
        "default",
        "MODIFY COLUMN volume DEFAULT 5",
        "MODIFY COLUMN volume REMOVE DEFAULT",
    ),
    altered(
        "candles",
        ".low",
        "ttl",
        "MODIFY COLUMN low TTL toDateTime(timestamp) + INTERVAL 10 YEAR",
        "MODIFY COLUMN low REMOVE TTL",
    ),
    altered(
        "candles",
        "",
        "ttl",
        "MODIFY TTL toDateTime(timestamp) + INTERVAL 10 YEAR",
        "REMOVE TTL",
    ),
    altered(
        "candles",
        "",
        "setting non_replicated_deduplication_window",
        "MODIFY SETTING non_replicated_deduplication_window = 10",
        "MODIFY SETTING non_replicated_deduplication_window = 1000",
    ),
    altered(
        "symbols",
        "",
        "setting non_replicated_deduplication_window",
        "RESET SETTING non_replicated_deduplication_window",
        "MODIFY SETTING non_replicated_deduplication_window = 1000",
    ),
    altered(
        "candles",
        ".by_volume",
        "index",
        "ADD INDEX by_volume volume TYPE minmax GRANULARITY 2",
        "DROP INDEX by_volume",
    ),
    altered(
        "candles",
        ".positive",
        "constraint",
        "ADD CONSTRAINT positive CHECK volume > 0",
        "DROP CONSTRAINT positive",
    ),
    altered(
        "symbols",
        ".market",
        "type",
        "MODIFY COLUMN market String",
        "MODIFY COLUMN market LowCardinality(String)",
    ),
    altered(
        "symbols",
        ".sector",
        "column",
        "DROP COLUMN sector",
        "ADD COLUMN sector String AFTER market",
    ),
    altered(
        "symbols", ".name", "type", "MODIFY COLUMN name FixedString(9)", "MODIFY COLUMN name String"
    ),
    remade("candles", "engine", f"{CANDLES} ENGINE = MergeTree{ORDER}{WINDOW}"),
    remade("candles", "engine", f"{CANDLES} ENGINE = ReplacingMergeTree{ORDER}{WINDOW}"),
    remade(
        "candles",
        "engine",
        f"{CANDLES} ENGINE = ReplacingMergeTree(version, is_deleted){ORDER}{WINDOW}",
    ),
    remade(
        "candles",
        "order by",
        f"{CANDLES}{REPLACING} ORDER BY (symbol, timeframe, timestamp){WINDOW}",
    ),
    remade(
        "candles",
        "order by",
        f"{CANDLES}{REPLACING} ORDER BY (symbol, exchange, timeframe, timestamp){WINDOW}",
    ),
    remade(
        "candles",
        "partition by",
        f"{CANDLES}{REPLACING} PARTITION BY toYYYYMM(timestamp){ORDER}{WINDOW}",
    ),
    remade("candles", "primary key", f"{CANDLES}{REPLACING} PRIMARY KEY timeframe{ORDER}{WINDOW}"),
    remade(
        "symbols",
        "order by",
        f"{SYMBOLS.format(zone='UTC')}{REPLACING} ORDER BY (code, market){WINDOW}",
    ),
    remade(
        "symbols",
        "type",
        f"{SYMBOLS.format(zone='Asia/Seoul')}{REPLACING} ORDER BY code{WINDOW}",
        ".updated_at",
    ),
    remade(
        "symbols",
        "engine",
        f"{SYMBOLS.format(zone='UTC')} ENGINE = MergeTree ORDER BY code{WINDOW}",
    ),
    remade(
        "symbols",
        "engine",
        f"{SYMBOLS.format(zone='UTC')} ENGINE = ReplacingMergeTree(updated_at)"
        f" ORDER BY code{WINDOW}",
    ),
    altered(
        "symbols",
        ".version",
        "default",
        "MODIFY COLUMN version REMOVE DEFAULT",
        "MODIFY COLUMN version DEFAULT toUnixTimestamp64Nano(now64(9))",
    ),
    gone("candles"),
    gone("symbols"),
]


@pytest.fixture(scope="module")
def live_clickhouse() -> Iterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="jts_drift") as manager:
        asyncio.run(migrate.up(migrate.Databases(manager)))
        yield manager
        manager.execute("DROP DATABASE jts_drift")


@pytest.mark.parametrize("drift", some_by_day(CLICKHOUSE, 2), ids=str)
async def test_clickhouse(live_clickhouse: ClickHouseManager, drift: Drift) -> None:
    settings = {"mutations_sync": 2, "alter_sync": 2}
    databases = migrate.Databases(live_clickhouse)
    for statement in drift.alter:
        live_clickhouse.execute(statement, settings=settings)
    try:
        found = await migrate.check(databases)
    finally:
        for statement in drift.undo:
            live_clickhouse.execute(statement, settings=settings)
    assert_seen(found, drift)
    assert checks.exit_code(await migrate.check(databases)) == 0


def mends(drift: Drift) -> bool:
    """Whether the command that the check names can be tried: it alters the table in place."""
    return not drift.alter[0].startswith("RENAME") and "REMOVE" not in drift.alter[0]


@pytest.mark.parametrize("drift", some_by_day(filter(mends, CLICKHOUSE)), ids=str)
async def test_what_the_check_advises_mends_clickhouse(
    live_clickhouse: ClickHouseManager, drift: Drift
) -> None:
    settings = {"mutations_sync": 2, "alter_sync": 2}
    databases = migrate.Databases(live_clickhouse)
    live_clickhouse.execute(drift.alter[0], settings=settings)
    (found,) = await migrate.check(databases)
    for statement in found.remedy.split("; "):
        live_clickhouse.execute(statement, settings=settings)
    assert await migrate.check(databases) == []


def assert_seen(found: list[migrate.Difference], drift: Drift) -> None:
    assert [(each.where, each.what) for each in found] == [(drift.where, drift.what)], found
    assert checks.exit_code(found) == 1
    assert found[0].expected != found[0].actual
    assert found[0].remedy


# ---- MongoDB

SCHEMAS = {schema.name: schema for schema in collection_schemas()}
INDEXES: dict[str, dict[str, Any]] = {
    str(index.document["name"]): {**index.document, "key": dict(index.document["key"])}
    for schema in SCHEMAS.values()
    for index in schema.indexes
}


def dropped(collection: str, name: str) -> dict[str, Any]:
    return {"dropIndexes": collection, "index": name}


def created(collection: str, name: str, **options: Any) -> dict[str, Any]:
    return {
        "createIndexes": collection,
        "indexes": [{**INDEXES.get(name, {"name": name}), **options}],
    }


def reindexed(collection: str, name: str, what: str, **options: Any) -> Drift:
    return Drift(
        f"{collection}.{name}",
        f"index {what}",
        (dropped(collection, name), created(collection, name, **options)),
        (dropped(collection, name), created(collection, name)),
    )


def unindexed(collection: str, name: str) -> Drift:
    alter, undo = dropped(collection, name), created(collection, name)
    return Drift(f"{collection}.{name}", "index", (alter,), (undo,))


def ruled(collection: str, what: str, **rules: Any) -> Drift:
    proper = {
        "validator": SCHEMAS[collection].validator,
        "validationLevel": "moderate",
        "validationAction": "error",
    }
    change = {"collMod": collection, **proper}
    return Drift(collection, what, ({**change, **rules},), (change,))


def validator(collection: str, **parts: Any) -> dict[str, Any]:
    rules = SCHEMAS[collection].validator
    assert rules is not None
    return {"$jsonSchema": {**rules["$jsonSchema"], **parts}}


MONGO = [
    unindexed("formulas", "formulas_text"),
    unindexed("formulas", "formulas_category"),
    unindexed("strategies", "strategies_stop_formula"),
    unindexed("backtest_trades", "backtest_trades_set"),
    Drift(
        "formulas.by_name",
        "index",
        (created("formulas", "by_name", key={"name": 1}),),
        (dropped("formulas", "by_name"),),
    ),
    reindexed(
        "formulas",
        "formulas_text",
        "weights",
        weights={"name": 1, "tags": 5, "description": 1},
    ),
    reindexed("formulas", "formulas_text", "default_language", default_language="english"),
    reindexed("formulas", "formulas_text", "language_override", language_override="language"),
    reindexed("formulas", "formulas_category", "key", key={"category": -1, "_id": 1}),
    reindexed("formulas", "formulas_tags", "sparse", sparse=True),
    reindexed("strategies", "strategies_entry_formula", "unique", unique=True),
    reindexed(
        "strategies",
        "strategies_exit_formula",
        "partialFilterExpression",
        partialFilterExpression={"version": {"$gt": 1}},
    ),
    reindexed("backtest_trades", "backtest_trades_set", "unique", unique=False),
    reindexed(
        "backtest_results",
        "backtest_results_strategy_run",
        "key",
        key={"runAt": -1, "strategyId": 1, "_id": -1},
    ),
    Drift(
        "formulas.formulas_tags",
        "index hidden",
        ({"collMod": "formulas", "index": {"name": "formulas_tags", "hidden": True}},),
        ({"collMod": "formulas", "index": {"name": "formulas_tags", "hidden": False}},),
    ),
    ruled("formulas", "validator", validator=validator("formulas", required=["name"])),
    ruled("formulas", "validator", validator={}),
    ruled("strategies", "validator", validator=validator("strategies", maxProperties=40)),
    ruled("strategies", "validationLevel", validationLevel="strict"),
    ruled("backtest_results", "validationAction", validationAction="warn"),
    Drift(
        "backtest_trades",
        "collection",
        ({"drop": "backtest_trades"},),
        (
            {"create": "backtest_trades"},
            created("backtest_trades", "backtest_trades_set"),
            *ruled("backtest_trades", "").undo,
        ),
    ),
]


@pytest.fixture(scope="module")
def _migrated_mongo(mongod: LocalMongod) -> None:
    async def lead() -> None:
        async with MongoDBManager(uri=mongod.uri, database="jts_drift") as manager:
            await migrate.up(migrate.Databases(mongo=manager))

    asyncio.run(lead())


@pytest.fixture
async def live_mongo(mongod: LocalMongod, _migrated_mongo: None) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database="jts_drift") as manager:
        yield manager


@pytest.mark.parametrize("drift", some_by_day(MONGO, 2), ids=str)
async def test_mongo(live_mongo: MongoDBManager, drift: Drift) -> None:
    databases = migrate.Databases(mongo=live_mongo)
    for command in drift.alter:
        await live_mongo.db.command(command)
    try:
        found = await migrate.check(databases)
    finally:
        for command in drift.undo:
            await live_mongo.db.command(command)
    assert_seen(found, drift)
    assert checks.exit_code(await migrate.check(databases)) == 0


# ---- SQL

POSTGRES = [
    altered(
        "checkpoints",
        ".checkpoint_data",
        "column",
        "DROP COLUMN checkpoint_data",
        "ADD COLUMN checkpoint_data TEXT NOT NULL",
    ),
    altered("checkpoints", ".note", "column", "ADD COLUMN note TEXT", "DROP COLUMN note"),
    altered(
        "symbol_bars_aggregates",
        ".bar_count",
        "type",
        "ALTER COLUMN bar_count TYPE INTEGER",
        "ALTER COLUMN bar_count TYPE BIGINT",
    ),
    altered(
        "ohlcv_bars",
        ".open_price",
        "type",
        "ALTER COLUMN open_price TYPE NUMERIC(20, 6)",
        "ALTER COLUMN open_price TYPE NUMERIC(18, 4)",
    ),
    altered(
        "ohlcv_bars",
        ".volume",
        "type",
        "ALTER COLUMN volume TYPE BIGINT",
        "ALTER COLUMN volume TYPE NUMERIC(20, 0)",
    ),
    altered(
        "checkpoints",
        ".checkpoint_data",
        "nullable",
        "ALTER COLUMN checkpoint_data DROP NOT NULL",
        "ALTER COLUMN checkpoint_data SET NOT NULL",
    ),
    altered(
        "symbol_bars_aggregates",
        ".version",
        "default",
        "ALTER COLUMN version SET DEFAULT 2",
        "ALTER COLUMN version SET DEFAULT 1",
    ),
    altered(
        "ohlcv_bars",
        ".exchange",
        "default",
        "ALTER COLUMN exchange DROP DEFAULT",
        "ALTER COLUMN exchange SET DEFAULT ''",
    ),
    altered(
        "checkpoints",
        "",
        "primary key",
        "DROP CONSTRAINT checkpoints_pkey",
        "ADD PRIMARY KEY (symbol)",
    ),
    altered(
        "ohlcv_bars",
        ".one_volume",
        "constraint",
        "ADD CONSTRAINT one_volume UNIQUE (volume)",
        "DROP CONSTRAINT one_volume",
    ),
    Drift(
        "ohlcv_bars.by_volume",
        "index",
        ("CREATE INDEX by_volume ON ohlcv_bars (volume)",),
        ("DROP INDEX by_volume",),
    ),
    Drift(
        "checkpoints",
        "table",
        ("ALTER TABLE checkpoints RENAME TO away",),
        ("ALTER TABLE away RENAME TO checkpoints",),
    ),
]
SQLITE = [
    altered("checkpoints", ".note", "column", "ADD COLUMN note TEXT", "DROP COLUMN note"),
    POSTGRES[-2],
    POSTGRES[-1],
]


@pytest.fixture(scope="module")
def migrated_postgres(postgres: LocalPostgres) -> str:
    async def lead(dsn: str) -> None:
        async with DatabaseManager(dsn) as manager:
            await migrate.up(migrate.Databases(database=manager))

    dsn = postgres.create_database("jts_drift")
    asyncio.run(lead(dsn))
    return dsn


@pytest.mark.parametrize("drift", some_by_day(POSTGRES, 2), ids=str)
async def test_postgres(migrated_postgres: str, drift: Drift) -> None:
    async with DatabaseManager(migrated_postgres) as manager:
        await _check_sql(manager, drift)


@pytest.mark.parametrize("drift", some_by_day(SQLITE, 2), ids=str)
async def test_sqlite(sqlite: DatabaseManager, drift: Drift) -> None:
    await migrate.up(migrate.Databases(database=sqlite))
    await _check_sql(sqlite, drift)


async def _check_sql(manager: DatabaseManager, drift: Drift) -> None:
    databases = migrate.Databases(database=manager)
    await _run(manager, drift.alter)
    try:
        found = await migrate.check(databases)
    finally:
        await _run(manager, drift.undo)
    assert_seen(found, drift)
    assert checks.exit_code(await migrate.check(databases)) == 0


async def _run(manager: DatabaseManager, statements: tuple[str, ...]) -> None:
    async with manager.transaction() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_the_order_of_sql_columns_does_not_matter(
    database: DatabaseManager,
) -> None:
    """PostgreSQL adds columns at the end only, and every statement of the kit names its columns."""
    databases = migrate.Databases(database=database)
    await migrate.up(databases)
    checkpoints, bars = metadata.tables["checkpoints"], metadata.tables["ohlcv_bars"]
    await _run(database, ("DROP TABLE checkpoints", "DROP TABLE ohlcv_bars"))
    async with database.transaction() as connection:
        for table in (checkpoints, bars):
            turned = Table(
                table.name,
                MetaData(),
                *(
                    Column(c.name, c.type, nullable=c.nullable, server_default=c.server_default)
                    for c in reversed(table.columns)
                ),
                PrimaryKeyConstraint(*table.primary_key.columns.keys()),
            )
            await connection.run_sync(turned.create)
    assert await migrate.check(databases) == []
    key = SeriesKey("A", Timeframe.M1, exchange="KRX")
    candles = make_candles(key, 500)
    ingestion = SqlIngestionRepository(database)
    await ingestion.bars.save_many(key, candles)
    await ingestion.checkpoints.save("A", {"page": 3})
    whole = await ingestion.bars.get_range(key, candles[0].timestamp, candles[-1].timestamp)
    assert whole == candles
    found = await ingestion.checkpoints.get("A")
    assert found is not None
    assert found.data == {"page": 3}


# ---- migrations themselves


def one_more(folder: Path) -> None:
    template = (folder.parent / "script.py.mako").read_text()
    text = template.replace("${message}", "More").replace("${repr(up_revision)}", repr("9999"))
    number = len(list(folder.glob("0*.py"))) + 1
    (folder / f"{number:04}_more.py").write_text(text)


def last_edited(folder: Path) -> None:
    last = max(folder.glob("0*.py"))
    last.write_text(last.read_text() + "\n# An afterthought.\n")


def first_edited(folder: Path) -> None:
    first = min(folder.glob("0*.py"))
    first.write_text(first.read_text().replace("The", "A", 1))


def last_lost(folder: Path) -> None:
    max(folder.glob("0*.py")).unlink()


@pytest.mark.parametrize("store", files.STORES)
@pytest.mark.parametrize(
    ("change", "what", "actual"),
    [
        (one_more, "state", "pending"),
        (last_edited, "file", "edited since"),
        (first_edited, "file", "edited since"),
        (last_lost, "file", "nothing"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_migrations(
    databases: migrate.Databases,
    tmp_path: Path,
    store: files.Store,
    change: Callable[[Path], None],
    what: str,
    actual: str,
) -> None:
    given = {
        "clickhouse": migrate.Databases(databases.clickhouse),
        "mongo": migrate.Databases(mongo=databases.mongo),
        "relational": migrate.Databases(database=databases.database),
    }[store]
    await migrate.up(given)
    shutil.copytree(files.root(), tmp_path / "migrations")
    change(tmp_path / "migrations" / store / "versions")
    altered = migrate.Databases(
        given.clickhouse, given.mongo, given.database, folder=tmp_path / "migrations"
    )
    found = await migrate.check(altered)
    assert [(each.what, each.actual) for each in found] == [(what, actual)]
    assert checks.exit_code(found) == 1
    assert await migrate.check(given) == []
    if actual == "edited since":
        await migrate.stamp(altered, "head")
        assert await migrate.check(altered) == []
