"""What JTS filled is led to our schema without losing a row, whatever kills it on the way."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId

from jts_storage import CandleSeries, SeriesKey, Timeframe, migrate
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError
from jts_storage.migrate.clickhouse import ClickHouseMigrations
from jts_storage.migrate.plan import Goal
from jts_storage.migrate.replacing import Replacement
from jts_storage.mongo import MongoDBFormulaRepository, MongoDBManager
from jts_storage.testing.clickhouse_server import ClickHouseServer, ServerProcess
from tests import forked

WITH_VERSIONS = "5"
"""The last migration before candles are copied once more, see test_order_of_candles.py."""

RUNNER = Path(__file__).with_name("runner_process.py")
KEY = "symbol, exchange, timeframe, timestamp"
VALUES = "open, high, low, close, volume"
CREATE_CANDLES = """
CREATE TABLE candles (symbol String, exchange String, timeframe String, timestamp DateTime64(3),
    open Decimal64(4), high Decimal64(4), low Decimal64(4), close Decimal64(4), volume UInt64)
ENGINE = MergeTree() ORDER BY (symbol, timeframe, timestamp)
"""
CREATE_SYMBOLS = """
CREATE TABLE symbols (code String, name String, market String, sector String, is_active UInt8,
    updated_at DateTime) ENGINE = ReplacingMergeTree(updated_at) ORDER BY code
