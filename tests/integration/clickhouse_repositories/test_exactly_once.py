"""What is written is there once: after retries, races, merges, crashes and repetitions."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.transport import WRITE_ROWS
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import ConnectionFailed
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles
from tests import forked
from tests.integration.clickhouse_repositories.conftest import ManagerFactory, without_tables
from tests.runs import some_by_day

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
OLD, NEW = make_candles(KEY, 500, seed=1), make_candles(KEY, 500, seed=2)
PARTS = "SELECT name, rows FROM system.parts WHERE active AND table = 'candles'"


# What the statements mean is the same whatever the way to the engine; over TCP answers are lost.
@pytest.fixture(params=some_by_day(["embedded", "tcp"], 2))
def bare_manager(
    request: pytest.FixtureRequest, over_tcp: ManagerFactory
) -> Iterator[ClickHouseManager]:
    yield from without_tables(request.param, over_tcp)


def next_version() -> int:
    return time.time_ns()


def parts(manager: ClickHouseManager) -> list[int]:
    query = f"{PARTS} AND database = currentDatabase() ORDER BY name"
    return [rows for _, rows in manager.execute(query)]


@pytest.mark.parametrize("rows", [500, 60_000])
async def test_a_write_whose_answer_was_lost_is_repeated_and_recognised(
    rows: int, over_tcp: ManagerFactory, tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    tcp.execute("SYSTEM STOP MERGES candles")
    series = make_candles(KEY, rows)
    patient = over_tcp(max_retries=6, retry_base_delay=0.05, compression=None)
    candles = ClickHouseCandleRepository(patient)
    assert await candles.count(KEY) == 0
    server.reset_counts()
    # The table's sample block may come back, the end of the insert may not: the rows are in.
    server.faults.cut(after_bytes=_answer_before_data(patient))
    healer = threading.Thread(target=_clear_once_it_broke, args=(server,))
    healer.start()
    await patient.run(candles.write, series, next_version())
    healer.join()
    assert server.accepted >= 1
    assert await candles.get_range(KEY, *ALWAYS) == series
    assert parts(tcp) == [rows]


def _clear_once_it_broke(server: ClickHouseServer) -> None:
    deadline = time.monotonic() + 20
    while server.accepted == 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    server.faults.clear()


def _answer_before_data(manager: ClickHouseManager) -> int:
    """How many bytes of an insert's answer come before its end."""
    names = "symbol exchange timeframe timestamp open high low close volume version"
    types = manager.execute(
        "SELECT sum(length(name) + length(type) + 2) FROM system.columns"
        " WHERE database = currentDatabase() AND table = 'candles' AND name != 'is_deleted'"
    )
    assert len(names.split()) == 10
    header = 1 + 1 + 8 + 2  # packet, table's name, block info, number of columns and rows
    return int(types[0][0]) + header


