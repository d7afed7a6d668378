"""One order of commits, whatever clocks, pauses and competitors do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bson import ObjectId

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage._runtime.processes import this_process
from jts_storage.backend import StoreBackend
from jts_storage.domain import checks
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.relational import staged
from jts_storage.testing.factories import make_candles, make_formula, make_symbol
from jts_storage.unit_of_work import clock as clocks
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import place as places
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import CHUNKS, ENTRIES
from jts_storage.unit_of_work.place import Place
from tests.integration.unit_of_work.interrupted import (
    Crash,
    abandon,
    dying,
    losing_its_place,
    orphan,
)

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)


async def save_candles(storage: Storage, count: int, seed: int) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, count, seed=seed))
        await uow.commit()


async def test_a_deletion_comes_after_the_commits_before_it(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save_candles(storage, 5, seed=1)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 10, seed=2))
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, *ALWAYS)
        await uow.commit()
    await storage.recover()
    assert await storage.candles.count(KEY) == 0
    assert (await storage.health()).unfinished == 0


@asynccontextmanager
async def first_write_held_up(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, writing: Coroutine[Any, Any, None]
) -> AsyncIterator[asyncio.Event]:
    """Begin to write candles, and stop just before rows are stored until the event is set."""
    candles = storage._backend.stores.candles  # type: ignore[attr-defined]
    insert = candles._insert
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(*rows: Any, **options: Any) -> None:
        monkeypatch.setattr(candles, "_insert", insert)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        insert(*rows, **options)

    monkeypatch.setattr(candles, "_insert", slowly)
    task = asyncio.create_task(writing)
    try:
        await asyncio.wait_for(begun.wait(), 60)
        yield go_on
    finally:
        go_on.set()
        await task


async def delete_all(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, *ALWAYS)
        await uow.commit()


async def test_a_deletion_waits_for_the_writes_under_way_before_it(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save_candles(storage, 5, seed=1)
    writing = save_candles(storage, 10, seed=2)
    async with first_write_held_up(storage, monkeypatch, writing) as go_on:
        deleting = asyncio.create_task(delete_all(storage))
        done, _ = await asyncio.wait([deleting], timeout=0.3)
        assert not done, "rows of an earlier commit are not there yet to be deleted"
        go_on.set()
        await deleting
    assert await storage.candles.count(KEY) == 0


async def test_a_deletion_waits_however_long_a_decided_commit_takes_to_store_its_rows(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience ends with commits whose process is gone, not with those that are at work."""
    monkeypatch.setattr("jts_storage.unit_of_work.recovery._PATIENCE_SECONDS", 0.05)

    async def write() -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, make_candles(KEY, 10))
            await uow.formulas.save(make_formula())
            await uow.commit()

    async with first_write_held_up(storage, monkeypatch, write()) as go_on:
        deleting = asyncio.create_task(delete_all(storage))
        done, _ = await asyncio.wait([deleting], timeout=0.6)
        assert not done, "neither given up nor done before the rows that it deletes are there"
        go_on.set()
        await deleting
    assert await storage.candles.count(KEY) == 0


async def test_a_deletion_waits_for_what_a_dead_writer_sent_to_arrive(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LANDING", timedelta(seconds=0.6))
    stores = storage._backend.stores  # type: ignore[attr-defined]
    await save_candles(storage, 5, seed=1)
    dead = Place(ObjectId(), 0)
    with monkeypatch.context() as patch:
        patch.setattr(stores.clock, "_owner", f"{this_process().rsplit('/', 1)[0]}/0")
        await stores.clock._enter(dead, 2, [], [f"candles {KEY}"])

    async def arrive_late() -> None:
        await asyncio.sleep(0.3)
        rows = make_candles(KEY, 10, seed=2)
        await stores.clickhouse.run(stores.candles.write, rows, dead.version + 1)

    await asyncio.gather(arrive_late(), delete_all(storage))
    assert await storage.candles.count(KEY) == 0


async def test_a_deletion_after_what_cannot_be_finished_stores_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 10))
        await uow.formulas.save(make_formula("first"))
        await abandon(storage, monkeypatch, uow)
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})  # its lease has ended
    chunks = storage.mongo.db[CHUNKS]
    lost = await chunks.find().to_list()
    await chunks.delete_many({})

    async def delete() -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(KEY, *ALWAYS)
            await uow.formulas.save(make_formula("second"))
            await uow.commit()

    with pytest.raises(Conflict, match="has not stored yet"):
        await delete()
    assert [formula.name for formula in await storage.formulas.list()] == ["first"]
    assert await storage.mongo.db[ENTRIES].count_documents({}) == 1
    await chunks.insert_many(lost)
    await delete()
    assert await storage.candles.count(KEY) == 0
    assert len(await storage.formulas.list()) == 2