"""


def fill(manager: ClickHouseManager, rows: int) -> None:
    """Candles of ten symbols, one of them with most rows and on two exchanges; 5 % come twice,
    half of those with other values the second time."""
    manager.execute(CREATE_CANDLES)
    manager.execute(CREATE_SYMBOLS)
    distinct = rows * 100 // 105
    row = (
        "'S' || toString(if(n % 5 = 0, intDiv(n, 5) % 9, 9)),"
        " if(n % 7 = 0, 'NXT', 'KRX'), if(n % 3 = 0, '1d', '1m'),"
        " fromUnixTimestamp64Milli(toInt64(1700000000000 + n * 60000)),"
        " toDecimal64(n % 1000, 4) + toDecimal64('0.0001', 4) + {more}, 2000, 1, 500, n + {more}"
    )
    first = row.replace("{more}", "0")
    manager.execute(
        f"INSERT INTO candles SELECT {first} FROM (SELECT number AS n FROM numbers({distinct}))"
    )
    again = row.replace("{more}", "(intDiv(n, 20) % 2)")
    manager.execute(
        f"INSERT INTO candles SELECT {again} FROM"
        f" (SELECT number * 20 AS n FROM numbers({rows - distinct}))"
    )
    manager.execute(
        "INSERT INTO symbols SELECT 'S' || toString(number), 'name', 'KOSPI', '', 1,"
        " toDateTime('2025-01-01 00:00:00') + number FROM numbers(10)"
    )
    manager.execute(
        "INSERT INTO symbols SELECT 'S1', 'renamed', 'ETF', '', 0,"
        " toDateTime('2026-01-01 00:00:00')"
    )


def expected_rows(manager: ClickHouseManager, table: str) -> tuple[Any, ...]:
    """Count and fingerprint of the rows that count: of equal keys the one written last."""
    latest = (
        f"SELECT {KEY}, {VALUES} FROM {table}"
        " ORDER BY splitByChar('_', _part)[2] :: UInt64 DESC, _part_offset DESC"
        f" LIMIT 1 BY {KEY}"
    )
    return fingerprint(manager, f"({latest})")


def fingerprint(manager: ClickHouseManager, source: str) -> tuple[Any, ...]:
    texts = ", ".join(f"toString({name})" for name in f"{KEY}, {VALUES}".split(", "))
    timestamp = "toString(toUnixTimestamp64Milli(timestamp))"
    texts = texts.replace("toString(timestamp)", timestamp)
    return manager.execute(
        f"SELECT count(), groupBitXor(cityHash64({texts})), sum(volume) FROM {source}"
    )[0]


def lead(**wanted: Any) -> subprocess.CompletedProcess[str]:
    return forked.run([RUNNER, json.dumps(wanted)], warnings=forked.STRICT, timeout=300)


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouseServer]:
    with ClickHouseServer() as server:
        yield server


DEATHS = [
    ("INSERT INTO candles_new", 3, True),
    ("INSERT INTO candles_copied", 2, False),
    ("EXCHANGE TABLES candles", 1, True),
]
DEATHS_OF_THE_ORDER = [
    ("INSERT INTO candles_new", 2, True),
    ("INSERT INTO candles_copied", 1, False),
    ("EXCHANGE TABLES candles", 1, True),
    ("INSERT INTO candles (", 2, False),
    ("RENAME TABLE candles_new", 1, True),
]
"""The table is ours by then, and is copied once more."""


@pytest.mark.slow
def test_candles_survive_killed_runners(server: ClickHouseServer) -> None:
    where: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.port,
        "database": "jts_adopted",
    }
    with ClickHouseManager(host="127.0.0.1", port=server.port, database="default") as admin:
        admin.execute("CREATE DATABASE jts_adopted")
    with ClickHouseManager(**where) as manager:
        _adopt(manager, 50_000, where, chunk_rows=10_000)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2_000_000])
def test_two_million_candles_survive_killed_engines(tmp_path: Path, rows: int) -> None:
    """Engine and runner are one process here, so both die at once."""
    where = {"embedded_path": str(tmp_path / "clickhouse"), "database": "jts"}
    with ServerProcess(tmp_path / "clickhouse") as server, _manager(server.port) as manager:
        fill(manager, rows)
        wanted = expected_rows(manager, "candles")
        assert wanted[0] == rows * 100 // 105
    for death in (*DEATHS, *DEATHS_OF_THE_ORDER):
        died = lead(clickhouse=where, chunk_rows=200_000, kill_at=death)
        assert died.returncode == -9, died.stderr
    done = lead(clickhouse=where, chunk_rows=200_000)
    assert done.returncode == 0, done.stderr
    with ServerProcess(tmp_path / "clickhouse") as server, _manager(server.port) as manager:
        assert fingerprint(manager, "candles FINAL") == wanted
        assert expected_rows(manager, "candles_legacy") == wanted


def _manager(port: int) -> ClickHouseManager:
    with ClickHouseManager(host="127.0.0.1", port=port, database="default") as admin:
        admin.execute("CREATE DATABASE IF NOT EXISTS jts")
    return ClickHouseManager(host="127.0.0.1", port=port, database="jts")


def _adopt(manager: ClickHouseManager, rows: int, where: Any, chunk_rows: int) -> None:
    fill(manager, rows)
    wanted = expected_rows(manager, "candles")
    assert wanted[0] == rows * 100 // 105
    for death in DEATHS:
        died = lead(clickhouse=where, chunk_rows=chunk_rows, kill_at=death)
        assert died.returncode == -9, died.stderr
        readable = "candles FINAL" if death[0].startswith("EXCHANGE") else None
        if readable:
            assert fingerprint(manager, readable) == wanted
        else:
            assert expected_rows(manager, "candles") == wanted
    for death in DEATHS_OF_THE_ORDER:
        died = lead(clickhouse=where, chunk_rows=chunk_rows, kill_at=death)
        assert died.returncode == -9, died.stderr
        assert fingerprint(manager, "candles FINAL") == wanted, death
    done = lead(clickhouse=where, chunk_rows=chunk_rows)
    assert done.returncode == 0, done.stderr
    # The lock of the killed runner was known to be nobody's: no lease was waited for.
    assert [step.split()[2] for step in json.loads(done.stdout)] == ["0006", "0007", "0008"]

    assert fingerprint(manager, "candles FINAL") == wanted
    assert manager.execute("SELECT count() FROM candles_legacy")[0][0] == rows
    assert fingerprint(manager, "candles_legacy_2 FINAL") == wanted
    assert manager.execute("SELECT name, market FROM symbols FINAL WHERE code = 'S1'") == [
        ("renamed", "ETF")
    ]
    left = {name for (name,) in manager.execute("SHOW TABLES")}
    assert not {name for name in left if name.endswith(("_new", "_copied"))}
    assert asyncio.run(migrate.check(migrate.Databases(manager))) == []


async def test_a_legacy_table_reads_the_same_before_and_after(
    clickhouse: ClickHouseManager,
) -> None:
    fill(clickhouse, 2_100)
    key = SeriesKey("S9", Timeframe.M1, exchange="KRX")
    whole = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    before = await ClickHouseCandleRepository(clickhouse).get_range(key, *whole)
    await migrate.up(migrate.Databases(clickhouse))
    repository = ClickHouseCandleRepository(clickhouse)
    after = await repository.get_range(key, *whole)
    assert len(after) > 500
    assert after == before
    # What is written from now on goes before anything that was adopted.
    candle = after[3]
    newer = CandleSeries.from_candles(
        key, [type(candle)(candle.timestamp, *(Decimal(7),) * 4, volume=1)]
    )
    await repository.save_many(key, newer)
    assert (await repository.get_range(key, candle.timestamp, candle.timestamp))[0].close == 7


@pytest.mark.slow
async def test_rows_written_while_names_are_exchanged_are_brought_over(
    clickhouse: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(clickhouse, 2_100)
    write_late(clickhouse, monkeypatch, "INSERT INTO candles_new VALUES ({row}, 5)")
    await migrate.up(migrate.Databases(clickhouse), to=WITH_VERSIONS)
    assert clickhouse.execute("SELECT volume FROM candles FINAL WHERE symbol = 'LATE'") == [(5,)]


@pytest.mark.slow
async def test_rows_written_while_going_down_are_kept_and_told_of(
    clickhouse: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(clickhouse, 2_100)
    databases = migrate.Databases(clickhouse)
    await migrate.up(databases, to=WITH_VERSIONS)
    clickhouse.execute("DROP TABLE candles_legacy SYNC")
    write_late(clickhouse, monkeypatch, "INSERT INTO candles_new VALUES ({row}, 5, 1, 0)")
    with pytest.raises(StorageError, match="candles_legacy has rows that it lacks"):
        await migrate.down(databases, to="1")
    kept = clickhouse.execute("SELECT volume FROM candles_legacy WHERE symbol = 'LATE'")
    assert kept == [(5,)]
    await migrate.down(databases, to="1")
    left = {name for (name,) in clickhouse.execute("SHOW TABLES LIKE 'candles%'")}
    assert left == {"candles", "candles_legacy"}


def write_late(manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, insert: str) -> None:
    """Write a candle to the old table when it has just been exchanged."""
    retire = Replacement._retire

    def late(self: Replacement) -> None:
        if self.name == "candles":
            row = "'LATE', 'KRX', '1m', now64(3), 1, 2, 1, 2"
            manager.execute(insert.replace("{row}", row))
        retire(self)

    monkeypatch.setattr(Replacement, "_retire", late)


async def test_a_copy_that_differs_is_never_exchanged(
    clickhouse: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(clickhouse, 2_100)
    wanted = expected_rows(clickhouse, "candles")
    from jts_storage.migrate.copying import Copy

    insert = Copy.insert

    def lossy(self: Copy, source: str, target: str, where: str = "1") -> str:
        return insert(self, source, target, f"({where}) AND volume != 1000")

    monkeypatch.setattr(Copy, "insert", lossy)
    with pytest.raises(StorageError, match="differs from it"):
        await migrate.up(migrate.Databases(clickhouse))
    assert expected_rows(clickhouse, "candles") == wanted
    monkeypatch.undo()
    await migrate.up(migrate.Databases(clickhouse))
    assert fingerprint(clickhouse, "candles FINAL") == wanted


async def test_progress_tells_rows_rate_and_time_left(clickhouse: ClickHouseManager) -> None:
    fill(clickhouse, 2_100)
    events: list[migrate.Event] = []
    await ClickHouseMigrations(clickhouse, chunk_rows=500).go(Goal(to=WITH_VERSIONS), events.append)
    copied = [e for e in events if isinstance(e, migrate.Progress) and "candles" in e.what]
    assert len(copied) >= 4
    assert [each.done for each in copied] == sorted(each.done for each in copied)
    assert copied[-1].done == copied[-1].total == 2_100
    assert (copied[0].done, copied[0].seconds_left) == (0, None), "told before the first rows"
    assert copied[1].rate > 0
    assert (copied[1].seconds_left or 0) > 0


async def test_documents_keep_every_field(mongo: MongoDBManager) -> None:
    now = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    formula = {
        "_id": ObjectId(),
        "name": "Golden cross",
        "expression": "ma(5) > ma(20)",
        "category": "entry",
        "tags": ["trend"],
        "parameters": [{"name": "n", "dataType": "int", "defaultValue": 5, "unit": "days"}],
        "version": 3,
        "createdAt": now,
        "author": {"name": "somebody", "team": 7},
    }
    breaking = {"_id": ObjectId(), "name": "without the rest", "odd": Decimal128("1.50")}
    await mongo.get_collection("formulas").insert_many([formula, breaking])
    await mongo.get_collection("formulas").create_index([("name", "text")])
    databases = migrate.Databases(mongo=mongo)

    await migrate.up(databases)
    [unreadable] = await migrate.check(databases)
    assert str(breaking["_id"]) in str(unreadable)
    await migrate.down(databases, to="base")
    await migrate.up(databases)

    stored = await mongo.get_collection("formulas").find().sort("name", 1).to_list()
    assert stored == [formula, breaking]
    found = await MongoDBFormulaRepository(mongo).get_by_id(str(formula["_id"]))
    assert found is not None
    assert found.version == 3
