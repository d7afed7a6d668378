"""What a commit does step by step, and what is left of it wherever it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from jts_storage import DomainEvent, SeriesKey, Storage, StorageSettings, SymbolBars, Timeframe
from jts_storage._runtime.processes import this_process
from jts_storage.backend import StoreBackend
from jts_storage.domain import checks
from jts_storage.domain.changes import CommitChanges
from jts_storage.errors import Conflict, ConnectionFailed, SchemaDrift, StorageError
from jts_storage.ports import UnitOfWork
from jts_storage.testing.factories import make_candles, make_formula, make_strategy, make_symbol
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work.entries import CHUNKS, ENTRIES, Entry
from jts_storage.unit_of_work.outbox import EVENTS
from jts_storage.unit_of_work.participants import Overtaking, Stores
from jts_storage.unit_of_work.recovery import Recovery, Unfinished
from tests.integration.unit_of_work.interrupted import Crash, abandon, dying
from tests.prepared import Prepared

DAY = date(2024, 1, 2)
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
GONE = f"{this_process().rsplit('/', 1)[0]}/0"
numbers = count()

POINTS = [
    "before the journal",
    "chunks written",
    "database ready",
    "entry written",
    "decided",
    "database committed",
    "series stored",
    "journal done",
]
BEFORE_THE_DECISION = POINTS[: POINTS.index("decided")]


@dataclass(frozen=True, kw_only=True)
class Listed(DomainEvent):
    name: str

    @property
    def key(self) -> str:
        return self.name


@pytest.fixture(scope="module")
def settings(
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[StorageSettings]:
    for engine in ("mongod", "chDB", "SQLite"):
        engine_used(engine)
    with prepared.shared_stores(tmp_path_factory.mktemp("steps")) as settings:
        yield settings


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    """A storage whose journal, outbox and clock are empty."""
    async with Storage(StoreBackend(settings)) as storage:
        yield storage
        for name in (ENTRIES, CHUNKS, EVENTS):
            await storage.mongo.db[name].delete_many({})
        await leave_the_clock(storage)
    journal._in_hand.clear()


@pytest.fixture
def name() -> str:
    """One that nothing stored has yet."""
    return f"STEP{next(numbers)}"


def stores_of(storage: Storage) -> Stores:
    stores: Stores = storage._backend.stores  # type: ignore[attr-defined]
    return stores


def key_of(name: str) -> SeriesKey:
    return SeriesKey(name, Timeframe.M1)


async def write(uow: UnitOfWork, name: str, rows: int = 5) -> None:
    key = key_of(name)
    await uow.formulas.save(make_formula(name))
    await uow.candles.save_many(key, make_candles(key, rows))
    await uow.symbols.save(make_symbol(name))
    await uow.ingestion.symbol_bars.save(SymbolBars(name, DAY).start_collection())
    await uow.ingestion.checkpoints.save(name, {"rows": rows})
    await uow.ingestion.bars.save_many(key, make_candles(key, rows))
    uow.events.add(Listed(name=name))


async def seen(storage: Storage, name: str, rows: int = 5) -> set[str]:
    key = key_of(name)
    found = {
        "formula": name in {formula.name for formula in await storage.formulas.list()},
        "candles": await storage.candles.get_range(key, *ALWAYS) == make_candles(key, rows),
        "symbol": await storage.symbols.get_by_code(name) is not None,
        "aggregate": await storage.ingestion.symbol_bars.get(name, DAY) is not None,
        "checkpoint": await storage.ingestion.checkpoints.get(name) is not None,
        "bars": await storage.ingestion.bars.get_range(key, *ALWAYS) == make_candles(key, rows),
        "event": await storage.mongo.db[EVENTS].count_documents({"key": name}) == 1,
    }
    return {what for what, is_there in found.items() if is_there}


EVERYTHING = {"formula", "candles", "symbol", "aggregate", "checkpoint", "bars", "event"}


async def left(storage: Storage) -> dict[str, int]:
    """What commits have left in the journal and the clock: how many of each."""
    found = {
        kind: await storage.mongo.db[kind].count_documents({}) for kind in (ENTRIES, CHUNKS)
    } | {"under way": len(await stores_of(storage).clock.under_way())}
    return {what: number for what, number in found.items() if number}


async def leave_broken(storage: Storage, monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """A decided commit that cannot be finished until the chunks that are returned are there."""
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        await abandon(storage, monkeypatch, uow)
    chunks = storage.mongo.db[CHUNKS]
    lost = await chunks.find().to_list()
    await chunks.delete_many({})
    await leave_the_clock(storage)
    return lost


async def leave_the_clock(storage: Storage) -> None:
    """Let no commit be listed as under way, as if the lease of each had ended."""
    clock = stores_of(storage).clock
    await clock.forget([one.id for one in await clock.under_way()])


# ---- the way of a commit


async def test_a_commit_passes_every_point_and_leaves_nothing_behind(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[str] = []
    monkeypatch.setattr(commit_points, "reached", points.append)
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        await uow.commit()
    assert points == POINTS
    assert await seen(storage, name) == EVERYTHING
    assert await left(storage) == {}


async def test_what_deletes_and_writes_has_a_version_for_each(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, key = stores_of(storage), key_of(name)
    versions: list[int] = []
    write = stores.candles.write_rows

    def noted(many: Any, version: int, **options: Any) -> None:
        versions.append(version)
        write(many, version, **options)

    entered = asyncio.Event()
    monkeypatch.setattr(
        commit_points, "reached", lambda point: entered.set() if point == "entry written" else None
    )
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, make_candles(key, 9, seed=1))
        await uow.commit()
    monkeypatch.setattr(stores.candles, "write_rows", noted)
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(key, *ALWAYS)
        await uow.candles.save_many(key, make_candles(key, 5))
        await uow.symbols.save(make_symbol(name))
        committing = asyncio.create_task(uow.commit())
        await asyncio.wait_for(entered.wait(), 20)
        [own] = await stores.clock.under_way()
        await committing
    assert versions == [own.version + 1]
    assert own.may_write({f"candles {key}"})
    assert not own.may_write({"candles of another"})
    assert await storage.candles.get_range(key, *ALWAYS) == make_candles(key, 5)


@pytest.mark.parametrize("what", ["formula", "candles", "symbol", "checkpoint", "nothing"])
async def test_what_one_store_keeps_alone_takes_no_journal(
    storage: Storage, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[str] = []
    monkeypatch.setattr(commit_points, "reached", points.append)
    async with storage.unit_of_work() as uow:
        if what == "formula":
            await uow.formulas.save(make_formula(name))
        elif what == "candles":
            await uow.candles.save_many(key_of(name), make_candles(key_of(name), 5))
        elif what == "symbol":
            await uow.symbols.save(make_symbol(name))
        elif what == "checkpoint":
            await uow.ingestion.checkpoints.save(name, {})
        await uow.commit()
    assert points == []
    assert await seen(storage, name) == {what} - {"nothing"}


@pytest.mark.parametrize("what", ["deletion", "symbols and candles", "event", "two stores"])
async def test_what_is_not_one_write_takes_the_journal(
    storage: Storage, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[str] = []
    monkeypatch.setattr(commit_points, "reached", points.append)
    async with storage.unit_of_work() as uow:
        if what == "deletion":
            await uow.candles.delete_range(key_of(name), *ALWAYS)
        elif what == "symbols and candles":
            await uow.symbols.save(make_symbol(name))
            await uow.candles.save_many(key_of(name), make_candles(key_of(name), 5))
        elif what == "event":
            uow.events.add(Listed(name=name))
        else:
            await uow.formulas.save(make_formula(name))
            await uow.ingestion.checkpoints.save(name, {})
        await uow.commit()
    assert points == POINTS


async def test_a_unit_of_work_is_entered_once_and_ends_once(storage: Storage, name: str) -> None:
    uow = storage.unit_of_work()
    with pytest.raises(StorageError, match="has not been entered"):
        _ = uow.candles
    async with uow as entered:
        assert entered is uow
        await write(uow, name)
        await uow.strategies.save(make_strategy(name))
        assert await uow.backtests.list() == []
        with pytest.raises(StorageError, match="only once"):
            await uow.__aenter__()
    with pytest.raises(StorageError, match="has been rolled back"):
        await uow.commit()
    with pytest.raises(StorageError, match="only once"):
        await uow.__aenter__()
    assert await seen(storage, name) == set()
    async with storage.unit_of_work() as uow:
        await uow.commit()
        with pytest.raises(StorageError, match="has been committed"):
            await uow.commit()


@pytest.mark.parametrize("commits", [False, True])
async def test_what_is_kept_of_a_unit_of_work_takes_nothing_after_it(
    storage: Storage, name: str, commits: bool
) -> None:
    async with storage.unit_of_work() as uow:
        candles, formulas = uow.candles, uow.formulas
        if commits:
            await uow.commit()
    with pytest.raises(StorageError, match="is over"):
        await candles.save_many(key_of(name), make_candles(key_of(name), 5))
    with pytest.raises(StorageError, match="is over"):
        await formulas.save(make_formula(name))
    assert await seen(storage, name) == set()


# ---- where it ends early


@pytest.mark.parametrize("point", BEFORE_THE_DECISION)
async def test_what_fails_before_its_decision_leaves_nothing(
    storage: Storage, name: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(at: str) -> None:
        if at == point:
            raise ConnectionFailed("a server is away")

    monkeypatch.setattr(commit_points, "reached", reached)
    uow = storage.unit_of_work()
    async with uow:
        await write(uow, name)
        with pytest.raises(ConnectionFailed, match="a server is away"):
            await uow.commit()
    with pytest.raises(StorageError, match="its commit having failed"):
        await uow.commit()
    assert await left(storage) == {}
    assert await seen(storage, name) == set()


async def test_what_was_paused_for_too_long_before_its_decision_leaves_nothing(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jts_storage.unit_of_work.place.DECIDES_WITHIN", timedelta(seconds=-1))
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        with pytest.raises(Conflict, match="paused"):
            await uow.commit()
    assert await left(storage) == {}
    assert await seen(storage, name) == set()


async def test_what_the_server_refuses_to_decide_leaves_nothing(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(session: AsyncClientSession) -> None:
        await session.abort_transaction()
        raise OperationFailure("it is refused", 2)

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", refuse)
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        with pytest.raises(StorageError, match=r"\bcommitting\b.*it is refused"):
            await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula(name))
        with pytest.raises(StorageError, match=r"\bcommitting\b.*it is refused"):
            await uow.commit()
    monkeypatch.undo()
    assert await left(storage) == {}
    assert await seen(storage, name) == set()


@pytest.mark.parametrize("point", ["decided", "database committed", "series stored"])
async def test_what_fails_after_its_decision_says_so_and_is_finished(
    storage: Storage, name: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(at: str) -> None:
        if at == point:
            raise ConnectionFailed("a server is away")

    async with storage.unit_of_work() as uow:
        await write(uow, name)
        with monkeypatch.context() as patch:
            patch.setattr(commit_points, "reached", reached)
            with pytest.raises(StorageError, match="is decided, but not every store has it yet"):
                await uow.commit()
    [under_way] = await stores_of(storage).clock.under_way()
    [entry] = await stores_of(storage).journal.pending()
    assert (under_way.id, under_way.version) == (entry.id, entry.version)
    assert await storage.recover() == 1
    assert await seen(storage, name) == EVERYTHING
    assert await left(storage) == {}


async def test_a_commit_that_is_cancelled_is_cancelled_once_it_is_stored(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def commit() -> None:
        async with storage.unit_of_work() as uow:
            await write(uow, name)
            await uow.commit()

    task = asyncio.create_task(commit())
    monkeypatch.setattr(
        commit_points, "reached", lambda point: task.cancel() if point == "decided" else None
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await seen(storage, name) == EVERYTHING
    assert await left(storage) == {}


async def test_candles_are_written_to_no_table_without_versions(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = stores_of(storage)

    def refuse() -> None:
        raise SchemaDrift("Table candles has the original schema.")

    monkeypatch.setattr(stores.candles, "check_writable", refuse)
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        with pytest.raises(SchemaDrift):
            await uow.commit()
    monkeypatch.undo()
    assert await left(storage) == {}
    assert await seen(storage, name) == set()


# ---- what others left


async def test_recovery_may_be_asked_for_some_only_and_says_what_it_could_not_finish(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await leave_broken(storage, monkeypatch, name)
    other = f"{name}B"
    async with storage.unit_of_work() as uow:
        await write(uow, other)
        await abandon(storage, monkeypatch, uow)
    stores = stores_of(storage)
    broken, well = [entry.id for entry in await stores.journal.pending()]
    assert await Recovery(stores).recover(only=[ObjectId()]) == 0
    assert await seen(storage, other) == {"formula", "event"}
    assert await Recovery(stores).recover(only=[well]) == 1
    assert await seen(storage, other) == EVERYTHING
    with pytest.raises(Unfinished, match=f"Commit {broken} is decided"):
        await Recovery(stores).recover(only=[broken])
    await storage.mongo.db[CHUNKS].insert_many(lost)
    assert await storage.recover() == 1


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("work", {"data": b"\xff{"}),
        ("work", {"data": b"[]"}),
        ("work", {"data": b'{"candles": [], "bars": []}'}),
        ("candles", {"data": b""}),
        ("candles", {"key": ["A", "9m", ""]}),
        ("bars", {"data": b"no Arrow"}),
        (None, {"version": "seven"}),
        (None, {"decidedAt": None}),
        (None, {"models": 5, "chunks": "3"}),
    ],
)
async def test_an_entry_that_cannot_be_read_keeps_no_storage_from_opening(
    storage: Storage,
    settings: StorageSettings,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str | None,
    change: dict[str, Any],
) -> None:
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        await abandon(storage, monkeypatch, uow)
    await leave_the_clock(storage)
    place = storage.mongo.db[CHUNKS if kind else ENTRIES]
    wanted = {"kind": kind} if kind else {}
    was = await place.find_one(wanted)
    assert was is not None
    await place.update_one(wanted, {"$set": change})
    before = await left(storage)
    await storage.close()
    with caplog.at_level(logging.ERROR):
        await storage.open_stores()
    assert "an earlier commit is unfinished" in caplog.text
    assert (await storage.health()).unfinished == 1
    assert await left(storage) == before
    with pytest.raises(Unfinished, match="cannot be read"):
        await storage.recover()
    await storage.mongo.db[place.name].replace_one({"_id": was["_id"]}, was)
    await leave_the_clock(storage)
    assert await storage.recover() == 1
    assert await seen(storage, name) == EVERYTHING


async def test_what_a_dead_process_decided_is_brought_everywhere(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(name)
    old = make_candles(key, 9, seed=1)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, old)
        await uow.ingestion.bars.save_many(key, old)
        await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(key, *ALWAYS)
        await uow.ingestion.bars.delete_range(key, *ALWAYS)
        await write(uow, name)
        await abandon(storage, monkeypatch, uow)
    assert await seen(storage, name) == {"formula", "event"}
    assert await storage.recover() == 1
    assert await seen(storage, name) == EVERYTHING
    assert await left(storage) == {}
    assert await storage.recover() == 0


async def test_a_recovered_deletion_comes_after_the_writes_before_it(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, key = stores_of(storage), key_of(name)
    for is_deletion in (False, True):
        async with storage.unit_of_work() as uow:
            if is_deletion:
                await uow.candles.delete_range(key, *ALWAYS)
            else:
                await uow.candles.save_many(key, make_candles(key, 5))
            await uow.formulas.save(make_formula(f"{name} {is_deletion}"))
            with monkeypatch.context() as patch:
                patch.setattr(Recovery, "finish_first", nothing)
                await abandon(storage, monkeypatch, uow)
    load = stores.journal.load
    first = (await stores.journal.pending())[0].id

    async def slowly(self: object, entry: Entry) -> CommitChanges | None:
        if entry.id == first:
            await asyncio.sleep(0.3)
        return await load(entry)

    monkeypatch.setattr(type(stores.journal), "load", slowly)
    assert await storage.recover() == 2
    assert await storage.candles.count(key) == 0
    assert await left(storage) == {}


async def nothing(*_: object) -> None:
    return None


async def test_a_deletion_is_refused_while_what_it_deletes_cannot_be_finished(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await leave_broken(storage, monkeypatch, name)
    points: list[str] = []
    monkeypatch.setattr(commit_points, "reached", points.append)
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(key_of(name), *ALWAYS)
        await uow.formulas.save(make_formula(f"{name} deleted"))
        with pytest.raises(Overtaking, match="has not stored yet"):
            await uow.commit()
    assert "chunks written" not in points, "before anything is written"
    assert f"{name} deleted" not in {formula.name for formula in await storage.formulas.list()}
    await storage.mongo.db[CHUNKS].insert_many(lost)
    assert await storage.recover() == 1
    assert await seen(storage, name) == EVERYTHING


async def test_a_deletion_waits_for_what_somebody_else_is_finishing(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(name)
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        await abandon(storage, monkeypatch, uow)
    until = checks.now() + timedelta(seconds=0.6)
    elsewhere = {"owner": "another-host/1/1", "leaseUntil": until}
    await storage.mongo.db[ENTRIES].update_many({}, {"$set": elsewhere})
    await leave_the_clock(storage)
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(key, *ALWAYS)
        await asyncio.wait_for(uow.commit(), 20)
    assert await storage.candles.count(key) == 0
    assert await storage.symbols.get_by_code(name) is not None
    assert await left(storage) == {}


async def test_a_deletion_gives_up_when_somebody_else_takes_too_long(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jts_storage.unit_of_work.recovery._PATIENCE_SECONDS", 0.1)
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        await abandon(storage, monkeypatch, uow)
    await storage.mongo.db[ENTRIES].update_many({}, {"$set": {"owner": "another-host/1/1"}})
    await leave_the_clock(storage)
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(key_of(name), *ALWAYS)
        with pytest.raises(StorageError, match=r"decided.*comes first") as caught:
            await uow.commit()
    assert isinstance(caught.value.__cause__, Unfinished)


async def test_bookkeeping_is_not_overtaken_and_what_comes_first_is_finished(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        await abandon(storage, monkeypatch, uow)
    async with storage.unit_of_work() as uow:
        await uow.ingestion.checkpoints.save(name, {"rows": 0})
        with pytest.raises(Conflict, match="decided"):
            await uow.commit()
    assert await seen(storage, name) == EVERYTHING, "it was finished by who met it"
    async with storage.unit_of_work() as uow:
        await uow.ingestion.checkpoints.save(name, {"rows": 0})
        await uow.commit()
    found = await storage.ingestion.checkpoints.get(name)
    assert found is not None
    assert found.data == {"rows": 0}


async def test_what_is_applied_already_keeps_nobody_from_changing_it(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await write(uow, name)
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(commit_points, "reached", dying("database committed"))
            await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.ingestion.checkpoints.save(name, {"rows": 0})
        await uow.commit()
    journal._in_hand.clear()
    assert await storage.recover() == 1
    found = await storage.ingestion.checkpoints.get(name)
    assert found is not None
    assert found.data == {"rows": 0}, "it is not applied again"
