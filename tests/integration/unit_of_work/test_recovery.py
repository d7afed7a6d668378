"""Who finishes what others left: several at once, again and again, and from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pydantic import SecretStr
from typer.testing import CliRunner

from jts_storage import CandleSeries, SeriesKey, Storage, StorageSettings, SymbolBars, Timeframe
from jts_storage._runtime.processes import this_process
from jts_storage.backend import StoreBackend
from jts_storage.cli.main import app
from jts_storage.domain import checks
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.events import DomainEvent
from jts_storage.errors import Conflict, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.ports import UnitOfWork
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import clock as clocks
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work.clock import CLOCK, CommitClock
from jts_storage.unit_of_work.entries import CHUNKS, ENTRIES, Entry
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.place import Place
from jts_storage.unit_of_work.recovery import Recovery
from tests import forked
from tests.waiting import until

DAY = date(2024, 1, 2)
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
DEAD = f"{this_process().rsplit('/', 1)[0]}/0"
RECOVERER = """
import asyncio, sys
from jts_storage import Storage
from jts_storage.backend import StoreBackend
from jts_storage.cli.main import app
from jts_storage.settings import StorageSettings

async def main():
    async with Storage(StoreBackend(StorageSettings.load(), recovers=False)) as storage:
        print("ready", flush=True)
        sys.stdin.readline()
        print(await storage.recover(), flush=True)

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed(DomainEvent):
    """What a commit tells that is cancelled while it goes on."""

    @property
    def key(self) -> str:
        return "renamed"


class Crash(BaseException):
    """What a process meets that dies."""


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[StorageSettings]:
    folder = tmp_path_factory.mktemp("recovery")
    with LocalMongod.acquire(folder / "mongo") as mongod, ClickHouseServer() as clickhouse:
        for engine in ("mongod", "SQLite", "ClickHouse endpoint over chDB"):
            engine_used(engine)
        yield StorageSettings(
            data_dir=folder,
            mongo_url=SecretStr(mongod.uri),
            clickhouse_url=SecretStr(f"clickhouse://127.0.0.1:{clickhouse.port}/default"),
            migrate=True,
        )


@pytest.fixture
def environment(settings: StorageSettings) -> dict[str, str]:
    assert settings.mongo_url is not None
    assert settings.clickhouse_url is not None
    return os.environ | {
        "JTS_DATA_DIR": str(settings.data_dir),
        "JTS_MONGO_URL": settings.mongo_url.get_secret_value(),
        "JTS_CLICKHOUSE_URL": settings.clickhouse_url.get_secret_value(),
        "JTS_MIGRATE": "1",
    }


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage
        await storage.recover()


async def leave_unfinished(storage: Storage, *names: str) -> None:
    """Commits whose process is dead: of this host, but of a number that nobody has."""
    for name in names:
        async with dying(storage):
            await commit(storage, name)


@asynccontextmanager
async def dying(storage: Storage, at: str = "decided") -> AsyncIterator[None]:
    """The process dies at this point of the commit in the block."""

    def die(point: str) -> None:
        if point == at:
            raise Crash

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(commit_points, "reached", die)
        yield
    await storage.mongo.db[ENTRIES].update_many(
        {"owner": this_process()}, {"$set": {"owner": DEAD}}
    )


async def commit(storage: Storage, name: str) -> None:
    key = SeriesKey(name, Timeframe.M1)
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula(name))
        await uow.candles.save_many(key, make_candles(key, 10))
        await uow.ingestion.symbol_bars.save(SymbolBars(name, DAY).start_collection())
        await uow.ingestion.bars.save_many(key, make_candles(key, 10))
        await uow.commit()


async def is_whole(storage: Storage, name: str) -> bool:
    key = SeriesKey(name, Timeframe.M1)
    bars = await storage.ingestion.symbol_bars.get(name, DAY)
    counts = await storage.candles.count(key), await storage.ingestion.bars.count(key)
    return bars is not None and bars.version == 1 and counts == (10, 10)


async def test_two_processes_share_the_work(storage: Storage, environment: dict[str, str]) -> None:
    for attempt in range(5):  # a machine may give one of them no time until the other is done
        if min(await shares_of_two(storage, environment, f"SHARED{attempt}")) > 0:
            return
    pytest.fail("One process always did all of the work.")


