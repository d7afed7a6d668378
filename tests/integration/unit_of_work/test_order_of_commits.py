"""One order of commits, whatever clocks, pauses and competitors do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bson import ObjectId
from pydantic import SecretStr

from jts_storage import DomainEvent, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage._runtime.processes import this_process
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse.symbol_statements import FURTHEST_AHEAD
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain import checks
from jts_storage.errors import Conflict, ConnectionFailed, InvalidData, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.ports import UnitOfWork
from jts_storage.relational import staged
from jts_storage.testing.factories import make_candles, make_formula, make_symbol
from jts_storage.unit_of_work import clock as clocks
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work.clock import CLOCK, Place
from jts_storage.unit_of_work.journal import CHUNKS, ENTRIES
from jts_storage.unit_of_work.outbox import EVENTS

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
DAY = date(2024, 1, 2)
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)


class Crash(BaseException):
    """A process dies."""


@dataclass(frozen=True, kw_only=True)
class Numbered(DomainEvent):
    number: int
    about: str = "one"

    @property
    def key(self) -> str:
        return self.about


@pytest.fixture(scope="module")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("order")) as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield mongod


@pytest.fixture
def settings(mongod: LocalMongod, tmp_path: Path) -> StorageSettings:
    return StorageSettings(
        data_dir=tmp_path,
        mongo_url=SecretStr(mongod.uri),
        mongo_database=f"order{ObjectId()}",
        migrate=True,
    )


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage


def die(point: str) -> None:
    if point == "decided":
        raise Crash


async def abandon(storage: Storage, monkeypatch: pytest.MonkeyPatch, uow: UnitOfWork) -> None:
    """Commit, but die once it is decided: what is left is a process's that is gone."""
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(commit_points, "reached", die)
        await uow.commit()
    await orphan(storage)


async def orphan(storage: Storage) -> None:
    """Let all that is unfinished be of a process of this host that is dead."""
    gone = f"{this_process().rsplit('/', 1)[0]}/0"
    await storage.mongo.db[ENTRIES].update_many({}, {"$set": {"owner": gone}})
    journal._in_hand.clear()


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
    apply = candles.apply
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(changes: object, version: int) -> None:
        monkeypatch.setattr(candles, "apply", apply)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        apply(changes, version)

    monkeypatch.setattr(candles, "apply", slowly)
    task = asyncio.create_task(writing)
    await begun.wait()
    try:
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

    with pytest.raises(Conflict, match="not there yet"):
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
            patch.setattr(stores.symbols, "store", away)
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
        die(point)
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


async def test_events_come_in_the_order_of_commits_whatever_clocks_say(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, hours in enumerate((9, 0, -9)):
        moment = time.time_ns() + hours * 3_600 * 10**9
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda moment=moment: moment)
            patch.setattr(checks, "now", lambda moment=moment: checks.from_ms(moment // 10**6))
            async with storage.unit_of_work() as uow:
                uow.events.add(Numbered(number=number))
                await uow.commit()
    versions = [event["version"] async for event in storage.mongo.db[EVENTS].find().sort("_id")]
    assert len(set(versions)) == 3
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))
    await storage.recover()
    assert heard == [0, 1, 2]


async def test_an_event_waits_for_those_of_earlier_commits_under_way(storage: Storage) -> None:
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]

    async def tell(number: int, about: str) -> None:
        async with storage.unit_of_work() as uow:
            uow.events.add(Numbered(number=number, about=about))
            await uow.commit()

    async with clock.place(event_keys={"one"}):
        await tell(1, "one")
        await tell(2, "other")
        assert heard == [2]
    await storage.recover()
    assert heard == [2, 1]


async def test_a_backlog_of_many_keys_keeps_nobody_from_opening(
    storage: Storage, settings: StorageSettings
) -> None:
    events = storage.mongo.db[EVENTS]
    name = "k" * 1_000
    async with storage.unit_of_work() as uow:
        uow.events.add(Numbered(number=0))
        await uow.commit()
    stored = await events.find_one()
    assert stored is not None
    many = 18_000  # a list of these keys is larger than a document may be
    for start in range(0, many, 3_000):
        await events.insert_many(
            [stored | {"_id": f"e{n}", "key": f"{n:06}{name}"} for n in range(start, start + 3_000)]
        )
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))
    outbox = storage._backend.stores.outbox  # type: ignore[attr-defined]
    keys = [key async for key in outbox.due_keys(["numbered"])]
    assert len(keys) == len(set(keys)) == many + 1
    await events.delete_many({"_id": {"$gt": "e100"}})
    await storage.recover()
    assert len(heard) > 1