async def test_a_write_that_could_not_be_repeated_in_time_is_an_error(
    over_tcp: ManagerFactory, tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    candles = ClickHouseCandleRepository(over_tcp(max_retries=0))
    await candles.save_many(KEY, OLD[:1])
    server.faults.cut()
    with pytest.raises(ConnectionFailed):
        await candles.save_many(KEY, OLD)
    server.faults.clear()
    await candles.save_many(KEY, OLD)
    assert await candles.get_range(KEY, *ALWAYS) == OLD


async def test_the_same_insert_twice_leaves_one_part(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    version = next_version()
    for _ in range(3):
        candles.write(OLD, version, again=True)
    assert parts(manager) == [500]
    candles.write(OLD, next_version(), again=True)
    assert parts(manager) == [500, 500]


AHEAD = 10**12
"""How far, in nanoseconds, the clock of another writer is ahead."""


async def test_what_a_clock_ahead_of_ours_wrote_can_be_corrected_and_deleted(
    candles: ClickHouseCandleRepository, tmp_path: Path
) -> None:
    ahead = count(time.time_ns() + AHEAD, AHEAD)
    await candles.save_many(KEY, OLD)
    candles.write(OLD, next(ahead))
    await candles.save_many(KEY, NEW)
    assert await candles.get_range(KEY, *ALWAYS) == NEW
    candles.write(OLD, next(ahead))
    assert await candles.delete_range(KEY, *ALWAYS) == 500
    assert await candles.count(KEY) == 0
    candles.write(OLD, next(ahead))
    pq.write_table(NEW.to_arrow(), tmp_path / "new.parquet")
    await candles.import_parquet(KEY, [tmp_path / "new.parquet"])
    assert await candles.get_range(KEY, *ALWAYS) == NEW
    candles.write(OLD, next(ahead))
    changes = CandleChanges()
    changes.save(SeriesRows.of(NEW[:100]))
    changes.delete(KEY, checks.to_ms(NEW[200].timestamp), checks.to_ms(ALWAYS[1]))
    candles.apply(changes, candles.latest_version() + 1)
    assert await candles.get_range(KEY, *ALWAYS) == NEW[:100].merge(OLD[100:200])


async def test_many_short_series_are_one_insert(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    keys = [SeriesKey(f"S{n}", Timeframe.D1, f"X{n % 2}") for n in range(300)]
    series = [make_candles(key, 1 + n % 3, seed=n) for n, key in enumerate(keys)]
    changes = CandleChanges()
    for each in series:
        changes.save(SeriesRows.of(each))
    assert candles.is_one_part(changes)
    candles.apply(changes, next_version())
    assert parts(manager) == [sum(map(len, series))]
    assert await candles.get_ranges(keys, *ALWAYS) == dict(zip(keys, series, strict=True))


async def test_what_is_more_than_one_insert_needs_the_journal(
    candles: ClickHouseCandleRepository,
) -> None:
    one, many, deletion = CandleChanges(), CandleChanges(), CandleChanges()
    one.save(SeriesRows.of(make_candles(KEY, WRITE_ROWS)))
    assert candles.is_one_part(one)
    many.save(SeriesRows.of(make_candles(KEY, WRITE_ROWS + 1)))
    assert not candles.is_one_part(many)
    deletion.delete(KEY, 0, 1)
    deletion.save(SeriesRows.of(OLD))
    assert not candles.is_one_part(deletion)


async def test_as_many_series_are_one_insert_as_it_has_room_for() -> None:
    lengths = [5, WRITE_ROWS + 1, 99_000, WRITE_ROWS - 99_000, 2_000, 5_000]
    each = [make_candles(SeriesKey(f"S{n}", Timeframe.M1), rows) for n, rows in enumerate(lengths)]
    rows = SeriesRows.joined(list(map(SeriesRows.of, each)))
    inserts = [list(piece) for piece in rows.pieces(WRITE_ROWS)]
    assert [list(map(len, insert)) for insert in inserts] == [
        [5],
        [WRITE_ROWS],
        [1],
        [99_000, WRITE_ROWS - 99_000],
        [2_000, 5_000],
    ]
    assert [series for insert in inserts[3:] for series in insert] == each[2:]
    assert inserts[1][0].merge(inserts[2][0]) == each[1]


async def test_rows_deleted_and_written_anew_are_there(
    candles: ClickHouseCandleRepository,
) -> None:
    for _ in range(3):
        await candles.save_many(KEY, OLD)
        assert await candles.get_range(KEY, *ALWAYS) == OLD
        assert await candles.delete_range(KEY, *ALWAYS) == 500
        assert await candles.count(KEY) == 0
    await candles.save_many(KEY, OLD)
    assert await candles.get_range(KEY, *ALWAYS) == OLD


@pytest.mark.parametrize("merged", [False, True])
async def test_deleted_rows_are_gone_from_every_read(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager, merged: bool
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    await candles.save_many(KEY, OLD)
    await candles.delete_range(KEY, START + timedelta(minutes=400), ALWAYS[1])
    await candles.delete_range(KEY, ALWAYS[0], START + timedelta(minutes=99))
    if merged:
        manager.execute("SYSTEM START MERGES candles")
        manager.execute("OPTIMIZE TABLE candles FINAL")
    left = OLD[100:400]
    assert await candles.get_range(KEY, *ALWAYS) == left
    assert await candles.get_latest(KEY, 3) == left.tail(3)
    assert await candles.get_latest(KEY, 1_000) == left
    assert await candles.get_coverage(KEY) == (left.start, left.end)
    assert await candles.count(KEY) == await candles.count(KEY, *ALWAYS) == 300
    assert sum((await candles.coverage_by_day(KEY)).values()) == 300
    assert await candles.resample(KEY, Timeframe.H1, *ALWAYS) == left.resample(Timeframe.H1)
    assert [block async for block in candles.stream(KEY, *ALWAYS, block_rows=300)] == [left]
    await candles.delete_range(KEY, *ALWAYS)
    assert list(await candles.list_keys()) == []
    assert await candles.get_coverage(KEY) == (None, None)


async def test_two_repositories_writing_over_each_other_leave_one_of_both_everywhere(
    manager: ClickHouseManager,
) -> None:
    writers = [ClickHouseCandleRepository(manager) for _ in range(2)]
    ranges = [(start, start + 200) for start in range(0, 301, 50)]
    await asyncio.gather(
        *(writers[0].save_many(KEY, OLD[a:b]) for a, b in ranges),
        *(writers[1].save_many(KEY, NEW[a:b]) for a, b in ranges),
    )
    found = await writers[0].get_range(KEY, *ALWAYS)
    assert len(found) == 500
    assert found == await writers[1].get_range(KEY, *ALWAYS)
    taken = found.columns.open == OLD.columns.open
    for name, column in found.to_columns().items():
        mixed = np.where(taken, getattr(OLD.columns, name), getattr(NEW.columns, name))
        either = (column == getattr(OLD.columns, name)) | (column == getattr(NEW.columns, name))
        assert either.all()
        assert name == "timestamp" or (column == mixed).mean() > 0.9  # equal opens aside
    manager.execute("OPTIMIZE TABLE candles FINAL")
    assert await writers[1].get_range(KEY, *ALWAYS) == found


async def test_reads_while_the_table_merges(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    await candles.save_many(KEY, OLD)
    failures: list[BaseException] = []
    done = threading.Event()

    def churn() -> None:
        writer = ClickHouseCandleRepository(manager, cache_bytes=0)
        try:
            for _ in range(15):
                writer.write(OLD[100:300], next_version())
                manager.execute("OPTIMIZE TABLE candles FINAL")
        except BaseException as failure:  # noqa: BLE001 - told in the test's thread
            failures.append(failure)
        finally:
            done.set()

    thread = threading.Thread(target=churn)
    thread.start()
    reads = 0
    while not done.is_set():
        assert await candles.get_range(KEY, *ALWAYS) == OLD
        assert await candles.get_latest(KEY, 5) == OLD.tail(5)
        assert await candles.count(KEY) == 500
        reads += 1
    thread.join(30)
    assert not failures and reads > 3


async def test_a_series_that_is_held_stays_what_it_was(
    candles: ClickHouseCandleRepository,
) -> None:
    await candles.save_many(KEY, make_candles(KEY, 120_000, seed=3))
    held = [await candles.get_range(KEY, *ALWAYS), await candles.get_latest(KEY, 70_000)]
    prints = [series.fingerprint() for series in held]
    for seed in range(8):
        other = SeriesKey(f"S{seed}", Timeframe.M1)
        await candles.save_many(other, make_candles(other, 60_000, seed=seed))
        await candles.get_range(other, *ALWAYS)
    assert prints == [
        CandleSeries.trusted(s.key, s.columns.each(np.copy)).fingerprint() for s in held
    ]


async def test_applying_again_changes_nothing_more(
    candles: ClickHouseCandleRepository,
) -> None:
    await candles.save_many(KEY, OLD)
    changes = CandleChanges()
    changes.delete(KEY, *checks.range_ms(START, START + timedelta(minutes=249)))
    changes.save(SeriesRows.of(NEW[100:150]))
    version = next_version()
    wanted = OLD[250:].merge(NEW[100:150])
    for _ in range(2):
        candles.apply(changes, version)
        assert await candles.get_range(KEY, *ALWAYS) == wanted

    await candles.save_many(KEY, NEW[200:210])  # inside what was deleted
    await candles.delete_range(KEY, START + timedelta(minutes=120), START + timedelta(minutes=129))
    later = OLD[250:].merge(NEW[100:120]).merge(NEW[130:150]).merge(NEW[200:210])
    assert await candles.get_range(KEY, *ALWAYS) == later
    candles.apply(changes, version)
    assert await candles.get_range(KEY, *ALWAYS) == later


async def test_a_batch_larger_than_a_block_is_written_in_blocks_each_one_part(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    series = make_candles(KEY, WRITE_ROWS + 1)
    await candles.save_many(KEY, series)
    assert parts(manager) == [WRITE_ROWS, 1]
    assert await candles.get_range(KEY, *ALWAYS) == series


async def test_a_hundred_years_of_daily_bars_are_one_insert(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    key = SeriesKey("INDEX", Timeframe.D1)
    series = make_candles(key, 40_000, start=checks.FIRST_TIMESTAMP)
    await candles.save_many(key, series)
    assert parts(manager) == [40_000]
    assert await candles.get_range(key, *ALWAYS) == series


_STORER = """
import sys
from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain.changes import (stamp)
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_symbol

with ClickHouseManager(embedded_path=sys.argv[1]) as manager:
    tables.build().metadata.create_all(manager.engine)
    ClickHouseCandleRepository(manager).write(make_candles(SAMPLE_KEY, 500), 5, again=True)
    ClickHouseSymbolRepository(manager).store([stamp(make_symbol())], 5)
    for table in ("candles", "symbols"):
        print(*manager.execute(f"SELECT count() FROM {table}")[0])
"""


def test_a_token_that_a_crash_left_noted_without_its_rows_loses_nothing(tmp_path: Path) -> None:
    def stored() -> list[str]:
        done = forked.run(["-c", _STORER, str(tmp_path)], timeout=120, check=True)
        return done.stdout.split()

    assert stored() == ["500", "1"]
    # As opening does with the parts of inserts that were cut off.
    unfinished = [path for path in (tmp_path / "store").rglob("all_*") if path.is_dir()]
    assert len(unfinished) == 2
    for part in unfinished:
        shutil.rmtree(part)
    assert stored() == ["500", "1"]


_WRITER = """
import asyncio, sys
from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.testing.factories import make_candles

async def main():
    manager = ClickHouseManager(embedded_path=sys.argv[1])
    tables.build().metadata.create_all(manager.engine)
    candles = ClickHouseCandleRepository(manager)
    for batch in range(10_000):
        key = SeriesKey(f"S{batch}", Timeframe.M1)
        await candles.save_many(key, make_candles(key, int(sys.argv[2]), seed=batch))
        print(batch, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("rows", [pytest.param(1_000, marks=pytest.mark.slow), 60_000])
def test_kill_9_in_the_middle_of_save_many(tmp_path: Path, rows: int) -> None:
    command = ["-c", _WRITER, str(tmp_path / "store"), str(rows)]
    with forked.Process(command, stdout=forked.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 8:
                break
        time.sleep(0.02)
        process.kill()
        acknowledged = 8 + len(process.stdout.read().split())
    checked = forked.run(["-c", _CHECKER, str(tmp_path / "store"), str(rows)], timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert int(checked.stdout) in (acknowledged + 1, acknowledged + 2)


_CHECKER = """
import asyncio, sys
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.testing.factories import make_candles

async def main():
    with ClickHouseManager(embedded_path=sys.argv[1]) as manager:
        candles = ClickHouseCandleRepository(manager)
        keys = await candles.list_keys()
        for key in keys:
            wanted = make_candles(key, int(sys.argv[2]), seed=int(key.symbol[1:]))
            found = await candles.get_range(key, checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
            assert found == wanted, key
        print(len(keys))

asyncio.run(main())
"""