async def shares_of_two(storage: Storage, environment: dict[str, str], name: str) -> list[int]:
    names = [f"{name}_{n}" for n in range(12)]
    await leave_unfinished(storage, *names)
    assert (await storage.health()).unfinished == 12
    processes = [
        forked.Process(["-c", RECOVERER], env=environment, stdin=-1, stdout=-1) for _ in range(2)
    ]
    async with asyncio.timeout(60):
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        told = await asyncio.gather(
            *(asyncio.to_thread(process.communicate, "\n") for process in processes)
        )
    shares = [int(output) for output, _ in told]
    assert sum(shares) == 12
    assert [await is_whole(storage, name) for name in names] == [True] * 12
    assert await storage.mongo.db[ENTRIES].count_documents({}) == 0
    assert await storage.mongo.db[CHUNKS].count_documents({}) == 0
    return shares


async def test_two_tasks_share_the_work(storage: Storage) -> None:
    names = [f"TASKS{n}" for n in range(10)]
    await leave_unfinished(storage, *names)
    shares = await asyncio.gather(storage.recover(), storage.recover())
    assert sum(shares) == 10
    assert min(shares) > 0
    assert [await is_whole(storage, name) for name in names] == [True] * 10


async def test_what_somebody_alive_is_finishing_is_left_to_him(storage: Storage) -> None:
    await leave_unfinished(storage, "ELSEWHERE")
    entries = storage.mongo.db[ENTRIES]
    soon = checks.now() + timedelta(seconds=0.3)
    elsewhere = {"owner": "another-host/1/1", "leaseUntil": soon}
    await entries.update_many({}, {"$set": elsewhere})
    assert await storage.recover() == 0
    await asyncio.sleep(0.35)
    assert await storage.recover() == 1
    assert await is_whole(storage, "ELSEWHERE")