async def test_opening_does_not_wait_for_handlers_which_may_use_the_storage(
    storage: Storage, settings: StorageSettings
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula("read by a handler"))
        for number in range(3):
            uow.events.add(Numbered(number=number))
        await uow.commit()
    other = Storage(StoreBackend(settings))
    told: asyncio.Queue[str] = asyncio.Queue()
    calls: list[int] = []

    async def read(event: Numbered) -> None:
        calls.append(event.number)
        await asyncio.sleep(0.2)
        [formula] = await other.formulas.list()
        await told.put(f"{event.number} {formula.name}")

    other.events.register_handler(Numbered, read)
    async with other:
        assert told.empty()
        async with asyncio.timeout(20):
            heard = [await told.get() for _ in range(3)]
    assert heard == [f"{number} read by a handler" for number in range(3)]
    assert calls == [0, 1, 2], "none had to be repeated"


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


async def test_a_symbol_staged_early_and_committed_last_is_stored(storage: Storage) -> None:
    async with storage.unit_of_work() as early:
        await early.symbols.save(make_symbol("005930", name="early"))
        await early.formulas.save(make_formula())
        await asyncio.sleep(0.005)
        async with storage.unit_of_work() as late:
            await late.symbols.save(make_symbol("005930", name="late"))
            await late.commit()
        await early.commit()
    found = await storage.symbols.get_by_code("005930")
    assert found is not None
    assert found.name == "early"


async def test_a_symbol_that_a_clock_ahead_wrote_is_replaced(storage: Storage) -> None:
    ahead = f"{datetime.now(UTC) + timedelta(hours=9):%Y-%m-%d %H:%M:%S}"
    storage.clickhouse.execute(
        "INSERT INTO symbols (code, name, market, sector, is_active, updated_at, version) VALUES"
        f" ('005930', 'theirs', 'KOSPI', '', 1, '{ahead}', {time.time_ns() + 9 * 3_600 * 10**9})"
    )
    for is_journalled in (False, True):
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("005930", name=f"ours {is_journalled}"))
            if is_journalled:
                await uow.formulas.save(make_formula())
            await uow.commit()
        found = await storage.symbols.get_by_code("005930")
        assert found is not None
        assert found.name == f"ours {is_journalled}"


async def insert_symbol(
    storage: Storage, code: str, version: int | None = None, *, second: int = 0
) -> None:
    """Store a symbol as another program may, once for each second of `updated_at`."""
    columns, values = ("", "") if version is None else (", version", f", {version}")
    storage.clickhouse.execute(
        f"INSERT INTO symbols (code, name, market, sector, is_active, updated_at{columns}) VALUES"
        f" ('{code}', 'theirs', 'KOSPI', '', 1, '2024-01-01 00:00:{second:02}'{values})"
    )


@pytest.mark.parametrize("version", [2**64 - 1, 2**63 - 3, 2**63 + 5])
async def test_a_symbol_of_a_version_that_nothing_is_above_is_in_nobodys_way(
    storage: Storage, settings: StorageSettings, version: int
) -> None:
    await insert_symbol(storage, "WRONG", version)

    async def save(code: str, *, is_journalled: bool) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol(code, name="ours"))
            if is_journalled:
                await uow.formulas.save(make_formula())
            await uow.commit()

    for is_journalled in (False, True):
        with pytest.raises(InvalidData, match=rf"'WRONG' \(version {version}\).*Remove them"):
            await save("WRONG", is_journalled=is_journalled)
        await save(f"OTHER{is_journalled}", is_journalled=is_journalled)
    with pytest.raises(InvalidData, match=f"version >= {version}"):
        await ClickHouseSymbolRepository(storage.clickhouse).save(make_symbol("WRONG"))
    await storage.recover()
    async with Storage(StoreBackend(settings)) as other:
        names = {symbol.code: symbol.name for symbol in await other.symbols.list()}
    assert names == {"WRONG": "theirs", "OTHERFalse": "ours", "OTHERTrue": "ours"}
    storage.clickhouse.execute(
        f"ALTER TABLE symbols DELETE WHERE version >= {version}",
        settings={"mutations_sync": 1},
    )
    await save("WRONG", is_journalled=True)
    found = await storage.symbols.get_by_code("WRONG")
    assert found is not None and found.name == "ours"


async def test_a_symbol_of_the_highest_version_that_counts_is_replaced(storage: Storage) -> None:
    await insert_symbol(storage, "FAR", time.time_ns() + FURTHEST_AHEAD)
    for name in ("first", "second", "third"):
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("FAR", name=name))
            await uow.commit()
        found = await storage.symbols.get_by_code("FAR")
        assert found is not None and found.name == name


