"""The pool, transactions and health of a manager, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.errors import Conflict, ConnectionFailed, PoolTimeout, SchemaDrift, StorageError
from jts_storage.relational import (
    CheckpointRepository,
    DatabaseConfig,
    DatabaseManager,
    OHLCVRepository,
    SqlIngestionRepository,
    SymbolBarsRepository,
    create_all,
)
from jts_storage.relational.link import Link
from jts_storage.relational.tables import checkpoints, ohlcv_bars
from jts_storage.testing.factories import SAMPLE_KEY, make_candles

DAY = date(2024, 1, 2)
Make = Callable[..., DatabaseManager]


async def test_the_pool_is_established_with_its_figures(make_manager: Make) -> None:
    """UT-INFRA-02.1"""
    manager = make_manager(pool_size=3, pool_timeout=7)
    pool = await manager.create_connection_pool()
    assert pool.max_connections == 3
    assert pool.connection_timeout == 7
    assert (pool.active_connections, pool.available_connections) == (0, 3)
    async with manager.connection(), manager.connection():
        assert (pool.active_connections, pool.available_connections) == (2, 1)
    assert (pool.active_connections, pool.available_connections) == (0, 3)


async def test_the_maximum_is_never_exceeded(make_manager: Make) -> None:
    """PT-INFRA-02.1, of the pool"""
    manager = make_manager(pool_size=3)
    seen = []

    async def work(link: Link) -> None:
        seen.append(manager.pool.open_connections)
        await asyncio.sleep(0.001)

    await asyncio.gather(*(manager.run(work, doing="working") for _ in range(60)))
    assert len(seen) == 60
    assert max(seen) == 3


async def test_a_caller_waits_and_then_gets_a_pool_timeout(make_manager: Make) -> None:
    """UT-INFRA-02.2"""
    manager = make_manager(pool_size=1, pool_timeout=0.05)
    repository = CheckpointRepository(manager)
    async with manager.connection():
        with pytest.raises(PoolTimeout, match="pool_size"):
            await repository.get("x")
    assert await repository.get("x") is None
    patient = make_manager(pool_size=1, pool_timeout=10)
    async with patient.connection():
        waiting = asyncio.create_task(CheckpointRepository(patient).get("x"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    assert await waiting is None


async def test_an_old_connection_is_replaced(make_manager: Make) -> None:
    lasting, brief = make_manager(pool_size=1), make_manager(pool_size=1, pool_recycle=0.05)
    links: list[Link] = []

    async def note(link: Link) -> None:
        await link.execute("SELECT 1")
        links.append(link)

    for manager in (lasting, brief):
        await manager.run(note, doing="working")
    await asyncio.sleep(0.06)
    for manager in (lasting, brief):
        await manager.run(note, doing="working")
        assert manager.pool.open_connections == 1
    assert links[2] is links[0]
    assert links[3] is not links[1]
    assert not links[1].is_open


async def test_cancelled_callers_give_back_what_they_held(make_manager: Make) -> None:
    manager = make_manager(pool_size=2)
    repository = CheckpointRepository(manager)
    await repository.save("x", {})
    for pause in (0, 0, 0.0001, 0.0003, 0.001, 0.002) * 3:
        tasks = [asyncio.create_task(repository.save("x", {"n": n})) for n in range(6)]
        tasks += [asyncio.create_task(repository.update("x", lambda _: {})) for n in range(4)]
        await asyncio.sleep(pause)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(repository.get("x") for _ in range(4)))
    for _ in range(500):
        await asyncio.sleep(0.01 if manager.pool.active_connections else 0)
    assert manager.pool.available_connections == 2


async def test_a_transaction_commits_or_leaves_nothing(manager: DatabaseManager) -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop):
        async with manager.transaction() as connection:
            ingestion = SqlIngestionRepository(manager, connection=connection)
            await ingestion.symbol_bars.save(SymbolBars("A", DAY))
            await ingestion.bars.save_many(SAMPLE_KEY, make_candles())
            await ingestion.bars.save_many(SAMPLE_KEY, make_candles(count=20))
            await ingestion.checkpoints.update("x", lambda _: {"n": 1})
            assert await ingestion.bars.count(SAMPLE_KEY) == 20
            raise Stop
    outside = SqlIngestionRepository(manager)
    assert await outside.symbol_bars.get("A", DAY) is None
    assert await outside.bars.count(SAMPLE_KEY) == 0
    assert await outside.checkpoints.get("x") is None
    async with manager.transaction() as connection:
        inside = SqlIngestionRepository(manager, connection=connection)
        await inside.checkpoints.save("x", {"n": 2})
        await inside.bars.save_many(SAMPLE_KEY, make_candles())
    assert await outside.bars.count(SAMPLE_KEY) == 10
    found = await outside.checkpoints.get("x")
    assert found is not None and found.data == {"n": 2}


async def test_others_do_not_see_an_open_transaction(manager: DatabaseManager) -> None:
    outside = CheckpointRepository(manager)
    async with manager.transaction() as connection:
        await CheckpointRepository(manager, connection=connection).save("x", {})
        assert await outside.get("x") is None
    assert await outside.get("x") is not None


async def test_an_aggregate_changed_by_two_transactions_is_a_conflict(
    make_manager: Make,
) -> None:
    manager = make_manager(lock_timeout=0.2)
    first = await SymbolBarsRepository(manager).save(SymbolBars("A", DAY))
    async with manager.transaction() as connection:
        await SymbolBarsRepository(manager, connection=connection).save(first.start_collection())
        with pytest.raises(Conflict):
            await SymbolBarsRepository(manager).save(first.start_collection())
    with pytest.raises(Conflict, match="holds version 2"):
        await SymbolBarsRepository(manager).save(first.start_collection())
    assert manager.pool.active_connections == 0


async def test_statements_of_others_run_beside_ours(manager: DatabaseManager) -> None:
    async with manager.transaction() as connection:
        await CheckpointRepository(manager, connection=connection).save("x", {})
        await connection.execute(checkpoints.insert().values(symbol="y", checkpoint_data="{}"))
    async with manager.connection() as connection:
        names = (await connection.execute(select(checkpoints.c.symbol))).scalars().all()
    assert sorted(names) == ["x", "y"]
    found = await CheckpointRepository(manager).get("y")
    assert found is not None and found.updated_at is not None
    async with manager.engine.connect() as connection, connection.begin():
        await CheckpointRepository(manager, connection=connection).save("z", {})
    assert await CheckpointRepository(manager).get("z") is not None


async def test_prices_are_exact_in_the_tables(manager: DatabaseManager) -> None:
    series = make_candles()
    await OHLCVRepository(manager).save_many(SAMPLE_KEY, series)
    async with manager.connection() as connection:
        query = select(ohlcv_bars.c.open_price).order_by(ohlcv_bars.c.timestamp_ms).limit(1)
        stored = (await connection.execute(text(str(query.compile(
            connection.engine.sync_engine, compile_kwargs={"literal_binds": True}
        ))))).scalar_one()  # fmt: skip
    wanted = series[0].open * 10_000 if manager.config.is_sqlite else series[0].open
    assert stored == wanted


async def test_a_missing_table_is_schema_drift(make_manager: Make) -> None:
    manager = make_manager()
    async with manager.transaction() as connection:
        await connection.execute(text("DROP TABLE checkpoints"))
    with pytest.raises(SchemaDrift, match="migrations"):
        await CheckpointRepository(manager).get("x")


async def test_a_foreign_value_is_named(manager: DatabaseManager) -> None:
    async with manager.transaction() as connection:
        await connection.execute(checkpoints.insert().values(symbol="x", checkpoint_data="[1"))
    with pytest.raises(StorageError, match="document x"):
        await CheckpointRepository(manager).get("x")


async def test_a_cancelled_beginning_lets_go_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps the lock of a connection that was closed as long as a cursor of it lives."""
    execute: Any = aiosqlite.Connection._execute

    async def cancelled(self: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        if "SELECT 1" in arguments:  # the transaction has begun, and its answer is awaited
            asyncio.get_running_loop().call_soon(beginning.cancel)
        return await execute(self, function, *arguments, **options)

    async def begin() -> None:
        async with manager.transaction():
            pass

    async with DatabaseManager(
        DatabaseConfig(str(tmp_path / "jts.db"), lock_timeout=0.5)
    ) as manager:
        await manager.create_connection_pool()
        monkeypatch.setattr(aiosqlite.Connection, "_execute", cancelled)
        gc.disable()
        try:
            beginning = asyncio.create_task(begin())
            with pytest.raises(asyncio.CancelledError):
                await beginning
            monkeypatch.undo()
            await begin()
        finally:
            gc.enable()


async def test_a_commit_without_an_answer_says_that_its_outcome_is_unknown(
    make_manager: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(max_retries=0)
    commit = AsyncConnection.commit

    async def unheard(self: AsyncConnection) -> None:
        await commit(self)
        raise OperationalError("COMMIT", {}, ConnectionResetError("lost"))

    monkeypatch.setattr(AsyncConnection, "commit", unheard)
    with pytest.raises(ConnectionFailed, match="is unknown"):
        async with manager.transaction() as connection:
            await connection.execute(select(checkpoints.c.symbol))


async def test_closing_waits_for_what_runs_but_not_for_ever(make_manager: Make) -> None:
    manager = make_manager(pool_size=1)
    ended = []

    async def slow(link: Link) -> None:
        await asyncio.sleep(0.1)
        await link.execute("SELECT 1")
        ended.append(True)

    running = asyncio.create_task(manager.run(slow, doing="working"))
    await asyncio.sleep(0.02)
    waiting = asyncio.create_task(CheckpointRepository(manager).get("x"))
    await asyncio.sleep(0.02)
    await manager.close()
    assert ended == [True]
    await running
    with pytest.raises(StorageError, match="closed"):
        await waiting
    with pytest.raises(StorageError, match="closed"):
        await CheckpointRepository(manager).get("x")
    assert not await manager.health_check()

    hasty = make_manager(close_timeout=0.1)
    stuck = asyncio.create_task(hasty.run(lambda _: asyncio.sleep(600), doing="working"))
    await asyncio.sleep(0.02)
    begun = time.monotonic()
    await hasty.close()
    assert time.monotonic() - begun < 30
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_a_closed_manager_can_be_opened_again(make_manager: Make) -> None:
    manager = make_manager()
    async with manager:
        await CheckpointRepository(manager).save("x", {})
    async with manager:
        assert await CheckpointRepository(manager).get("x") is not None


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_one_event_loop_after_another_is_served(database_url: str) -> None:
    manager = DatabaseManager(database_url)

    async def use(n: int) -> None:
        if n == 0:
            await create_all(manager.engine)
        await CheckpointRepository(manager).update(
            "x", lambda old: {"n": (old or {}).get("n", 0) + 1}
        )
        found = await CheckpointRepository(manager).get("x")
        assert found is not None and found.data == {"n": n + 1}
        if n == 2:
            await manager.close()

    for n in range(3):
        asyncio.run(use(n))
    # What an ended loop left open is dropped, with Python's own warning about it.
    gc.collect()


async def test_a_memory_database_has_one_connection() -> None:
    async with DatabaseManager(":memory:") as manager:
        await create_all(manager.engine)
        repository = CheckpointRepository(manager)
        await repository.save("x", {})
        assert await asyncio.gather(*(repository.get("x") for _ in range(5)))
        assert await manager.health_check()
        assert manager.pool.max_connections == 1


@pytest.mark.parametrize("error", [TimeoutError("its own"), FileNotFoundError("its own")])
async def test_an_error_of_the_caller_stays_what_it_is(make_manager: Make, error: OSError) -> None:
    manager = make_manager(pool_size=1)
    with pytest.raises(type(error), match="its own"):
        async with manager.transaction():
            raise error
    with pytest.raises(type(error), match="its own"):
        async with manager.connection():
            raise error
    with pytest.raises(TimeoutError):
        async with manager.connection(), asyncio.timeout(0.01):
            await asyncio.sleep(5)
    assert await CheckpointRepository(manager).get("x") is None


async def test_health_is_told_although_the_pool_is_busy(make_manager: Make) -> None:
    manager = make_manager(pool_size=1)
    assert await manager.health_check()
    async with manager.connection():
        assert await manager.health_check()


async def test_health_is_told_within_half_a_second_of_a_server_that_hangs() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        port = silent.getsockname()[1]
        manager = DatabaseManager(f"postgresql://jts:s3cret@127.0.0.1:{port}/books")
        begun = time.monotonic()
        assert not await manager.health_check()
        assert time.monotonic() - begun < 8  # it takes ten to give up connecting
        await manager.close()


async def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"postgresql://jts:s3cret@127.0.0.1:{port}/books"
    manager = DatabaseManager(DatabaseConfig(url, max_retries=1))
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        await manager.create_connection_pool()
    assert caught.value.hosts == (f"127.0.0.1:{port}",)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in f"{error}{error!r}"
        error = error.__cause__
    await manager.close()


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else entirely" * 100)
    manager = DatabaseManager(tmp_path / "x.db")
    with pytest.raises(ConnectionFailed, match=r"x\.db"):
        await manager.create_connection_pool()
    await manager.close()