async def test_symbols_and_candles_of_one_commit_are_stored_both_or_not_at_all(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are two inserts of ClickHouse, so one may fail without the other."""
    stores = storage._backend.stores  # type: ignore[attr-defined]

    def away(*_: object) -> None:
        raise ConnectionFailed("ClickHouse is away")

    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 1))
        await uow.symbols.save(make_symbol(KEY.symbol))
        with monkeypatch.context() as patch, pytest.raises(StorageError, match="is decided"):
            patch.setattr(stores.symbols, "apply", away)
            await uow.commit()
    assert await storage.recover() == 1
    assert await storage.candles.count(KEY) == 1
    assert await storage.symbols.get_by_code(KEY.symbol) is not None


async def test_a_recovered_checkpoint_stands_though_a_clock_was_ahead(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = checks.now() + timedelta(seconds=10)
    with monkeypatch.context() as patch:
        patch.setattr(checks, "now", lambda: ahead)
        async with storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.save("mark", {"n": 1})
            await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.ingestion.checkpoints.save("mark", {"n": 2})
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    assert await storage.recover() == 1
    mark = await storage.ingestion.checkpoints.get("mark")
    assert mark is not None
    assert mark.data == {"n": 2}


async def test_chunks_of_a_commit_under_way_stay_whatever_the_clock_of_who_opens(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = checks.now() + timedelta(hours=9)

    async def open_elsewhere() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(checks, "now", lambda: ahead)
            await storage.recover()

    recovered: list[asyncio.Task[None]] = []

    def reached(point: str) -> None:
        dying("decided")(point)
        if point == "chunks written":
            recovered.append(asyncio.create_task(open_elsewhere()))

    stores = storage._backend.stores  # type: ignore[attr-defined]
    decide = stores.journal.decide

    async def after_that(*given: object) -> None:
        await recovered[0]
        await decide(*given)

    monkeypatch.setattr(commit_points, "reached", reached)
    monkeypatch.setattr(type(stores.journal), "decide", lambda _, *given: after_that(*given))
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 10))
        await uow.formulas.save(make_formula())
        with pytest.raises(Crash):
            await uow.commit()
    await orphan(storage)
    assert await storage.mongo.db[CHUNKS].count_documents({}) > 0
    assert await storage.recover() == 1
    assert await storage.candles.count(KEY) == 10


async def test_a_recoverer_that_was_paused_undoes_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.ingestion.bars.save_many(KEY, make_candles(KEY, 15, seed=1))
        await uow.ingestion.bars.delete_range(KEY, *ALWAYS)
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    paused, go_on = asyncio.Event(), asyncio.Event()
    replay = staged.replay

    async def slowly(*given: object) -> bool:
        paused.set()
        await go_on.wait()
        return await replay(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(staged, "replay", slowly)
    stores = storage._backend.stores  # type: ignore[attr-defined]
    load = stores.journal.load
    loaded, continued = asyncio.Event(), asyncio.Event()

    async def pausing(entry: object) -> object:
        work = await load(entry)
        loaded.set()
        await continued.wait()
        return work

    monkeypatch.setattr(type(stores.journal), "load", lambda _, entry: pausing(entry))
    late = asyncio.create_task(storage.recover())
    await loaded.wait()
    monkeypatch.undo()
    await orphan(storage)
    assert await storage.recover() == 1
    newer = make_candles(KEY, 15, seed=2)
    async with storage.unit_of_work() as uow:
        await uow.ingestion.bars.save_many(KEY, newer)
        await uow.commit()
    continued.set()
    await late
    assert await storage.ingestion.bars.get_range(KEY, *ALWAYS) == newer


async def test_opening_does_not_wait_for_all_that_is_unfinished(
    storage: Storage,
    settings: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = [SeriesKey(f"S{number}", Timeframe.D1) for number in range(6)]
    for number, key in enumerate(keys):
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, make_candles(key, 3))
            await uow.formulas.save(make_formula(f"f{number}"))
            await abandon(storage, monkeypatch, uow)
    monkeypatch.setattr("jts_storage.backend._RECOVERY_SECONDS", 0.0)
    async with Storage(StoreBackend(settings)) as other:
        assert "in the background" in caplog.text
        backend = other._backend
        await asyncio.wait_for(backend._recovering, 30)  # type: ignore[attr-defined]
        assert (await other.health()).unfinished == 0
        counts = [await other.candles.count(key) for key in keys]
    assert counts == [3] * 6


HOLDER = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="NOT RUN: no /proc/locks here")
async def test_a_locked_file_says_who_holds_it(storage: Storage) -> None:
    config = storage.database.config
    await storage.ingestion.checkpoints.list()
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, str(config.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        await holder.stdout.readline()
        os.kill(holder.pid, signal.SIGSTOP)
        async with storage.database.connection() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout = 50")
        with pytest.raises(Conflict, match=rf"process {holder.pid} \(stopped\)"):
            async with storage.unit_of_work() as uow:
                await uow.ingestion.checkpoints.save("mark", {})
                await uow.commit()
    finally:
        holder.kill()
        await holder.communicate()


async def test_candles_whose_writer_lost_its_place_undo_nothing_that_came_after(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = storage._backend.stores  # type: ignore[attr-defined]
    pq.write_table(make_candles(KEY, 10, seed=1).to_arrow(), tmp_path / "raw.parquet")
    for seed, write in (
        (2, save_candles(storage, 10, seed=1)),
        (3, stores.candles.import_parquet(KEY, [tmp_path / "raw.parquet"])),
    ):
        async with losing_its_place(storage, monkeypatch, write) as writing:
            await save_candles(storage, 10, seed=seed)
        with pytest.raises(ConnectionFailed, match="unknown"):
            await writing
        assert await storage.candles.get_range(KEY, *ALWAYS) == make_candles(KEY, 10, seed=seed)


async def test_a_storage_writes_candles_and_symbols_in_units_of_work_only(
    storage: Storage,
) -> None:
    for name in ("save", "save_many", "save_panel", "delete_range"):
        assert not hasattr(storage.candles, name)
    symbols: Any = storage.symbols
    for refused in (
        symbols.save(make_symbol("A")),
        symbols.save_many([make_symbol("A")]),
        symbols.delete("A"),
    ):
        with pytest.raises(StorageError, match=r"unit of work|deletes nothing"):
            await refused
    assert await storage.symbols.list() == []


async def test_a_commit_paused_before_its_decision_stores_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jts_storage.unit_of_work.place.DECIDES_WITHIN", timedelta(seconds=-1))
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 5))
        await uow.formulas.save(make_formula())
        with pytest.raises(Conflict, match="paused"):
            await uow.commit()
    assert await storage.candles.count(KEY) == 0
    assert await storage.mongo.db[ENTRIES].count_documents({}) == 0


async def test_a_commit_that_is_paused_until_it_is_too_late_to_decide_stores_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place may be gone: others would have passed it by before it was decided."""
    monkeypatch.setattr(places, "DECIDES_WITHIN", timedelta(seconds=0.3))

    def stop(point: str) -> None:
        if point == "entry written":
            time.sleep(0.35)

    monkeypatch.setattr(commit_points, "reached", stop)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 5))
        await uow.ingestion.checkpoints.save("mark", {})
        await uow.formulas.save(make_formula())
        with pytest.raises(Conflict, match="paused"):
            await uow.commit()
    assert await storage.recover() == 0
    assert await storage.candles.count(KEY) == 0
    assert await storage.formulas.list() == []
    assert await storage.ingestion.checkpoints.get("mark") is None


async def test_what_a_list_showed_of_checkpoints_is_what_must_still_be(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.ingestion.checkpoints.save("counter", {"n": 0})
        await uow.commit()
    async with storage.unit_of_work() as late:
        [counter] = await late.ingestion.checkpoints.list()
        async with storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.save("counter", {"n": 1})
            await uow.commit()
        await late.ingestion.checkpoints.save("counter", {"n": counter.data["n"] + 1})
        with pytest.raises(Conflict):
            await late.commit()
