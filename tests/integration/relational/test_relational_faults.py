"""Crashes, crowds and long streams."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.relational import (
    CheckpointRepository,
    DatabaseConfig,
    DatabaseManager,
    OHLCVRepository,
    SymbolBarsRepository,
    create_all,
)
from jts_storage.testing.factories import make_candles

FOREVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC))
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
Make = Callable[..., DatabaseManager]


@pytest.fixture
def own_postgres(engine_used: Callable[[str], None]) -> Iterator[LocalPostgres]:
    """A server that a test may kill."""
    with LocalPostgres.start(fsync=True) as server:
        engine_used("PostgreSQL")
        yield server


async def test_a_killed_server_is_no_error_to_readers_and_loses_no_write(
    own_postgres: LocalPostgres,
) -> None:
    async with DatabaseManager(DatabaseConfig(own_postgres.dsn, pool_size=6)) as manager:
        await create_all(manager.engine)
        series = make_candles(KEY, 3_000)
        checkpoints, bars = CheckpointRepository(manager), OHLCVRepository(manager)
        aggregates = SymbolBarsRepository(manager)
        await bars.save_many(KEY, series)
        await checkpoints.save("read", {"n": 1})
        going = True
        reads = 0
        acknowledged: dict[str, int] = {}
        told: list[StorageError] = []

        async def read() -> None:
            nonlocal reads
            while going:
                assert await checkpoints.get("read") is not None
                assert await bars.get_range(KEY, *FOREVER) == series
                assert sum([len(b) async for b in bars.stream(KEY, *FOREVER)]) == 3_000
                reads += 1

        async def write(name: str) -> None:
            n = 0
            while going:
                await checkpoints.save(name, {"n": n})
                acknowledged[name] = n
                n += 1

        async def count_up() -> None:
            """Not repeated by itself: the caller hears of it and reads again."""
            state = await aggregates.save(SymbolBars("A", date(2024, 1, 2)).start_collection())
            while going:
                try:
                    state = await aggregates.save(state.add_bars(1))
                    acknowledged["bars"] = state.bar_count
                except (ConnectionFailed, Conflict) as exc:
                    told.append(exc)
                    found = await aggregates.get("A", date(2024, 1, 2))
                    assert found is not None
                    assert found.bar_count >= acknowledged.get("bars", 0)
                    state = found

        tasks = [asyncio.create_task(work) for work in (read(), read(), write("w"), count_up())]
        for crash in (own_postgres.kill, lambda: None):
            before = reads
            await asyncio.sleep(0.15)
            await asyncio.to_thread(crash)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(own_postgres.restart)
            for _ in range(1_000):
                if reads >= before + 4 or any(task.done() for task in tasks):
                    break
                await asyncio.sleep(0.01)
        going = False
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert reads >= 4
        found = await checkpoints.get("w")
        assert found is not None
        assert found.data["n"] == acknowledged["w"]
        assert manager.pool.active_connections == 0


async def test_a_server_that_stays_away_is_an_error_within_bounds(
    own_postgres: LocalPostgres,
) -> None:
    config = DatabaseConfig(own_postgres.dsn, max_retries=2, retry_timeout=1)
    async with DatabaseManager(config) as manager:
        await create_all(manager.engine)
        own_postgres.kill()
        with pytest.raises(ConnectionFailed):
            await asyncio.wait_for(CheckpointRepository(manager).get("x"), 20)
        assert not await manager.health_check()
        own_postgres.restart()
        assert await CheckpointRepository(manager).get("x") is None
        assert await manager.health_check()


_WRITER = """
import asyncio, sys
from jts_storage.relational import CheckpointRepository, DatabaseManager
async def main():
    async with DatabaseManager(sys.argv[1]) as manager:
        repository = CheckpointRepository(manager)
        for _ in range(3):
            await repository.update("n", lambda old: {"n": old["n"] + 1})
asyncio.run(main())
"""


@pytest.mark.slow
async def test_fifty_writers_share_a_sqlite_file(tmp_path: Path) -> None:
    """42 managers in this process, each with connections of its own, and 8 processes."""
    path = tmp_path / "books.db"
    managers = [DatabaseManager(DatabaseConfig(str(path), lock_timeout=60)) for _ in range(42)]
    await create_all(managers[0].engine)
    await CheckpointRepository(managers[0]).save("n", {"n": 0})
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _WRITER, str(path))
        for _ in range(8)
    ]

    async def write(number: int) -> None:
        repository = CheckpointRepository(managers[number])
        for n in range(3):
            await repository.update("n", lambda old: {"n": (old or {})["n"] + 1})
            await repository.save(f"own{number}", {"n": n})

    await asyncio.gather(*(write(number) for number in range(42)))
    assert [await process.wait() for process in processes] == [0] * 8
    found = await CheckpointRepository(managers[0]).get("n")
    assert found is not None and found.data == {"n": 150}
    assert len(await CheckpointRepository(managers[0]).list()) == 43
    await asyncio.gather(*(manager.close() for manager in managers))


_SAVER = """
import asyncio, sys
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.relational import OHLCVRepository, DatabaseManager
from jts_storage.testing.factories import make_candles
async def main():
    async with DatabaseManager(sys.argv[1]) as manager:
        for n in range(10_000):
            key = SeriesKey(f"S{n}", Timeframe.M1)
            await OHLCVRepository(manager).save_many(key, make_candles(key, 350))
            sys.stdout.write(f"{n}\\n"); sys.stdout.flush()
asyncio.run(main())
"""


def run_and_kill(database_url: str) -> list[int]:
    """What a saving process acknowledged until it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SAVER, database_url], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.1)
        process.kill()
        acknowledged = [int(line) for line in [first, *process.stdout]]
    assert process.returncode == -signal.SIGKILL
    return acknowledged


async def test_a_killed_writer_loses_no_batch_and_halves_none(
    database_url: str, manager: DatabaseManager
) -> None:
    acknowledged = await asyncio.to_thread(run_and_kill, database_url)
    repository = OHLCVRepository(manager)
    for n in acknowledged:
        key = SeriesKey(f"S{n}", Timeframe.M1)
        assert await repository.get_range(key, *FOREVER) == make_candles(key, 350)
    following = SeriesKey(f"S{len(acknowledged)}", Timeframe.M1)
    assert await repository.count(following) in (0, 350)


async def test_a_stream_needs_constant_memory(manager: DatabaseManager) -> None:
    repository = OHLCVRepository(manager)
    await repository.save_many(KEY, make_candles(KEY, 60_000))
    blocks = repository.stream(KEY, *FOREVER, block_rows=2_000)
    await anext(blocks)
    tracemalloc.start()
    try:
        rows = 2_000 + sum([len(block) async for block in blocks])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 60_000
    assert peak < 60_000 * 48  # the bare columns of all of it


async def test_leaving_a_stream_early_is_harmless(make_manager: Make) -> None:
    manager = make_manager(pool_size=1, pool_timeout=5)
    repository = OHLCVRepository(manager)
    await repository.save_many(KEY, make_candles(KEY, 100))
    async for _ in repository.stream(KEY, *FOREVER, block_rows=10):
        break
    assert await repository.count(KEY) == 100


async def test_big_batches_take_several_blocks(manager: DatabaseManager) -> None:
    repository = OHLCVRepository(manager)
    series = make_candles(KEY, 70_123)
    await repository.save_many(KEY, series)
    await repository.save_many(KEY, make_candles(KEY, 70_123, seed=1))
    await repository.save_many(KEY, series)
    assert await repository.get_range(KEY, *FOREVER) == series
