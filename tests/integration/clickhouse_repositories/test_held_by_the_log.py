"""In an embedded store a held range needs no question, and is still what the table would give."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from jts_storage.clickhouse import cache, statement_changes, tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.change_log import ANYTHING, Change
from jts_storage.clickhouse.connector import connect
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles
from tests.runs import some_by_day

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
MINUTE = timedelta(minutes=1)
SERIES = make_candles(KEY, 1_000)
OTHER_KEY = SeriesKey("other", Timeframe.M1)

_COPY = (
    "SELECT * REPLACE (toUInt64(volume + 1) AS volume, version + 1 AS version)"
    " FROM candles FINAL WHERE symbol = '005930' ORDER BY timestamp LIMIT 1"
)
_INSERT = f"INSERT INTO candles {_COPY}"
_ELSEWHERE = """
import sys
from jts_storage.clickhouse.manager import ClickHouseManager

with ClickHouseManager(embedded_path=sys.argv[1], fsync=False) as manager:
    manager.execute(
        "INSERT INTO candles SELECT * REPLACE (timestamp - INTERVAL 1 DAY AS timestamp)"
        " FROM candles ORDER BY timestamp LIMIT 1"
    )
"""


@pytest.fixture
def manager() -> Iterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="held") as manager:
        for table in ("copy", "candles", "other"):
            manager.execute(f"DROP TABLE IF EXISTS {table} SYNC")
        tables.build().metadata.create_all(manager.engine)
        yield manager


@pytest.fixture
async def candles(manager: ClickHouseManager) -> ClickHouseCandleRepository:
    """A repository that holds SERIES."""
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES)
    await _held(candles)
    return candles


async def _held(candles: ClickHouseCandleRepository, key: SeriesKey = KEY) -> CandleSeries:
    first = await candles.get_range(key, *ALWAYS)
    assert await candles.get_range(key, *ALWAYS) is first, "it is not held"
    return first


async def _truth(manager: ClickHouseManager) -> CandleSeries:
    return await ClickHouseCandleRepository(manager, cache_bytes=0).get_range(KEY, *ALWAYS)


def _minutes(start: int, end: int) -> tuple[datetime, datetime]:
    return START + start * MINUTE, START + end * MINUTE


def _by_engine(manager: ClickHouseManager) -> None:
    with manager.engine.begin() as connection:
        connection.execute(text(_INSERT))


def _by_table(manager: ClickHouseManager) -> None:
    candles = tables.build().candles
    with manager.engine.begin() as connection:
        connection.execute(candles.delete().where(candles.c.timestamp < START + 5 * MINUTE))


def _by_dbapi(manager: ClickHouseManager) -> None:
    connection = connect(manager.config)
    connection.cursor().execute(_INSERT)
    connection.close()


def _by_columns(manager: ClickHouseManager) -> None:
    found = manager.read_columns(f"SELECT toUInt64(version + 1) AS version FROM ({_COPY})")
    manager.execute("CREATE TABLE copy AS candles")
    manager.execute(f"INSERT INTO copy {_COPY}")
    manager.execute("RENAME TABLE candles TO other, copy TO candles")
    assert len(found["version"]) == 1


def _by_rows(manager: ClickHouseManager) -> None:
    rows = manager.execute(_COPY)
    manager.execute_many("INSERT INTO candles VALUES", rows)


def _by_a_stream(manager: ClickHouseManager) -> None:
    list(manager.stream_columns(_INSERT))


def _by_another_manager(manager: ClickHouseManager) -> None:
    with ClickHouseManager(manager.config) as other:
        other.execute(_INSERT)


def _by_a_buffer(manager: ClickHouseManager) -> None:
    manager.execute(
        "CREATE TABLE copy AS candles ENGINE = Buffer(held, candles, 1, 9, 9, 9, 9, 9, 9)"
    )
    manager.execute(f"INSERT INTO copy {_COPY}")
    manager.execute("OPTIMIZE TABLE copy")


def _by_a_mutation_that_is_awaited_by_nobody(manager: ClickHouseManager) -> None:
    manager.execute(
        "ALTER TABLE candles UPDATE volume = volume + 1 WHERE 1 SETTINGS mutations_sync = 0"
    )


CHANGES: dict[str, Callable[[ClickHouseManager], Any] | str] = {
    "INSERT": _INSERT,
    "WITH ... INSERT": f"WITH 1 AS one {_INSERT}",
    "behind a SELECT": f"SELECT 1; {_INSERT}",
    "nested comments": "/* once: /* the old way */ SELECT * */ TRUNCATE TABLE candles",
    "in a comment's shadow": f"/* SELECT */ {_INSERT}",
    "DELETE": "DELETE FROM candles WHERE timestamp < '2024-01-02 00:10:00'",
    "ALTER": "ALTER TABLE candles DELETE WHERE volume > 0 SETTINGS mutations_sync = 2",
    "TRUNCATE": "TRUNCATE TABLE candles",
    "through SQLAlchemy": _by_engine,
    "through a table of SQLAlchemy": _by_table,
    "through the DB-API": _by_dbapi,
    "RENAME": _by_columns,
    "rows": _by_rows,
    "as a stream": _by_a_stream,
    "another manager": _by_another_manager,
    "a buffer": _by_a_buffer,
}


@pytest.mark.parametrize(
    "change", some_by_day((pytest.param(each, id=name) for name, each in CHANGES.items()), 2)
)
async def test_any_statement_that_writes_is_noticed(
    change: Callable[[ClickHouseManager], Any] | str,
    candles: ClickHouseCandleRepository,
    manager: ClickHouseManager,
) -> None:
    if isinstance(change, str):
        manager.execute(change, idempotent=False)
    else:
        change(manager)
    truth = await _truth(manager)
    assert truth != SERIES
    assert await candles.get_range(KEY, *ALWAYS) == truth


async def test_exchange_is_noticed(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("CREATE TABLE other AS candles")
    manager.execute("EXCHANGE TABLES candles AND other")
    assert len(await candles.get_range(KEY, *ALWAYS)) == 0
    manager.execute("DROP TABLE candles SYNC")
    with pytest.raises(StorageError):
        await candles.get_range(KEY, *ALWAYS)


async def test_statements_that_only_read_drop_nothing(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    before = await _held(candles)
    manager.execute("SELECT count() FROM candles")
    manager.execute("SELECT %(name)s", {"name": "; INSERT INTO candles"})
    manager.read_columns("SELECT 1 WHERE %(name)s = ''", {"name": "; INSERT"})
    await candles.list_keys()
    assert candles._cache.held(KEY, *checks.range_ms(*ALWAYS)) is before


async def test_a_failed_statement_may_have_written(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    """In two blocks, the first of which is stored before the second fails."""
    statement = (
        "INSERT INTO candles SELECT * REPLACE (toUInt64(volume + 1) AS volume, version + 1 AS"
        " version, if(timestamp > '2024-01-02 10:00:00', toUInt8(throwIf(1)), is_deleted)"
        " AS is_deleted) FROM (SELECT * FROM candles FINAL ORDER BY timestamp)"
    )
    few = {"max_block_size": 100, "min_insert_block_size_rows": 100, "max_threads": 1}
    with pytest.raises(StorageError):
        manager.execute(statement, settings=few | {"min_insert_block_size_bytes": 0})
    truth = await _truth(manager)
    assert truth != SERIES, "nothing was written, so that nothing is tested"
    assert await candles.get_range(KEY, *ALWAYS) == truth


@pytest.mark.parametrize(
    "change",
    [ANYTHING, Change("candles"), Change("candles", {KEY: checks.range_ms(START, START)})],
    ids=["anything", "candles", "a candle"],
)
async def test_while_somebody_writes_nothing_is_held(
    change: Change, candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    writing, written = threading.Event(), threading.Event()

    def write() -> None:
        with manager.changes.change(change):
            writing.set()
            written.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait(10)
    assert await candles.get_range(KEY, *ALWAYS) is not await candles.get_range(KEY, *ALWAYS)
    written.set()
    thread.join(10)
    await _held(candles)


async def test_a_change_between_look_and_read_is_not_held(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    held = candles._cache
    assert held is not None
    first, last = checks.range_ms(*_minutes(5_000, 6_000))

    def read_and(statement: Callable[[], Any]) -> CandleSeries | None:
        def read() -> CandleSeries:
            thread = threading.Thread(target=statement)
            thread.start()
            thread.join(10)
            return CandleSeries.empty(OTHER_KEY)

        held.get(OTHER_KEY, first, last, read)
        return held.held(OTHER_KEY, first, last)

    def write(key: SeriesKey, minute: int) -> None:
        part = make_candles(key, 10, start=START + minute * MINUTE)
        ClickHouseCandleRepository(manager)._save_many(key, part, False)

    assert read_and(lambda: manager.execute(_INSERT)) is None
    assert read_and(lambda: write(OTHER_KEY, 5_500)) is None
    assert read_and(lambda: write(KEY, 5_500)) is not None
    held._held.clear()
    assert read_and(lambda: write(OTHER_KEY, 6_500)) is not None


async def test_readers_beside_writers_never_see_the_past(manager: ClickHouseManager) -> None:
    """Each thread writes a larger volume and must read at least that."""
    candles = ClickHouseCandleRepository(manager)
    one = make_candles(KEY, 1)
    acknowledged, failures = 0, []
    stop = threading.Event()

    def read() -> None:
        first, last = checks.range_ms(*ALWAYS)
        while not stop.is_set():
            least = acknowledged
            found = candles._get_range(KEY, first, last)
            if len(found) and int(found.columns.volume[0]) < least:
                failures.append((least, int(found.columns.volume[0])))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for volume in range(1, 30):
        columns = one.columns._replace(volume=np.array([volume], np.uint64))
        candles._save_many(KEY, CandleSeries.trusted(KEY, columns), False)
        acknowledged = volume
    stop.set()
    for reader in readers:
        reader.join(10)
    assert not failures


async def test_a_write_drops_what_it_touches_and_no_more(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    await candles.save_many(OTHER_KEY, make_candles(OTHER_KEY, 100))
    other = await _held(candles, OTHER_KEY)
    whole = await _held(candles)
    elsewhere = ClickHouseCandleRepository(manager)
    await elsewhere.save_many(KEY, make_candles(KEY, 1, start=START + 1_000 * MINUTE))
    # What lies before the new candle is held on to.
    before = candles._cache.held(KEY, *checks.range_ms(*_minutes(100, 200)))
    assert before == whole[100:201] and np.shares_memory(before.columns.low, whole.columns.low)
    assert len(await candles.get_range(KEY, *ALWAYS)) == 1_001
    assert candles._cache.held(OTHER_KEY, *checks.range_ms(*ALWAYS)) is other
    await elsewhere.delete_range(KEY, *_minutes(150, 150))
    assert await candles.get_range(KEY, *_minutes(100, 200)) == await elsewhere.get_range(
        KEY, *_minutes(100, 200)
    )
    assert await candles.get_range(OTHER_KEY, *ALWAYS) is other


async def test_a_deletion_drops_all_that_it_deletes(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    await _held(candles)
    await ClickHouseCandleRepository(manager).delete_range(KEY, *_minutes(140, 160))
    assert await candles.get_range(KEY, *_minutes(145, 200)) == SERIES[161:201]
    assert len(await candles.get_range(KEY, *_minutes(141, 160))) == 0
    after = candles._cache.held(KEY, *checks.range_ms(*_minutes(161, 900)))
    assert after == SERIES[161:901], "what lies behind is held on to"
    await candles.save_many(KEY, make_candles(KEY, 1_000, seed=9)[300:320])
    assert await candles.get_range(KEY, *_minutes(0, 999)) == await _truth(manager)


async def test_a_commit_of_several_series_drops_what_it_touches_of_each(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    keys = [SeriesKey(name, Timeframe.M1) for name in "ABC"]
    changes = CandleChanges()
    for key in keys:
        await candles.save_many(key, make_candles(key, 100))
        await _held(candles, key)
        changes.save(SeriesRows.of(make_candles(key, 100, seed=9)[40:60]))
    elsewhere = ClickHouseCandleRepository(manager, cache_bytes=0)
    elsewhere.apply(changes, candles.latest_version() + 1)
    for key in keys:
        found = await candles.get_range(key, *_minutes(0, 99))
        assert found == await elsewhere.get_range(key, *_minutes(0, 99))
        assert found[40:60] == make_candles(key, 100, seed=9)[40:60]


async def test_inserts_into_other_tables_drop_nothing(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("CREATE TABLE copy (n Int64) ENGINE = MergeTree ORDER BY n")
    held = await _held(candles)
    for size in (5, 60_000):
        manager.insert_columns("copy", {"n": np.arange(size)})
        manager.insert_columns("held.copy", {"n": np.arange(size)})
    assert candles._cache.held(KEY, *checks.range_ms(*ALWAYS)) is held


@pytest.mark.parametrize(
    "noise",
    [
        "CREATE TABLE copy AS candles ENGINE = Buffer(held, candles, 1, 9, 9, 9, 9, 9, 9)",
        "CREATE MATERIALIZED VIEW copy TO candles AS SELECT * FROM other",
        "CREATE MATERIALIZED VIEW v REFRESH EVERY 1 YEAR APPEND TO candles AS SELECT * FROM other",
        "ALTER TABLE candles MODIFY TTL toDateTime(timestamp) + INTERVAL 200 YEAR",
        "ALTER TABLE candles UPDATE volume = volume + 1 WHERE 1 SETTINGS mutations_sync = 0",
    ],
    ids=[
        "a buffer",
        "a view",
        "a view that is refreshed",
        "a table whose rows expire",
        "an unfinished mutation",
    ],
)
async def test_where_rows_may_change_without_a_statement_the_log_proves_nothing(
    noise: str, candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("CREATE TABLE other AS candles")
    await _held(candles)
    if "UPDATE" in noise:
        manager.execute("SYSTEM STOP MERGES candles")
    manager.execute(noise)
    first = await candles.get_range(KEY, *ALWAYS)
    assert await candles.get_range(KEY, *ALWAYS) is not first
    manager.execute("SYSTEM START MERGES candles")


async def test_a_view_of_candles_does_no_harm(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("CREATE TABLE other AS candles")
    manager.execute("CREATE MATERIALIZED VIEW copy TO other AS SELECT * FROM candles")
    manager.execute("CREATE VIEW IF NOT EXISTS view AS SELECT * FROM candles FINAL")
    await _held(candles)
    manager.execute("DROP VIEW view")


async def test_a_mutation_that_nobody_waits_for_is_seen(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    _by_a_mutation_that_is_awaited_by_nobody(manager)
    for _ in range(200):
        found = await candles.get_range(KEY, *ALWAYS)
        truth = await _truth(manager)
        if truth != SERIES:
            break
        assert found == SERIES
    assert await candles.get_range(KEY, *ALWAYS) == truth != SERIES


async def test_what_was_held_before_the_store_was_closed_is_not_given(
    tmp_path: Any,
) -> None:
    fields: dict[str, Any] = {"embedded_path": str(tmp_path / "store"), "fsync": False}
    with ClickHouseManager(**fields) as first:
        tables.build().metadata.create_all(first.engine)
        candles = ClickHouseCandleRepository(first)
        await candles.save_many(KEY, SERIES)
        await _held(candles)
        first.engine.dispose()  # as the pool does with connections that it replaces
        assert candles._cache.held(KEY, *checks.range_ms(*ALWAYS)) is None
        command = [sys.executable, "-c", _ELSEWHERE, fields["embedded_path"]]
        await asyncio.to_thread(subprocess.run, command, check=True)
        first.execute("SELECT 1")  # opens it again
        assert len(await candles.get_range(KEY, *ALWAYS)) == 1_001
    with pytest.raises(StorageError, match="closed"):
        await candles.get_range(KEY, *ALWAYS)


def test_a_forked_child_is_given_nothing(manager: ClickHouseManager) -> None:
    """It does not see what the parent writes."""
    candles = ClickHouseCandleRepository(manager)
    candles._save_many(KEY, SERIES, False)
    first, last = checks.range_ms(*ALWAYS)
    candles._get_range(KEY, first, last)
    assert candles._cache.held(KEY, first, last) is not None
    child = os.fork()
    if child == 0:
        os._exit(candles._cache.held(KEY, first, last) is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert candles._cache.held(KEY, first, last) is not None


async def test_other_tasks_have_a_turn_between_held_ranges(
    candles: ClickHouseCandleRepository,
) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(1_000):
        await candles.get_range(KEY, *ALWAYS)
    task.cancel()
    assert turns > 5


async def test_statements_that_come_faster_than_reads_cost_no_questions(
    candles: ClickHouseCandleRepository,
    manager: ClickHouseManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    def counted(*arguments: Any) -> bool:
        nonlocal asked
        asked += 1
        return statement_changes.changes_by_statements_alone(*arguments)

    monkeypatch.setattr(cache, "changes_by_statements_alone", counted)
    monkeypatch.setattr(cache, "_ASK_AGAIN_AFTER", 600.0)  # however slow the machine is
    for _ in range(10):
        manager.execute("OPTIMIZE TABLE candles")
        assert await candles.get_range(KEY, *_minutes(0, 9)) == SERIES[:10]
    assert asked <= 3
    monkeypatch.setattr(cache, "_ASK_AGAIN_AFTER", 0.0)
    await _held(candles)
