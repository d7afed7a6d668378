"""Which of two writes counts is told by versions that no clock of a host has given."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jts_storage.clickhouse import candles, statements
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.history import Look
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import stamp
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.testing.factories import make_candles, make_symbol

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
HOUR = 3_600 * 10**9
SERVER_NOW = "SELECT toUnixTimestamp64Nano(now64(9))"
# What the web application sends: it knows of no version.
INSERT = "INSERT INTO symbols (code, name, market, sector, is_active, updated_at) VALUES"


@pytest.fixture
def symbols(manager: ClickHouseManager) -> ClickHouseSymbolRepository:
    return ClickHouseSymbolRepository(manager)


@pytest.fixture
def host_an_hour_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + HOUR)
    yield
    monkeypatch.undo()


def insert(manager: ClickHouseManager, name: str, updated_at: str) -> None:
    manager.execute(f"{INSERT} ('A', '{name}', 'ETF', '', 1, {updated_at})")


async def test_a_symbol_whose_updated_at_lies_ahead_is_replaced_by_the_next_save(
    symbols: ClickHouseSymbolRepository, manager: ClickHouseManager
) -> None:
    insert(manager, "Korean local time", "now() + INTERVAL 9 HOUR")
    insert(manager, "a day ahead", "now() + INTERVAL 1 DAY")
    saved = await symbols.save(make_symbol("A", name="saved later"))
    assert await symbols.get_by_code("A") == saved


async def test_who_writes_updated_at_alone_is_seen_whatever_it_says(
    symbols: ClickHouseSymbolRepository, manager: ClickHouseManager
) -> None:
    await symbols.save(make_symbol("A", name="saved earlier"))
    insert(manager, "from the web", "'2020-01-02 03:04:05'")
    found = await symbols.get_by_code("A")
    assert found is not None
    assert found.name == "from the web"


async def test_the_higher_version_counts_in_whatever_order_rows_arrive(
    symbols: ClickHouseSymbolRepository, manager: ClickHouseManager
) -> None:
    early, late = (stamp(make_symbol("A", name=name)) for name in ("early", "late"))
    symbols.store([late, early], 20)
    symbols.store([late], 10)
    assert await symbols.get_by_code("A") == early
    manager.execute("OPTIMIZE TABLE symbols FINAL")
    assert await symbols.get_by_code("A") == early


@pytest.mark.parametrize("is_settled", [True, False])
async def test_rows_that_change_nothing_are_written_while_an_earlier_commit_is_to_come(
    candles: ClickHouseCandleRepository, is_settled: bool
) -> None:
    key = SeriesKey("SETTLED" if is_settled else "UNSETTLED", Timeframe.M1)
    series, others = make_candles(key, 5), make_candles(key, 5, seed=7)
    candles.write(series, 10)
    candles.replace_rows(SeriesRows.of(series), 30, source="", is_settled=is_settled)
    candles.write(others, 20)  # where none is to come, rows may stay as they are
    stays = is_settled and candles.look(SeriesRows.of(series)) is not None
    assert await candles.get_range(key, *ALWAYS) == (others if stays else series)


async def test_the_latest_version_is_known_whoever_wrote_it(
    symbols: ClickHouseSymbolRepository, manager: ClickHouseManager
) -> None:
    assert symbols.latest_version() == 0
    symbols.store([stamp(make_symbol("A"))], 20)
    symbols.store([stamp(make_symbol("B"))], 10)
    assert symbols.latest_version() == 20
    [(before,)] = manager.execute(SERVER_NOW)
    insert(manager, "from the web", "now()")
    assert symbols.latest_version() >= before


async def test_a_save_goes_before_a_version_that_lies_ahead(
    symbols: ClickHouseSymbolRepository, manager: ClickHouseManager
) -> None:
    [(now,)] = manager.execute(SERVER_NOW)
    symbols.store([stamp(make_symbol("A"))], now + HOUR)
    saved = await symbols.save(make_symbol("A", name="saved later"))
    assert await symbols.get_by_code("A") == saved
    assert symbols.latest_version() == now + HOUR + 1


async def test_a_save_of_candles_goes_before_a_version_that_lies_ahead(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    key = SeriesKey("AHEAD", Timeframe.M1)
    [(now,)] = manager.execute(SERVER_NOW)
    candles.write(make_candles(key, 5), now + HOUR)
    later = make_candles(key, 5, seed=7)
    await candles.save_many(key, later)
    assert await candles.get_range(key, *ALWAYS) == later
    assert candles.latest_version() == now + HOUR + 1


@pytest.mark.usefixtures("host_an_hour_ahead")
async def test_the_clock_of_a_host_gives_no_symbol_its_version(
    symbols: ClickHouseSymbolRepository, manager: ClickHouseManager
) -> None:
    manager.execute("TRUNCATE TABLE symbols")
    await ClickHouseSymbolRepository(manager).save(make_symbol("B"))
    assert symbols.latest_version() <= manager.execute(SERVER_NOW)[0][0] + HOUR // 2


@pytest.mark.usefixtures("host_an_hour_ahead")
@pytest.mark.parametrize("how", ["save", "delete", "import", "import of other types"])
async def test_the_clock_of_a_host_gives_no_candle_its_version(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager, tmp_path: Path, how: str
) -> None:
    key = SeriesKey(f"HOST {how} {manager.config.is_embedded}", Timeframe.M1)
    ours, others = make_candles(key, 10, seed=1), make_candles(key, 10, seed=2)
    if how == "save":
        await candles.save_many(key, ours)
    elif how == "delete":
        candles.write(ours, 1)
        await candles.delete_range(key, *ALWAYS)
    else:
        table = ours.to_arrow()
        if how == "import of other types":
            table = table.set_column(
                table.schema.get_field_index("volume"), "volume", table["volume"].cast("int64")
            )
        pq.write_table(table, tmp_path / "ours.parquet")
        await candles.import_parquet(key, [tmp_path / "ours.parquet"])
    # Somebody whose clock is right writes later, without a look at what is stored.
    candles.write(others, manager.execute(SERVER_NOW)[0][0])
    assert await candles.get_range(key, *ALWAYS) == others


async def test_what_comes_between_look_and_insert_is_in_the_history(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SeriesKey("BETWEEN", Timeframe.M1)
    one, other = (ClickHouseCandleRepository(manager) for _ in range(2))
    first, between, last = (make_candles(key, 5, seed=seed) for seed in (1, 2, 3))
    await one.save_many(key, first)
    look = ClickHouseCandleRepository.look

    def then_another_writes(self: ClickHouseCandleRepository, rows: SeriesRows) -> Look | None:
        found = look(self, rows)
        monkeypatch.setattr(ClickHouseCandleRepository, "look", look)
        other._save_many(key, between, False)
        return found

    monkeypatch.setattr(ClickHouseCandleRepository, "look", then_another_writes)
    await one.save_many(key, last)
    assert await one.get_range(key, *ALWAYS) == last
    kept = "SELECT close FROM candles_history WHERE symbol = 'BETWEEN' ORDER BY ended, timestamp"
    assert [row[0] for row in manager.execute(kept)] == [each.close for each in (*first, *between)]


async def test_writers_of_one_series_at_once_lose_nothing_of_the_history(
    manager: ClickHouseManager,
) -> None:
    key = SeriesKey("AT ONCE", Timeframe.M1)
    writers = [ClickHouseCandleRepository(manager) for _ in range(2)]
    series = [make_candles(key, 3, seed=seed) for seed in range(30)]
    for two in zip(series[::2], series[1::2], strict=True):
        await asyncio.gather(*(w.save_many(key, s) for w, s in zip(writers, two, strict=True)))
    rows = "SELECT close FROM candles_history WHERE symbol = 'AT ONCE'"
    kept = [row[0] for row in manager.execute(rows)]
    now = [each.close for each in await writers[0].get_range(key, *ALWAYS)]
    assert sorted(kept + now) == sorted(each.close for every in series for each in every)


async def test_a_deletion_beside_a_save_is_of_what_that_saves(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SeriesKey("DELETED", Timeframe.M1)
    one, other = (ClickHouseCandleRepository(manager) for _ in range(2))
    first, last = (make_candles(key, 3, seed=seed) for seed in (1, 2))
    await one.save_many(key, first)
    insert = ClickHouseCandleRepository._insert
    ends = [checks.to_ms(each) for each in ALWAYS]
    deletion = threading.Thread(target=lambda: other._delete_range(key, *ends))

    def beside_a_deletion(self: ClickHouseCandleRepository, *of: Any, **more: Any) -> None:
        deletion.start()
        deletion.join(0.5)  # as long as it would take if it did not wait for this
        insert(self, *of, **more)

    monkeypatch.setattr(ClickHouseCandleRepository, "_insert", beside_a_deletion)
    await one.save_many(key, last)
    await asyncio.to_thread(deletion.join)
    assert not await one.get_range(key, *ALWAYS)
    kept = "SELECT close FROM candles_history WHERE symbol = 'DELETED' ORDER BY ended, timestamp"
    assert [row[0] for row in manager.execute(kept)] == [each.close for each in (*first, *last)]


async def test_a_save_does_not_wait_for_one_of_the_same_series_in_another_database(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SeriesKey("ELSEWHERE", Timeframe.M1)
    manager.execute("DROP DATABASE IF EXISTS elsewhere")
    manager.execute("CREATE DATABASE elsewhere")
    for table in ("candles", "candles_history"):
        manager.execute(f"CREATE TABLE elsewhere.{table} AS {table}")
    is_there, may_go_on = threading.Event(), threading.Event()
    insert = manager.insert_columns

    def hold(*given: Any, **more: Any) -> Any:
        is_there.set()
        may_go_on.wait(5)
        return insert(*given, **more)

    monkeypatch.setattr(manager, "insert_columns", hold)
    with ClickHouseManager(replace(manager.config, database="elsewhere")) as elsewhere:
        held = asyncio.create_task(
            ClickHouseCandleRepository(manager).save_many(key, make_candles(key, 3))
        )
        assert await asyncio.to_thread(is_there.wait, 20)
        await ClickHouseCandleRepository(elsewhere).save_many(key, make_candles(key, 3))
        assert not held.done(), "the other save waited until this one went on"
        may_go_on.set()
        await held
    manager.execute("DROP DATABASE elsewhere")


async def test_writes_that_are_told_the_same_moment_get_versions_of_their_own(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    monkeypatch.setattr(statements, "select_next_version", lambda _: "SELECT toUInt64(5)")
    monkeypatch.setattr(candles, "time_ns", lambda: 5)  # the engine's clock is this process's
    key = SeriesKey("SAME MOMENT", Timeframe.M1)
    writers = [ClickHouseCandleRepository(manager) for _ in range(4)]
    all_are_here = threading.Barrier(4)
    write = ClickHouseCandleRepository.write_found

    def write_together(self: ClickHouseCandleRepository, *of: Any, **more: Any) -> None:
        all_are_here.wait(20)
        write(self, *of, **more)

    monkeypatch.setattr(ClickHouseCandleRepository, "write_found", write_together)
    await asyncio.gather(*(each.save_many(key, make_candles(key, 5)) for each in writers))
    stored = manager.execute("SELECT DISTINCT version FROM candles ORDER BY version")
    assert stored == [(5,), (6,), (7,), (8,)]