async def test_a_lease_is_renewed_as_long_as_it_takes(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LEASE", timedelta(seconds=1.5))
    await leave_unfinished(storage, "SLOW")
    manager = storage.mongo
    own = Journal(manager)
    [entry] = await own.pending()
    async with own.claimed(entry) as is_ours:
        assert is_ours
        found = await manager.db[ENTRIES].find_one({"_id": entry.id})
        assert found is not None
        await asyncio.sleep(2.0)
        renewed = await manager.db[ENTRIES].find_one({"_id": entry.id})
        assert renewed is not None
        assert renewed["leaseUntil"] > checks.now() > found["leaseUntil"]
        assert await storage.recover() == 0
    assert await storage.recover() == 1


async def test_one_that_cannot_be_finished_holds_up_no_other(storage: Storage) -> None:
    await leave_unfinished(storage, "BROKEN", "WELL")
    chunks, entries = storage.mongo.db[CHUNKS], storage.mongo.db[ENTRIES]
    broken = await entries.find_one({"touches": f"aggregate BROKEN {DAY}"})
    assert broken is not None
    lost = await chunks.find_one_and_delete({"entry": broken["_id"], "n": 1})
    assert lost is not None
    with pytest.raises(StorageError, match=rf"{broken['_id']}.*chunks"):
        await storage.recover()
    assert await is_whole(storage, "WELL")
    health = await storage.health()
    assert (health.unfinished, list(health.damaged_commits)) == (1, [str(broken["_id"])])
    await chunks.insert_one(lost)
    assert (await storage.health()).is_well
    assert await storage.recover() == 1
    assert await is_whole(storage, "BROKEN")


DAMAGES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "an entry of another type": (ENTRIES, {}, {"chunks": "two"}, "chunks of its entry"),
    "work that is no JSON": (CHUNKS, {"kind": "work"}, {"data": b"no"}, "its work"),
    "rows that are no Arrow": (CHUNKS, {"kind": "candles"}, {"data": b"no"}, "chunk "),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_health_names_a_commit_that_cannot_be_read(
    storage: Storage, settings: StorageSettings, environment: dict[str, str], damage: str
) -> None:
    lost = f"LOST {damage}"
    await leave_unfinished(storage, lost, f"WHOLE {damage}")
    where, which, change, what = DAMAGES[damage]
    entry = await storage.mongo.db[ENTRIES].find_one({"touches": f"aggregate {lost} {DAY}"})
    assert entry is not None and (await storage.health()).is_well
    own = {"_id" if where == ENTRIES else "entry": entry["_id"], **which}
    was = await storage.mongo.db[where].find_one(own)
    assert was is not None
    await storage.mongo.db[where].update_one({"_id": was["_id"]}, {"$set": change})
    other = Storage(StoreBackend(settings, recovers=False))
    async with other:  # one that has not found the commit whole before
        health = await other.health()
    identity = str(entry["_id"])
    assert (health.unfinished, health.is_well) == (2, False)
    assert list(health.damaged_commits) == [identity]
    told_of_it = health.damaged_commits[identity]
    assert identity in told_of_it and what in told_of_it
    assert "back from a backup" in told_of_it and f"from {ENTRIES}" in told_of_it
    assert told_of_it in await told(environment, "health", exits_with=1)
    shown = json.loads(await told(environment, "health", "--json", exits_with=1))
    assert shown["damaged_commits"] == {identity: told_of_it}
    await storage.mongo.db[where].replace_one({"_id": was["_id"]}, was)
    assert (await storage.health()).is_well
    assert await storage.recover() == 2


async def test_health_leaves_what_is_being_finished_alone(storage: Storage) -> None:
    await leave_unfinished(storage, "BUSY")
    [entry] = await Journal(storage.mongo).pending()
    lost = await storage.mongo.db[CHUNKS].find_one_and_delete({"entry": entry.id, "n": 1})
    assert lost is not None
    async with Journal(storage.mongo).claimed(entry) as is_ours:
        assert is_ours and (await storage.health()).is_well
    assert list((await storage.health()).damaged_commits) == [str(entry.id)]
    await storage.mongo.db[CHUNKS].insert_one(lost)
    assert await storage.recover() == 1


async def test_a_cancelled_commit_ends_and_its_events_are_delivered(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    storage.events.register_handler(Renamed, lambda event: heard.put(event.key))

    async def rename() -> None:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula("renamed"))
            await uow.ingestion.symbol_bars.save(SymbolBars("RENAMED", DAY).start_collection())
            uow.events.add(Renamed())
            await uow.commit()

    task = asyncio.create_task(rename())
    monkeypatch.setattr(
        commit_points, "reached", lambda point: task.cancel() if point == "decided" else None
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.ingestion.symbol_bars.get("RENAMED", DAY) is not None
    assert await asyncio.wait_for(heard.get(), 10) == "renamed"


async def test_who_locks_the_bookkeeping_later_is_later_in_every_store(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    place = CommitClock.place

    def noted(self: CommitClock, **how: Any) -> AbstractAsyncContextManager[Place]:
        seen.append("version taken")
        return place(self, **how)

    monkeypatch.setattr(commit_points, "reached", seen.append)
    monkeypatch.setattr(CommitClock, "place", noted)
    await commit(storage, "ORDERED")
    assert seen.index("version taken") > seen.index("database ready")
    assert seen.count("version taken") == 1


async def test_a_commit_that_cannot_be_finished_is_released_and_keeps_nobody_from_opening(
    storage: Storage, settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await leave_unfinished(storage, "STUCK")
    chunks, entries = storage.mongo.db[CHUNKS], storage.mongo.db[ENTRIES]
    lost = await chunks.find().to_list()
    await chunks.delete_many({})
    with pytest.raises(StorageError, match="chunks"):
        await storage.recover()
    entry = await entries.find_one()
    assert entry is not None
    assert entry["leaseUntil"] <= checks.now(), "others may finish it at once"
    async with Storage(StoreBackend(settings)) as opened:
        assert "Opened although" in caplog.text
        await chunks.insert_many(lost)
        assert await opened.recover() == 1
    assert await is_whole(storage, "STUCK")


async def test_later_raw_bars_are_not_undone(storage: Storage) -> None:
    key = SeriesKey("LATER", Timeframe.M1)
    await leave_unfinished(storage, "LATER")
    newer = make_candles(key, 10, seed=1)

    async def save(uow: UnitOfWork) -> None:
        await uow.ingestion.bars.save_many(key, newer)

    await storage.run(save)
    await storage.recover()
    assert newer.start is not None
    assert newer.end is not None
    assert await storage.ingestion.bars.get_range(key, newer.start, newer.end) == newer


async def test_a_recovered_deletion_waits_for_the_writes_under_way_before_it(
    storage: Storage,
) -> None:
    key = SeriesKey("WAITS", Timeframe.M1)
    stores = storage._backend.stores  # type: ignore[attr-defined]
    async with stores.clock.place(series=[f"candles {key}"]) as writing:
        async with dying(storage), storage.unit_of_work() as uow:
            await uow.candles.delete_range(key, *ALWAYS)
            await uow.commit()
        recovering = asyncio.create_task(storage.recover())
        done, _ = await asyncio.wait([recovering], timeout=0.3)
        assert not done, "rows of an earlier commit are not there yet to be deleted"
        rows = make_candles(key, 10)
        await stores.clickhouse.run(stores.candles.write, rows, writing.version + 1)
    assert await recovering == 1
    assert await storage.candles.count(key) == 0


async def test_a_recovered_deletion_comes_after_the_recovered_commits_before_it(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SeriesKey("IN_ORDER", Timeframe.M1)
    await leave_unfinished(storage, key.symbol)
    async with dying(storage), storage.unit_of_work() as uow:
        await uow.candles.delete_range(key, *ALWAYS)
        monkeypatch.setattr(
            "jts_storage.unit_of_work.recovery.Recovery.finish_first", nothing_first
        )
        await uow.commit()
    await forget_who_is_under_way(storage)
    first, _ = await Journal(storage.mongo).pending()
    load = Journal.load

    async def slowly(self: Journal, entry: Entry) -> CommitChanges | None:
        if entry.id == first.id:
            await asyncio.sleep(0.3)
        return await load(self, entry)

    monkeypatch.setattr(Journal, "load", slowly)
    assert await storage.recover() == 2
    assert await storage.candles.count(key) == 0


async def nothing_first(*_: object) -> None:
    """Others have not looked for what is to be finished first: it was not decided then."""


async def forget_who_is_under_way(storage: Storage) -> None:
    """As when the leases on their places have ended."""
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})


async def test_a_commit_that_others_finished_holds_up_no_later_one(storage: Storage) -> None:
    heard: list[str] = []
    storage.events.register_handler(Renamed, lambda event: heard.append(event.key))

    async def rename() -> None:
        async with storage.unit_of_work() as uow:
            uow.events.add(Renamed())
            await uow.commit()

    async with dying(storage):
        await rename()
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    assert len(await clock.under_way()) == 1
    assert await storage.recover() == 1
    assert await clock.under_way() == []
    await rename()
    await until(lambda: len(heard) >= 2)  # a look in the background may have the key
    assert heard == ["renamed"] * 2


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_decided_commit_that_fails_holds_its_series_up_until_it_has_landed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    """It is not waited for until its lease ends, though MongoDB be away when it is to be told."""
    monkeypatch.setattr(clocks, "LANDING", timedelta(seconds=1.5))
    key = SeriesKey(f"LANDS{is_told}", Timeframe.M1)
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]

    async def failing(*_: Any, **__: Any) -> Any:
        raise StorageError("away")

    first, second = (make_candles(key, 1, seed=seed) for seed in (1, 2))

    async def save(candles: CandleSeries) -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, candles)
            await uow.formulas.save(make_formula(f"lands {is_told} {candles[0].close}"))
            await uow.commit()

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="is decided, but"):
        patch.setattr(Stores, "store_series", failing)
        if not is_told:
            patch.setattr(CommitClock, "_set_end", failing)
        await save(first)
    async with clock.place() as later:
        assert later.earlier, "what it has sent may still arrive"
    await asyncio.wait_for(save(second), 60)
    assert await storage.candles.get_range(key, *ALWAYS) == second
    assert not await storage.recover(), "the second has finished the first"
    [correction] = await storage.candles.changes(key)
    assert (correction.before, correction.after) == (first[0], second[0])


