"""Migration 0006: candles lie by timeframe first; what is read and written stays the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jts_storage import SeriesKey, StorageSettings, Timeframe, migrate
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError
from jts_storage.migrate import clickhouse as migrations_module
from jts_storage.migrate import replacing
from jts_storage.migrate.clickhouse import ClickHouseMigrations
from jts_storage.migrate.copying import Copy, RangeCopy
from jts_storage.migrate.opening import Opening
from jts_storage.migrate.plan import Goal
from jts_storage.migrate.replacing import Replacement
from jts_storage.settings.clickhouse import ClickHouseConfig
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import START, make_candles
from tests.migration.conftest import cloned, fresh_name

OLD, NEW = "symbol, exchange, timeframe, timestamp", "timeframe, symbol, exchange, timestamp"
WHOLE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
KEYS = [
    SeriesKey(symbol, timeframe, exchange)
    for symbol in ("A", "B", "C")
    for exchange in ("KRX", "NXT")
    for timeframe in (Timeframe.M1, Timeframe.D1)
]
ROWS = (
    "SELECT count(), groupBitXor(cityHash64(symbol, exchange, timeframe, toString(timestamp),"
    " toString(open), toString(close), volume, version, is_deleted)) FROM candles FINAL"
)
INSERT = "INSERT INTO {table} VALUES ('{symbol}', 'KRX', '1m', '{at}', 1, 2, 1, 2, 5, {version}, 0)"
LATER = 3 * 10**18


class Died(RuntimeError):
    pass


@pytest.fixture(scope="module")
def filled(engine_used: Callable[[str], None]) -> Iterator[ClickHouseManager]:
    """The table before the migration: rows of one candle that no merge has put together, and
    deleted ones. Each test gets a copy.
    """
    engine_used("chDB")
    with ClickHouseManager(embedded_path=":memory:", database=fresh_name("filled")) as manager:
        asyncio.run(fill(manager))
        yield manager
        manager.execute(f"DROP DATABASE {manager.config.database}")


async def fill(clickhouse: ClickHouseManager) -> None:
    await migrate.up(migrate.Databases(clickhouse), to="5")
    clickhouse.execute("SYSTEM STOP MERGES candles")
    repository = ClickHouseCandleRepository(clickhouse)
    for number, key in enumerate(KEYS):
        await repository.save_many(key, make_candles(key, 30 + number))
        await repository.save_many(key, make_candles(key, 10 + number, seed=7))
    await repository.delete_range(KEYS[0], START, START + timedelta(minutes=5))
    await repository.delete_range(KEYS[3], *WHOLE)


@pytest.fixture
def earlier(filled: ClickHouseManager) -> Iterator[ClickHouseManager]:
    with cloned(filled) as manager:
        manager.execute("SYSTEM STOP MERGES candles")
        yield manager


def sort_key(manager: ClickHouseManager) -> str:
    found = manager.execute(
        "SELECT sorting_key FROM system.tables WHERE database = currentDatabase()"
        " AND name = 'candles'"
    )
    return str(found[0][0])


async def answers(manager: ClickHouseManager) -> list[Any]:
    """What every kind of reading gives."""
    candles = ClickHouseCandleRepository(manager)
    key = KEYS[0]
    return [
        await candles.get_ranges(KEYS, *WHOLE),
        await candles.get_ranges(KEYS[:2], *WHOLE),
        await candles.get_panel(Timeframe.M1, *WHOLE),
        await candles.get_panel(Timeframe.D1, *WHOLE, keys=KEYS[1::2], last=3),
        await candles.get_panel(Timeframe.M1, *WHOLE, exchange="NXT"),
        await candles.get_latest_panel(Timeframe.M1, 2),
        [await candles.get_latest(each, 3) for each in KEYS],
        [await candles.get_coverage(each) for each in KEYS],
        [await candles.count(each) for each in KEYS],
        await candles.coverage_by_day(key),
        await candles.resample(key, Timeframe.H1, *WHOLE),
        [block async for block in candles.stream(key, *WHOLE, block_rows=7)],
        await candles.list_keys(),
        await candles.list_keys(limit=3, after=KEYS[4]),
    ]


async def turn(databases: migrate.Databases, goal: str) -> None:
    """Apply the new order of the rows alone, or take it back."""
    if goal == "up":
        await migrate.up(databases, to="6")
    else:
        await migrate.down(databases, to="5")


async def test_all_that_is_read_is_the_same_before_it_after_it_and_taken_back(
    earlier: ClickHouseManager,
) -> None:
    databases = migrate.Databases(earlier)
    before, rows = await answers(earlier), earlier.execute(ROWS)
    assert len(before[0][KEYS[-1]]) == 41
    for goal, key in (("up", NEW), ("down", OLD), ("up", NEW)):
        await turn(databases, goal)
        assert sort_key(earlier) == key
        assert await answers(earlier) == before
        assert earlier.execute(ROWS) == rows, "versions and deleted candles among them"


async def test_before_it_candles_are_written_deleted_and_read(earlier: ClickHouseManager) -> None:
    candles, key = ClickHouseCandleRepository(earlier), KEYS[0]
    written = make_candles(key, 50, seed=9)
    await candles.save_many(key, written)
    assert await candles.get_range(key, *WHOLE) == written
    assert await candles.delete_range(key, START, START) == 1
    await migrate.up(migrate.Databases(earlier))
    assert len(await candles.get_range(key, *WHOLE)) == 49, "the same repository, without a restart"
    await candles.save_many(key, written)
    assert await candles.get_range(key, *WHOLE) == written


async def test_check_tells_of_the_old_order_and_what_mends_it(earlier: ClickHouseManager) -> None:
    found = await migrate.check(migrate.Databases(earlier))
    (order,) = [each for each in found if each.where == "candles"]
    assert (order.what, order.expected, order.actual) == ("order by", f"({NEW})", f"({OLD})")
    assert {each.remedy for each in found} == {"jts-storage migrate up --store clickhouse"}
    await migrate.up(migrate.Databases(earlier))
    assert await migrate.check(migrate.Databases(earlier)) == []


async def test_opening_migrates_an_embedded_table(earlier: ClickHouseManager) -> None:
    stores = migrate.Databases(earlier)
    await Opening(StorageSettings(env_file=None), stores).prepare()
    assert sort_key(earlier) == NEW


async def test_a_table_that_has_the_order_already_is_left_alone(
    clickhouse: ClickHouseManager,
) -> None:
    databases = migrate.Databases(clickhouse)
    await migrate.up(databases)
    identity = (
        "SELECT name, uuid FROM system.tables WHERE database = currentDatabase() AND name LIKE 'c%'"
    )
    before = clickhouse.execute(identity)
    await migrate.stamp(databases, "5")
    await migrate.up(databases)
    assert clickhouse.execute(identity) == before


@pytest.mark.slow
async def test_a_table_by_year_stays_one(clickhouse: ClickHouseManager) -> None:
    databases = migrate.Databases(clickhouse, partition_by_year=True)
    await migrate.up(databases, to="5")
    key = SeriesKey("A", Timeframe.D1)
    series = make_candles(key, 700)
    await ClickHouseCandleRepository(clickhouse).save_many(key, series)
    for goal in ("up", "down", "up"):
        await turn(databases, goal)
        assert await ClickHouseCandleRepository(clickhouse).get_range(key, *WHOLE) == series
    await migrate.up(databases)
    assert await migrate.check(databases) == []


# ---- writers meanwhile


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["up", "down"])
@pytest.mark.parametrize("merged", [False, True])
async def test_what_is_written_until_the_exchange_is_taken_over(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, goal: str, merged: bool
) -> None:
    """A merge may leave as many rows as there were before the late write."""
    databases = migrate.Databases(earlier)
    if goal == "down":
        await turn(databases, "up")
        earlier.execute("SYSTEM STOP MERGES candles")
        await ClickHouseCandleRepository(earlier).save_many(KEYS[0], make_candles(KEYS[0], 20))
    count = "SELECT count() FROM {}"
    rows = earlier.execute(count.format("candles"))
    retire = Replacement._retire

    def late(self: Replacement) -> None:
        old = INSERT.replace("{table}", "candles_new")
        earlier.execute(old.format(symbol="A", at="2024-03-04 05:06:00", version=LATER))
        if merged:
            earlier.execute("SYSTEM START MERGES candles_new")
            earlier.execute("OPTIMIZE TABLE candles_new FINAL")
            earlier.execute("SYSTEM STOP MERGES candles_new")
            for second in range(rows[0][0] - earlier.execute(count.format("candles_new"))[0][0]):
                at = f"2024-03-05 05:{second // 60:02}:{second % 60:02}"
                earlier.execute(old.format(symbol="B", at=at, version=LATER))
            assert earlier.execute(count.format("candles_new")) == rows
        # What the new table got in the meantime is later than what is taken over.
        new = INSERT.replace("{table}", "candles")
        earlier.execute(new.format(symbol="A", at="2024-03-04 05:06:00", version=LATER + 1))
        if not merged:  # else the counts would tell that somebody wrote
            earlier.execute(old.format(symbol="D", at="2024-03-04 05:06:00", version=LATER))
        retire(self)

    monkeypatch.setattr(Replacement, "_retire", late)
    await turn(databases, goal)
    found = "SELECT symbol, max(version), count() FROM candles FINAL WHERE version >= {} GROUP BY 1"
    by_symbol = {s: (v, n) for s, v, n in earlier.execute(found.format(LATER))}
    assert by_symbol.pop("A") == (LATER + 1, 1)
    assert by_symbol.keys() == ({"B"} if merged else {"D"})


@pytest.mark.slow
async def test_a_later_version_of_a_row_that_was_copied_is_taken_over(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    retire = Replacement._retire
    of_c = "symbol = 'C' AND exchange = 'KRX' AND timeframe = '1m'"
    ((at,),) = earlier.execute(f"SELECT toString(max(timestamp)) FROM candles WHERE {of_c}")
    found = (
        "SELECT version, volume, count() FROM candles FINAL"
        f" WHERE {of_c} AND timestamp = '{at}' GROUP BY 1, 2"
    )
    assert earlier.execute(found)[0][0] < LATER

    def late(self: Replacement) -> None:
        statement = INSERT.replace("{table}", "candles_new")
        earlier.execute(statement.format(symbol="C", at=at.split(".")[0], version=LATER))
        retire(self)

    monkeypatch.setattr(Replacement, "_retire", late)
    await migrate.up(migrate.Databases(earlier))
    assert earlier.execute(found) == [(LATER, 5, 1)]


@pytest.mark.slow
async def test_who_writes_before_each_statement_does_not_hold_it_up(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row that is new each time, and one that is replaced each time."""
    written = 0

    def write() -> None:
        nonlocal written
        written += 1
        for symbol, second in (("A", written), ("B", 0)):
            at = f"2024-03-04 05:{second // 60:02}:{second % 60:02}"
            statement = INSERT.replace("{table}", "candles")
            earlier.execute(statement.format(symbol=symbol, at=at, version=LATER + written))

    before_each_statement(write, monkeypatch)
    await migrate.up(migrate.Databases(earlier), to="6")
    assert sort_key(earlier) == NEW
    late = (
        "SELECT symbol, count(), max(version), count() = uniqExact(version) FROM candles FINAL"
        f" WHERE version > {LATER} GROUP BY symbol ORDER BY symbol"
    )
    assert earlier.execute(late) == [
        ("A", written, LATER + written, 1),
        ("B", 1, LATER + written, 1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["embedded", "server"])
async def test_nothing_is_lost_of_what_threads_write_all_the_while(where: str) -> None:
    """Each thread writes new candles, replaces and deletes others."""
    with ExitStack() as closing:
        given: dict[str, Any] = {"embedded_path": ":memory:", "database": f"steady_{where}"}
        if where == "server":
            server = closing.enter_context(ClickHouseServer(database=given["database"]))
            given |= {"embedded_path": None, "host": server.host, "port": server.port}
        manager = closing.enter_context(ClickHouseManager(**given))
        closing.callback(manager.execute, f"DROP DATABASE {manager.config.database}")
        await migrate.up(migrate.Databases(manager), to="5")
        for key in KEYS:
            await ClickHouseCandleRepository(manager).save_many(key, make_candles(key, 500))
        writers = [Collector(manager.config, SeriesKey(f"W{n}", Timeframe.M1)) for n in range(3)]
        for writer in writers:
            writer.thread.start()
        try:
            await migrate.up(migrate.Databases(manager))
            await asyncio.sleep(0.3)
        finally:
            for writer in writers:
                writer.stop()
        assert sort_key(manager) == NEW
        candles = ClickHouseCandleRepository(manager)
        for writer in writers:
            assert writer.rounds > 3
            found = await candles.get_range(writer.key, *WHOLE)
            assert {each.timestamp: each.close for each in found} == writer.acknowledged
            assert await candles.count(writer.key) == len(writer.acknowledged)


class Collector:
    """Writes a few candles after the other, and keeps what was acknowledged."""

    def __init__(self, config: ClickHouseConfig, key: SeriesKey) -> None:
        self.key, self.acknowledged, self.rounds = key, dict[datetime, Decimal](), 0
        self._config, self._stopped, self._failed = config, threading.Event(), [Exception()]
        self.thread = threading.Thread(target=lambda: asyncio.run(self._write()))

    async def _write(self) -> None:
        with ClickHouseManager(self._config) as manager:
            candles = ClickHouseCandleRepository(manager)
            while not self._stopped.is_set():
                # Each overlaps the last one.
                at = START + timedelta(minutes=5 * self.rounds)
                series = make_candles(self.key, 10, start=at, seed=self.rounds)
                await candles.save_many(self.key, series)
                self.acknowledged |= {each.timestamp: each.close for each in series}
                await candles.delete_range(self.key, at, at)
                del self.acknowledged[at]
                self.rounds += 1
        self._failed.clear()

    def stop(self) -> None:
        self._stopped.set()
        self.thread.join()
        assert not self._failed, "its thread died"


@pytest.mark.slow
async def test_an_insert_that_began_before_the_exchange_is_waited_for(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into the table that was replaced, after all late rows were looked for."""
    exchange = Replacement._exchange
    slow = (
        "INSERT INTO candles SELECT 'S', 'KRX', '1m', toDateTime64(number, 3, 'UTC'), 1, 2, 1, 2,"
        f" 5, {LATER} + sleepEachRow(0.25), 0 FROM numbers(4) SETTINGS max_block_size = 1"
    )
    inserting = threading.Thread(target=earlier.execute, args=(slow,))

    def beside_an_insert(self: Replacement) -> None:
        inserting.start()
        of_it = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO candles SE%'"
        while not earlier.execute(of_it)[0][0]:
            time.sleep(0.01)
        exchange(self)

    monkeypatch.setattr(Replacement, "_exchange", beside_an_insert)
    await migrate.up(migrate.Databases(earlier))
    inserting.join()
    assert earlier.execute("SELECT count() FROM candles FINAL WHERE symbol = 'S'") == [(4,)]


@pytest.mark.slow
async def test_inserts_that_the_server_gathers_are_waited_for_too(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it writes them it calls them another kind."""
    sent: list[str] = []
    execute: Any = vars(replacing)["execute"]

    def noted(sql: str, **options: Any) -> Any:
        sent.append(sql)
        return execute(sql, **options)

    monkeypatch.setattr(replacing, "execute", noted)
    await migrate.up(migrate.Databases(earlier))
    looks = [each for each in sent if "system.processes" in each]
    assert looks
    assert all("'Insert'" in each and "'AsyncInsertFlush'" in each for each in looks)


async def test_a_copy_that_differs_is_never_exchanged(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, insert = earlier.execute(ROWS), Copy.insert

    def lossy(self: Copy, source: str, target: str, where: str = "1") -> str:
        return (
            insert(self, source, target, where)
            .replace("toInt64(", "(")
            .replace("is_deleted FROM", "0 FROM")
        )

    monkeypatch.setattr(Copy, "insert", lossy)
    with pytest.raises(StorageError, match="differs from it"):
        await migrate.up(migrate.Databases(earlier))
    assert (sort_key(earlier), earlier.execute(ROWS)) == (OLD, rows)
    monkeypatch.undo()
    await migrate.up(migrate.Databases(earlier))
    assert (sort_key(earlier), earlier.execute(ROWS)) == (NEW, rows)


# ---- deaths


@pytest.mark.slow
async def test_ranges_that_were_copied_before_a_death_are_compared_again(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have as many rows as before, and yet another: a merge has made room for it."""
    databases, count = migrate.Databases(earlier), "SELECT count() FROM candles"
    rows = earlier.execute(count)

    def died(self: Replacement) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(Replacement, "_exchange", died)
        with pytest.raises(Died):
            await migrate.up(databases)
    earlier.execute("SYSTEM START MERGES candles")
    earlier.execute("OPTIMIZE TABLE candles FINAL")
    late = rows[0][0] - earlier.execute(count)[0][0]
    assert late > 0
    statement = INSERT.replace("{table}", "candles")
    earlier.execute("SYSTEM STOP MERGES candles")
    for number in range(late):
        at = f"2024-03-04 {number // 60:02}:{number % 60:02}:00"
        earlier.execute(statement.format(symbol="A", at=at, version=LATER))
    assert earlier.execute(count) == rows
    monkeypatch.setattr(RangeCopy, "run_late", lambda _: None)
    await migrate.up(databases)
    found = f"SELECT count() FROM candles FINAL WHERE version = {LATER}"
    assert (sort_key(earlier), earlier.execute(found)) == (NEW, [(late,)])


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["6", "5"])
async def test_a_run_that_dies_after_any_statement_is_gone_on_with(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, goal: str
) -> None:
    """With a write between death and the next run, which a range that was copied before lacks."""
    migrations = ClickHouseMigrations(earlier, chunk_rows=100)
    died = 0
    for last in range(200):
        await reach(migrations, "5" if goal == "6" else "6")
        with monkeypatch.context() as patched:
            let_pass(last, patched)
            try:
                await reach(migrations, goal)
            except Died:
                died += 1
            else:
                break
        at = f"2024-03-04 05:{last // 60:02}:{last % 60:02}"
        statement = INSERT.replace("{table}", "candles")
        earlier.execute(statement.format(symbol="A", at=at, version=LATER))
        rows = earlier.execute(ROWS)
        await reach(migrations, goal)
        assert earlier.execute(ROWS) == rows, f"gone on with after {last} statements"
        left = {name for (name,) in earlier.execute("SHOW TABLES LIKE 'candles%'")}
        assert not {name for name in left if name.endswith(("_new", "_copied"))}
    assert died > 30
    late = f"SELECT count() FROM candles FINAL WHERE version = {LATER}"
    assert earlier.execute(late) == [(died,)]


async def reach(migrations: ClickHouseMigrations, revision: str) -> None:
    await migrations.go(Goal("up", revision))
    await migrations.go(Goal("down", revision))


def before_each_statement(act: Callable[[], None], patched: pytest.MonkeyPatch) -> None:
    make_sender = migrations_module._sender

    def sender(connection: Any) -> Any:
        send = make_sender(connection)

        def send_after(sql: str, **options: Any) -> Any:
            act()
            return send(sql, **options)

        return send_after

    patched.setattr(migrations_module, "_sender", sender)


def let_pass(last: int, patched: pytest.MonkeyPatch) -> None:
    """Let so many statements pass and none after them, not even to free the lock."""
    make_sender, passed = migrations_module._sender, 0

    def sender(connection: Any) -> Any:
        send = make_sender(connection)

        def send_or_die(sql: str, **options: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed > last:
                raise Died
            return send(sql, **options)

        return send_or_die

    patched.setattr(migrations_module, "_sender", sender)