@pytest.mark.parametrize("how", ["alone", "journalled", "recovered"])
async def test_a_symbol_that_the_web_application_writes_is_seen_though_the_clock_is_ahead(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It names no version, so its row gets ClickHouse's time, which need not be MongoDB's."""
    ahead = time.time_ns() + 9 * 3_600 * 10**9
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"value": ahead}})

    async def save(name: str) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("005930", name=name))
            if how == "alone":
                await uow.commit()
                return
            await uow.formulas.save(make_formula())
            if how == "journalled":
                await uow.commit()
            else:
                await abandon(storage, monkeypatch, uow)
                await storage.recover()

    async def seen() -> str:
        found = await storage.symbols.get_by_code("005930")
        assert found is not None
        return found.name

    server_now = "SELECT toUnixTimestamp64Nano(now64(9)), max(version) FROM symbols"
    [(began, _)] = storage.clickhouse.execute(server_now)
    for turn in range(3):
        await save(f"ours {turn}")
        [(now, version)] = storage.clickhouse.execute(server_now)
        assert began <= version <= now
        assert await seen() == f"ours {turn}"
        await insert_symbol(storage, "005930", second=turn)
        assert await seen() == "theirs", turn
    await ClickHouseSymbolRepository(storage.clickhouse).save(make_symbol("005930", name="direct"))
    assert await seen() == "direct"
    await save("ours again")
    assert await seen() == "ours again"


async def test_symbols_of_commits_side_by_side_keep_the_order_of_the_clock(
    storage: Storage,
) -> None:
    """Also where ClickHouse told both the same time."""
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    places = []
    for above in (10**18, 10**18, 10**17, None, 10**18 + 5):
        async with clock.place(symbols_above=above) as place:
            places.append((place.version, place.symbols_version))
    versions = [version for _, version in places if version is not None]
    assert versions == sorted(set(versions))
    assert [version is None for _, version in places] == [False, False, False, True, False]


async def test_an_entry_of_a_release_without_versions_of_symbols_is_recovered(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("005930", name="long before"))
        await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("005930", name="before the upgrade"))
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    await storage.mongo.db[ENTRIES].update_many({}, {"$unset": {"symbolsVersion": 1}})
    assert await storage.recover() == 1
    found = await storage.symbols.get_by_code("005930")
    assert found is not None and found.name == "before the upgrade"
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("005930", name="after it"))
        await uow.commit()
    found = await storage.symbols.get_by_code("005930")
    assert found is not None and found.name == "after it"


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


@asynccontextmanager
async def losing_its_place(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, write: Coroutine[Any, Any, Any]
) -> AsyncIterator[asyncio.Task[Any]]:
    """A write that is paused once its rows are stored, until others wait for it no more."""
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    leave, stored, goes_on = clock._leave, asyncio.Event(), asyncio.Event()

    async def late(place: Place) -> bool:
        monkeypatch.setattr(clock, "_leave", leave)
        stored.set()
        await goes_on.wait()
        return bool(await leave(place))

    monkeypatch.setattr(clock, "_leave", late)
    writing = asyncio.create_task(write)
    await stored.wait()
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
    yield writing
    goes_on.set()
    await asyncio.wait([writing])


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


async def test_a_symbol_whose_writer_lost_its_place_undoes_nothing_that_came_after(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def save(name: str) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("S", name=name))
            await uow.commit()

    async with losing_its_place(storage, monkeypatch, save("before")) as writing:
        await save("after")
    await writing  # nobody deletes symbols, so it is stored, whoever waited
    found = await storage.symbols.get_by_code("S")
    assert found is not None
    assert found.name == "after"


@pytest.mark.parametrize("what", ["an earlier release's entry", "no number", "no clock"])
async def test_symbols_are_counted_above_those_that_are_decided(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    entries, clock = storage.mongo.db[ENTRIES], storage.mongo.db[CLOCK]
    hour = 3_600 * 10**9
    await insert_symbol(storage, "AHEAD", time.time_ns() + 24 * hour)
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("S", name="decided"))
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    if what == "no clock":
        await clock.delete_many({})
    else:
        await clock.update_one({}, {"$unset": {"symbols": 1}})
    if what == "an earlier release's entry":
        later = {"$unset": {"symbolsVersion": 1}, "$inc": {"version": 48 * hour}}
        await entries.update_many({}, later)
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("S", name="acknowledged later"))
        await uow.commit()
    await orphan(storage)
    assert await storage.recover() == 1
    found = await storage.symbols.get_by_code("S")
    assert found is not None
    assert found.name == "acknowledged later"


async def test_a_storage_writes_candles_and_symbols_in_units_of_work_only(
    storage: Storage,
) -> None:
    for name in ("save", "save_many", "delete_range"):
        assert not hasattr(storage.candles, name)
        assert not hasattr(storage.symbols, name)


async def test_a_commit_paused_before_its_decision_stores_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jts_storage.unit_of_work.clock.DECIDES_WITHIN", timedelta(seconds=-1))
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
    monkeypatch.setattr(clocks, "DECIDES_WITHIN", timedelta(seconds=0.3))

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


async def test_an_event_class_that_raises_holds_up_nobody(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(number: int, about: str) -> None:
        async with storage.unit_of_work() as uow:
            uow.events.add(Numbered(number=number, about=about))
            await uow.commit()

    await tell(1, "one")
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))

    def refuse(self: Numbered) -> None:
        if self.number == 1:
            raise RuntimeError("of a later release")

    monkeypatch.setattr(Numbered, "__post_init__", refuse)
    await tell(2, "other")
    await tell(3, "one")
    await storage.recover()
    assert 2 in heard


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