async def test_what_the_dead_left_on_the_clock_is_forgotten_and_nothing_else(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other hosts cannot tell that they are dead: there they would be waited for."""
    monkeypatch.setattr(clocks, "LANDING", timedelta(milliseconds=20))
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    async with clock.place() as alive:
        with monkeypatch.context() as patch:
            patch.setattr(clock, "_owner", DEAD)
            await clock._enter(Place(ObjectId(), 0), 2, None, None)
        assert len(await clock.under_way()) == 2
        await storage.recover()
        assert [one.id for one in await clock.under_way()] == [alive.id]


async def test_a_recovered_commit_that_deletes_and_rewrites_the_same_rows_stores_the_new_ones(
    storage: Storage,
) -> None:
    key = SeriesKey("REWRITTEN", Timeframe.M1)
    old, new = make_candles(key, 10, seed=1), make_candles(key, 10, seed=2)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, old)
        await uow.commit()
    async with dying(storage), storage.unit_of_work() as uow:
        await uow.candles.delete_range(key, *ALWAYS)
        await uow.candles.save_many(key, new)
        await uow.commit()
    assert await storage.recover() == 1
    assert await storage.candles.get_range(key, *ALWAYS) == new


@pytest.mark.parametrize(("stored", "asked"), [(1, 9), (9, 1)], ids=["decided", "asking"])
async def test_a_commit_of_too_many_names_to_list_may_change_any_of_them(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, stored: int, asked: int
) -> None:
    """Whether it is the one that is decided or the one that asks."""
    name = f"MANY{stored}"
    key = SeriesKey(name, Timeframe.M1)
    monkeypatch.setattr(journal, "_MOST_NAMES", stored)
    await leave_unfinished(storage, name)
    monkeypatch.setattr(journal, "_MOST_NAMES", asked)
    async with storage.unit_of_work() as uow:
        await uow.ingestion.bars.save_many(key, make_candles(key, 10, seed=1))
        await uow.ingestion.checkpoints.save(name, {})
        with pytest.raises(Conflict, match="not finished yet"):
            await uow.commit()
    assert await is_whole(storage, name)
    assert await storage.ingestion.checkpoints.get(name) is None


async def test_bookkeeping_that_a_dead_commit_has_stored_is_applied_once(storage: Storage) -> None:
    key = SeriesKey("ONCE", Timeframe.M1)
    newer = make_candles(key, 10, seed=1)
    async with dying(storage, at="database committed"):
        await commit(storage, key.symbol)
    async with storage.unit_of_work() as uow:
        await uow.ingestion.bars.save_many(key, newer)
        await uow.commit()  # no conflict: what comes first is there already
    assert await storage.recover() == 1
    assert await storage.ingestion.bars.get_range(key, *ALWAYS) == newer


async def test_a_commit_that_is_still_unfinished_after_weeks_is_still_recognised(
    storage: Storage,
) -> None:
    key = SeriesKey("WEEKS", Timeframe.M1)
    newer = make_candles(key, 10, seed=1)
    async with dying(storage, at="database committed"):
        await commit(storage, key.symbol)
    entries = storage.mongo.db[ENTRIES]
    await entries.update_one({}, {"$set": {"owner": "another-host/1/1"}})
    async with storage.database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE applied_commits SET applied_at = '2020-01-01'")
    assert await storage.recover() == 0
    async with storage.unit_of_work() as uow:
        await uow.ingestion.bars.save_many(key, newer)
        await uow.commit()
    await entries.update_one({}, {"$currentDate": {"leaseUntil": True}})
    assert await storage.recover() == 1
    assert await storage.ingestion.bars.get_range(key, *ALWAYS) == newer
    async with storage.database.connection() as connection:
        old = "SELECT count(*) FROM applied_commits WHERE applied_at < '2021-01-01'"
        assert (await connection.exec_driver_sql(old)).scalar() == 0, "forgotten once it may be"


@pytest.mark.parametrize("at", ["_take", "load"])
async def test_a_cancelled_recovery_lets_go_of_what_it_had_in_hand(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    name = f"CANCELLED {at}"
    await leave_unfinished(storage, name)
    begun = asyncio.Event()

    async def hang(*_: object) -> None:
        begun.set()
        await asyncio.sleep(60)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, at, hang)
        recovering = asyncio.create_task(storage.recover())
        await begun.wait()
        recovering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recovering
    [entry] = await Journal(storage.mongo).pending()
    assert entry.has_run_out or entry.owner == DEAD, "others may finish it at once"
    assert await storage.recover() == 1
    assert await is_whole(storage, name)


async def test_chunks_of_a_decided_commit_stay_however_old_they_are(storage: Storage) -> None:
    await leave_unfinished(storage, "OLD")
    chunks, entries = storage.mongo.db[CHUNKS], storage.mongo.db[ENTRIES]
    before = await chunks.count_documents({})
    # A purge may see them, and mark them, shortly before their commit is decided.
    await chunks.update_many({}, {"$set": {"seenAt": checks.now() - timedelta(hours=2)}})
    await entries.update_one({}, {"$set": {"owner": "another-host/1/1"}})
    assert await storage.recover() == 0
    assert await chunks.count_documents({}) == before > 0
    await entries.update_one({}, {"$currentDate": {"leaseUntil": True}})
    assert await storage.recover() == 1
    assert await is_whole(storage, "OLD")


async def test_what_was_never_decided_is_purged_by_the_servers_clock(storage: Storage) -> None:
    chunks = storage.mongo.db[CHUNKS]
    # The id was made by a host whose clock is years behind: that says nothing.
    identity = ObjectId.from_datetime(datetime(2020, 1, 1, tzinfo=UTC))
    await chunks.insert_one({"entry": identity, "n": 1, "kind": "work", "data": b""})
    await storage.recover()
    await storage.recover()
    assert await chunks.count_documents({"entry": identity}) == 1
    old = checks.now() - timedelta(hours=2)
    await chunks.update_one({"entry": identity}, {"$set": {"seenAt": old}})
    await storage.recover()
    assert await chunks.count_documents({"entry": identity}) == 0


async def test_applied_commits_are_not_forgotten_while_the_journal_has_an_entry(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old they are: who is paused may still have to recognise them."""
    stores = storage._backend.stores  # type: ignore[attr-defined]
    async with storage.database.transaction() as connection:
        for name, days in (("old", 8), ("young", 6)):
            await connection.exec_driver_sql(
                "INSERT INTO applied_commits (id, applied_at)"
                f" VALUES ('{name}', datetime('now', '-{days} days'))"
            )
    await leave_unfinished(storage, "WAITING")
    await Recovery(stores).purge()
    assert await stores.ingestion.lacks(["old", "young"]) == []
    assert await storage.recover() == 1
    await Recovery(stores).purge()
    assert await stores.ingestion.lacks(["old", "young"]) == ["old"]


async def test_the_command_shows_what_is_left_then_finishes_it(
    storage: Storage, environment: dict[str, str]
) -> None:
    await leave_unfinished(storage, "SHOWN")
    shown = json.loads(await told(environment, "recover", "--dry-run", "--json"))
    assert [set(one) for one in shown] == [{"commit", "decided_at"}]
    assert (await storage.health()).unfinished == 1
    assert json.loads(await told(environment, "recover", "--json")) == {
        "finished": 1,
        "forgotten": 0,
    }
    assert await is_whole(storage, "SHOWN")
    assert await told(environment, "recover") == "Nothing was left unfinished.\n"


async def test_the_command_goes_on_looking(storage: Storage, environment: dict[str, str]) -> None:
    follower = forked.Process(
        ["-m", "jts_storage.cli.main", "recover", "--follow", "--every", "0.1"],
        env=environment,
        stdout=forked.PIPE,
        stderr=forked.DEVNULL,
    )
    assert follower.stdout is not None
    try:
        async with asyncio.timeout(60):
            for name in ("FIRST", "SECOND"):
                await leave_unfinished(storage, name)
                told = await asyncio.to_thread(follower.stdout.readline)
                assert told == "1 commit finished.\n"
                assert await is_whole(storage, name)
            follower.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(follower.wait) == 130
    finally:
        follower.kill()
        with follower:
            """Its end is waited for."""


async def told(environment: dict[str, str], *arguments: str, exits_with: int = 0) -> str:
    # In a thread, because a command runs a loop of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
    assert result.exit_code == exits_with, result.output
    return result.stdout
