"""Down and up again through every migration, with data in the tables, loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from sqlalchemy import insert, inspect, select, text

from jts_storage import CandleSeries, SeriesKey, Timeframe, migrate
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.migrate import clickhouse as migrations_module
from jts_storage.migrate import files
from jts_storage.migrate.clickhouse import ClickHouseMigrations
from jts_storage.migrate.plan import Goal
from jts_storage.mongo import MongoDBManager
from jts_storage.relational import tables
from jts_storage.relational.manager import DatabaseManager
from tests.migration.conftest import cloned
from tests.runs import some_by_day

VALUES = "symbol, exchange, timeframe, toUnixTimestamp64Milli(timestamp), open, high, low, close"
NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


async def walk(
    databases: migrate.Databases, store: files.Store, *, each_again: bool = True
) -> None:
    """Take every migration back by itself, and all of them, and apply them again each time.

    :param each_again: whether that is done after each of them, too.
    """
    for file in reversed(files.discover(store)):
        taken = await migrate.down(databases)
        assert [step.migration.revision for step in taken] == [file.revision]
        if not each_again:
            continue
        await migrate.up(databases)
        before = int(file.revision) - 1
        await migrate.down(databases, to=str(before) if before else "base")
    await migrate.up(databases)
    # Some documents lack what the kit needs: that is no difference of the schema.
    found = await migrate.check(databases)
    assert [each for each in found if each.what != "documents"] == []


# ---- ClickHouse


def fill(manager: ClickHouseManager) -> None:
    """What JTS would have: 600 candles of three symbols, 30 of them twice, and symbols."""
    manager.execute(
        "CREATE TABLE candles (symbol String, exchange String, timeframe String,"
        " timestamp DateTime64(3), open Decimal64(4), high Decimal64(4), low Decimal64(4),"
        " close Decimal64(4), volume UInt64)"
        " ENGINE = MergeTree() ORDER BY (symbol, timeframe, timestamp)"
    )
    manager.execute(
        "CREATE TABLE symbols (code String, name String, market String, sector String,"
        " is_active UInt8, updated_at DateTime) ENGINE = ReplacingMergeTree(updated_at)"
        " ORDER BY code"
    )
    for rows, more in ((600, 0), (30, 1)):
        manager.execute(
            "INSERT INTO candles SELECT 'S' || toString(number % 3), 'KRX', '1m',"
            " fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 60000)),"
            f" 10 + {more}, 20, 1, 15, number FROM numbers({rows})"
        )
    manager.execute(
        "INSERT INTO symbols SELECT 'S' || toString(number), 'name', 'KOSPI', '', 1,"
        " toDateTime('2025-01-01 00:00:00') + number FROM numbers(3)"
    )


def live(manager: ClickHouseManager) -> tuple[Any, ...]:
    """The rows that count, whichever of its definitions the table has."""
    columns = manager.execute(
        "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'candles'"
    )
    source = (
        "(SELECT * FROM candles FINAL WHERE NOT is_deleted)"
        if ("version",) in columns
        else "(SELECT * FROM candles ORDER BY splitByChar('_', _part)[2] :: UInt64 DESC,"
        " _part_offset DESC LIMIT 1 BY symbol, exchange, timeframe, timestamp)"
    )
    candles = manager.execute(
        f"SELECT count(), groupBitXor(cityHash64({VALUES}, volume)) FROM {source}"
    )
    return candles[0], manager.execute(
        "SELECT code, name, market, sector, is_active, toUnixTimestamp(updated_at)"
        " FROM symbols FINAL ORDER BY code"
    )


@pytest.mark.parametrize("each_again", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_candles_and_symbols(clickhouse: ClickHouseManager, each_again: bool) -> None:
    fill(clickhouse)
    databases = migrate.Databases(clickhouse)
    await migrate.up(databases)
    repository = ClickHouseCandleRepository(clickhouse)
    key = SeriesKey("S1", Timeframe.M1, exchange="KRX")
    whole = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    series = await repository.get_range(key, *whole)
    await repository.delete_range(key, series[0].timestamp, series[9].timestamp)
    changed = [type(series[50])(series[50].timestamp, *(Decimal(7),) * 4, volume=9)]
    await repository.save_many(key, CandleSeries.from_candles(key, changed))
    expected = live(clickhouse)
    assert expected[0][0] == 590

    await walk(databases, "clickhouse", each_again=each_again)

    assert live(clickhouse) == expected
    assert len(await repository.get_range(key, *whole)) == 190


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_run_that_dies_after_any_statement_is_gone_on_with(
    clickhouse: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    """The table is readable after each death, and the next run leads to the end."""
    fill(clickhouse)
    if direction == "down":
        await ClickHouseMigrations(clickhouse, chunk_rows=250).go(Goal())
    goal = Goal("up") if direction == "up" else Goal("down", "1")
    survived = 0
    for last in range(200):
        with cloned(clickhouse) as manager, monkeypatch.context() as patched:
            if not await outlives(manager, goal, last, patched):
                break
        survived += 1
    assert survived > 30


async def outlives(
    manager: ClickHouseManager, goal: Goal, last: int, patched: pytest.MonkeyPatch
) -> bool:
    """Whether a run died after so many statements, which nothing was lost by."""
    migrations = ClickHouseMigrations(manager, chunk_rows=250)
    expected = live(manager)
    died = die_after(last, patched)
    try:
        await migrations.go(goal)
    except Died:
        patched.undo()
    else:
        return False
    assert died
    assert live(manager) == expected, f"after {died[-1]}"
    await migrations.go(goal)
    assert live(manager) == expected, f"resumed after {died[-1]}"
    assert not [name for (name,) in manager.execute("SHOW TABLES") if name.endswith("_new")]
    return True


class Died(RuntimeError):
    pass


def die_after(last: int, patched: pytest.MonkeyPatch) -> list[str]:
    """Let so many statements pass and none after them, not even to free the lock."""
    make_sender = migrations_module._sender
    sent: list[str] = []

    def sender(connection: Any) -> Any:
        send = make_sender(connection)

        def send_or_die(sql: str, **options: Any) -> Any:
            sent.append(sql)
            if len(sent) > last:
                raise Died
            return send(sql, **options)

        return send_or_die

    patched.setattr(migrations_module, "_sender", sender)
    return sent


# ---- MongoDB

FORMULA = {
    "_id": ObjectId(),
    "name": "Golden cross",
    "expression": "ma(5) > ma(20)",
    "category": "entry",
    "tags": ["trend"],
    "parameters": [{"name": "n", "dataType": "int", "defaultValue": 5, "unit": "days"}],
    "version": 3,
    "createdAt": NOW,
    "author": {"name": "somebody", "team": 7},
}
TRADE = {
    "symbol": "005930",
    "side": "buy",
    "entryTime": NOW,
    "entryPrice": Decimal128("1.5"),
    "quantity": 3,
    "fee": Decimal128("0.01"),
}
DOCUMENTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "formulas": [FORMULA, {"_id": ObjectId(), "name": "without the rest", "odd": 1.5}],
    "strategies": [
        {"_id": ObjectId(), "name": "A", "entryFormulaId": FORMULA["_id"], "colour": "red"},
        {"_id": "by other hands", "stopLossRule": {"type": "trailing"}},
    ],
    "backtest_results": [
        {
            "_id": ObjectId(),
            "strategyId": ObjectId(),
            "runAt": NOW,
            "config": {"startDate": NOW, "endDate": NOW, "initialCapital": Decimal128("1")},
            "trades": [TRADE],
            "host": "a",
        }
    ],
    "backtest_trades": [
        {"_id": ObjectId(), "tradeSet": ObjectId(), "number": 0, "trades": [TRADE]}
    ],
    "notes_of_somebody": [{"_id": 1, "text": "not of the kit"}],
}


async def test_documents(mongo: MongoDBManager) -> None:
    for name, documents in DOCUMENTS.items():
        await mongo.get_collection(name).insert_many([dict(each) for each in documents])
    databases = migrate.Databases(mongo=mongo)
    await migrate.up(databases)

    await walk(databases, "mongo")

    for name, documents in DOCUMENTS.items():
        assert await mongo.get_collection(name).find().to_list() == list(documents)


async def test_empty_collections_come_and_go(mongo: MongoDBManager) -> None:
    databases = migrate.Databases(mongo=mongo)
    await migrate.up(databases)
    await walk(databases, "mongo")
    await migrate.down(databases, to="base")
    left = set(await mongo.db.list_collection_names())
    assert left <= {"jts_schema_log", "jts_schema_lock"}


# ---- SQL

ROWS: Mapping[str, Mapping[str, Any]] = {
    "symbol_bars_aggregates": {"symbol": "A", "trading_date": "2025-01-02", "bar_count": 7},
    "ohlcv_bars": {
        "symbol": "A",
        "exchange": "KRX",
        "timeframe": "1m",
        "timestamp_ms": 1_735_786_800_000,
        "open_price": 15_000,
        "high_price": 20_000,
        "low_price": 10_000,
        "close_price": 15_000,
        "volume": 2**62,
    },
    "checkpoints": {"symbol": "A", "checkpoint_data": '{"page": 3}'},
}


@pytest.mark.parametrize("filled", some_by_day(["all", "none", *ROWS], 10))
async def test_bookkeeping(database: DatabaseManager, filled: str) -> None:
    """The oldest migration made the tables: one with rows stays, an empty one goes and comes."""
    databases = migrate.Databases(database=database)
    await migrate.up(databases)
    chosen = {name for name in ROWS if filled in (name, "all")}
    async with database.transaction() as connection:
        for name in chosen:
            await connection.execute(insert(tables.metadata.tables[name]).values(ROWS[name]))
    before = await stored(database)

    await migrate.down(databases, to="base")
    assert await present(database) == chosen
    async with database.transaction() as connection:
        for name in chosen:
            left = await connection.execute(text(f"SELECT count(*) FROM {name}"))
            assert left.scalar_one() == 1
    await migrate.up(databases)
    assert await stored(database) == before
    await walk(databases, "relational")
    assert await stored(database) == before


async def stored(database: DatabaseManager) -> dict[str, list[tuple[Any, ...]]]:
    async with database.connection() as connection:
        return {
            name: [tuple(row) for row in await connection.execute(select(table))]
            for name, table in tables.metadata.tables.items()
        }


async def present(database: DatabaseManager) -> set[str]:
    async with database.connection() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return set(names) & set(ROWS)
