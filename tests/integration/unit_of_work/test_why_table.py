"""Each row of the table "Who sees what when something dies" in `docs/why.md` is a test here."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from jts_storage import SeriesKey, StorageSettings, SymbolBars, Timeframe, new_unit_id
from jts_storage import Storage as AsyncStorage
from jts_storage.domain.events import IngestionCompleted
from jts_storage.errors import Conflict, ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.sync import Storage, UnitOfWork
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.testing.fault_proxy import FaultProxy
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import delivery, journal
from jts_storage.unit_of_work.entries import CHUNKS
from tests.runs import some_by_day

PAGE = Path(__file__).parents[3] / "docs" / "why.md"
SERVICE = Path(__file__).with_name("dying_service.py")
ROWS = 10
DAY = date(2024, 1, 2)

DOCUMENTS, CANDLES, BOOKKEEPING, EVENT = "documents", "candles", "bookkeeping", "event"
NOTHING: Final[frozenset[str]] = frozenset()
STORED = frozenset({DOCUMENTS, CANDLES, BOOKKEEPING})
ALL = STORED | {EVENT}

KILLED: Final = {
    "the process, before the journal": ("before the journal", NOTHING, NOTHING),
    "the process, chunks written": ("chunks written", NOTHING, NOTHING),
    "the process, bookkeeping written, not decided": ("database ready", NOTHING, NOTHING),
    "the process, entry written, not decided": ("entry written", NOTHING, NOTHING),
    "the process, just decided": ("decided", {DOCUMENTS}, ALL),
    "the process, bookkeeping committed": ("database committed", {DOCUMENTS, BOOKKEEPING}, ALL),
    "the process, candles stored": ("series stored", STORED, ALL),
    "the process, entry removed": ("journal done", STORED, ALL),
    "the process, in a handler of an event": ("handler", STORED, ALL),
}
"""Where the process is killed, what a reader sees then, and what after recovery."""

Test = TypeVar("Test", bound=Callable[..., object])
tested = set(KILLED)


def row(text: str) -> Callable[[Test], Test]:
    """The test is of the row that begins so."""
    tested.add(text)
    return lambda test: test


@dataclass
class Stores:
    """Three servers; a reader that reaches them directly, a caller that goes through faults."""

    mongo_url: str
    mongo: FaultProxy
    clickhouse: ClickHouseServer
    sql: FaultProxy
    reader: Storage
    caller: Storage
    service: subprocess.Popen[str]
    numbers: Iterator[int] = field(default_factory=count)
    heard: list[str] = field(default_factory=list)

    def hear(self, event: IngestionCompleted) -> None:
        self.heard.append(event.symbol)

    def killed(self, **asked: Any) -> None:
        assert self.service.stdin is not None
        assert self.service.stdout is not None
        self.service.stdin.write(json.dumps(asked) + "\n")
        self.service.stdin.flush()
        assert json.loads(self.service.stdout.readline()) == signal.SIGKILL

    def commit(
        self, number: int, storage: Storage | None = None, unit_id: str | None = None
    ) -> None:
        name, key = named(number)
        with (storage or self.caller).unit_of_work(id=unit_id) as uow:
            uow.formulas.save(make_formula(name))
            uow.candles.save_many(key, make_candles(key, ROWS))
            uow.ingestion.symbol_bars.save(SymbolBars(name, DAY).start_collection())
            uow.events.add(IngestionCompleted(symbol=name, trading_day=DAY, bar_count=ROWS))
            uow.commit()

    def seen(self, number: int) -> frozenset[str]:
        name, key = named(number)
        rows = self.reader.candles.count(key)
        assert rows in (0, ROWS)
        found = {
            DOCUMENTS: name in {formula.name for formula in self.reader.formulas.list()},
            CANDLES: bool(rows),
            BOOKKEEPING: self.reader.ingestion.symbol_bars.get(name, DAY) is not None,
            EVENT: name in self.heard,
        }
        return frozenset(what for what, is_there in found.items() if is_there)

    def chunks(self) -> int:
        with MongoClient[dict[str, Any]](self.mongo_url) as client:
            return client["jts"][CHUNKS].count_documents({})

    def heal(self) -> None:
        for faults in (self.mongo.faults, self.clickhouse.faults, self.sql.faults):
            faults.clear()

    def await_caller(self) -> None:
        """Its driver looks for a server that was gone only now and then."""
        for _ in range(100):
            try:
                self.caller.formulas.list(limit=1)
            except ConnectionFailed:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the caller did not find MongoDB again")


def named(number: int) -> tuple[str, SeriesKey]:
    return f"WHY{number}", SeriesKey(f"WHY{number}", Timeframe.M1)


def settings(mongo: str, clickhouse: str, sql: str) -> StorageSettings:
    return StorageSettings(
        mongo_url=SecretStr(mongo),
        clickhouse_url=SecretStr(clickhouse),
        database_url=SecretStr(sql),
        migrate=False,
    )


@pytest.fixture(scope="module")
def direct(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[tuple[StorageSettings, ClickHouseServer, LocalMongod, LocalPostgres]]:
    folder = tmp_path_factory.mktemp("why")
    with (
        LocalMongod.acquire(folder / "mongo") as mongod,
        ClickHouseServer() as clickhouse,
        LocalPostgres.start() as postgres,
    ):
        for engine in ("mongod", "PostgreSQL", "ClickHouse endpoint over chDB"):
            engine_used(engine)
        to_clickhouse = f"clickhouse://127.0.0.1:{clickhouse.port}/jts?max_retries=0"
        yield settings(mongod.uri, to_clickhouse, postgres.dsn), clickhouse, mongod, postgres


@pytest.fixture(scope="module")
def shared(
    direct: tuple[StorageSettings, ClickHouseServer, LocalMongod, LocalPostgres],
) -> Iterator[Stores]:
    given, clickhouse, mongod, postgres = direct
    urls = {
        f"JTS_{name.upper()}": getattr(given, name).get_secret_value()
        for name in ("mongo_url", "clickhouse_url", "database_url")
    }
    with ExitStack() as stack:
        # Only who is asked to delivers what others left, so that it can be seen to wait.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(delivery, "_PAUSE_BETWEEN_LOOKS", timedelta(days=1))
        mongo = stack.enter_context(FaultProxy("127.0.0.1", mongod.port))
        sql = stack.enter_context(FaultProxy("127.0.0.1", postgres.port))
        reader = stack.enter_context(
            Storage.open(given.model_copy(update={"migrate": True}), check="off")
        )
        to_mongo = f"mongodb://127.0.0.1:{mongo.port}/?directConnection=true"
        caller = stack.enter_context(
            Storage.open(
                settings(
                    f"{to_mongo}&serverSelectionTimeoutMS=500&connectTimeoutMS=500",
                    urls["JTS_CLICKHOUSE_URL"],
                    urls["JTS_DATABASE_URL"].replace(f":{postgres.port}/", f":{sql.port}/"),
                )
            )
        )
        caller.database.config = replace(caller.database.config, max_retries=1)
        service = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(SERVICE)],
                env=os.environ | urls,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stores = Stores(mongod.uri, mongo, clickhouse, sql, reader, caller, service)
        reader.events.register_handler(IngestionCompleted, stores.hear)
        caller.events.register_handler(IngestionCompleted, stores.hear)
        yield stores
        assert service.stdin is not None
        service.stdin.close()
        service.wait(30)


@pytest.fixture
def stores(shared: Stores) -> Iterator[Stores]:
    yield shared
    shared.heal()
    shared.await_caller()
    shared.reader.recover()
    assert shared.reader.health().unfinished == 0


@contextmanager
def at(point: str, action: Callable[[], object]) -> Iterator[None]:
    """Do it when a commit reaches that point."""

    def reached(name: str) -> None:
        if name == point:
            action()

    before, commit_points.reached = commit_points.reached, reached
    try:
        yield
    finally:
        commit_points.reached = before


def test_every_row_of_the_page_has_a_test() -> None:
    _, _, table = PAGE.read_text().partition("### Who sees what when something dies\n")
    table, _, _ = table.partition("\n## ")
    rows = re.findall(r"^\| ([^|]+) \|", table, flags=re.MULTILINE)
    heading, *texts = rows
    assert heading == "what dies, and when"
    assert [text for text in texts if not text.startswith("---")] == list(dict.fromkeys(texts))
    assert set(texts) == tested


@pytest.mark.parametrize("text", some_by_day(KILLED, 2))
def test_a_process_is_killed(stores: Stores, text: str) -> None:
    point, meanwhile, afterwards = KILLED[text]
    number = next(stores.numbers)
    stores.killed(how="commit", number=number, dies=point)
    assert stores.seen(number) == meanwhile
    stores.reader.recover()
    assert stores.seen(number) == afterwards
    assert stores.heard.count(f"WHY{number}") <= 1
    assert stores.reader.health().waiting_events == 0


@pytest.mark.parametrize("text", some_by_day(KILLED, 5))
def test_what_became_of_a_killed_process_is_told(stores: Stores, text: str) -> None:
    """At once and for good, whether it has ended the transaction or not."""
    point, _, afterwards = KILLED[text]
    number, identity = next(stores.numbers), new_unit_id()
    stores.killed(how="commit", number=number, dies=point, unit_id=identity)
    outcome = stores.reader.outcome(identity)
    assert outcome.is_committed == bool(afterwards)
    stores.reader.recover()
    assert stores.seen(number) == afterwards
    assert stores.reader.outcome(identity) == outcome


def test_chunks_of_what_was_not_decided_are_purged(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stores.chunks()
    stores.killed(how="commit", number=next(stores.numbers), dies="chunks written")
    stores.reader.recover()
    assert stores.chunks() > before
    monkeypatch.setattr(journal, "ABANDONED_AFTER", timedelta(seconds=-2))
    stores.reader.recover()
    assert stores.chunks() == 0


@row("the process, in a commit to one store alone")
@pytest.mark.parametrize("after", some_by_day([0.03, 0.005, 0.08]))
def test_a_process_is_killed_in_a_commit_to_one_store(stores: Stores, after: float) -> None:
    number = next(stores.numbers)
    stores.killed(how="candles", number=number, after=after)
    assert stores.reader.candles.count(named(number)[1]) in (0, 300_000)


@row("the process that recovers, at any point")
@pytest.mark.parametrize(("dies", "meanwhile"), [("replay", {DOCUMENTS}), ("done", STORED)])
def test_a_recoverer_is_killed(stores: Stores, dies: str, meanwhile: frozenset[str]) -> None:
    number = next(stores.numbers)
    stores.killed(how="commit", number=number, dies="decided")
    stores.killed(how="recover", dies=dies)
    assert stores.seen(number) == meanwhile
    assert stores.reader.recover() == 1
    assert stores.seen(number) == ALL


@row("the process, just decided, and somebody else changes the same bookkeeping")
def test_a_commit_that_is_decided_is_not_overtaken(stores: Stores) -> None:
    number = next(stores.numbers)
    name, _ = named(number)
    calls: list[int] = []

    def collect(uow: UnitOfWork) -> None:
        bars = uow.ingestion.symbol_bars.get(name, DAY)
        calls.append(bars.version if bars else 0)
        bars = bars or SymbolBars(name, DAY).start_collection()
        uow.ingestion.symbol_bars.save(bars.add_bars(1))

    stores.killed(how="commit", number=number, dies="decided")
    with pytest.raises(Conflict, match="decided"), stores.reader.unit_of_work() as uow:
        collect(uow)
        uow.commit()
    assert stores.seen(number) == STORED
    stores.reader.run(collect)
    bars = stores.reader.ingestion.symbol_bars.get(name, DAY)
    assert bars is not None
    assert bars.version == 2
    assert calls == [0, 1]


@row("MongoDB, before the decision")
def test_mongodb_goes_before_the_decision(stores: Stores) -> None:
    number = next(stores.numbers)
    with at("database ready", stores.mongo.faults.refuse), pytest.raises(ConnectionFailed):
        stores.commit(number)
    assert stores.seen(number) == NOTHING
    stores.heal()
    stores.reader.recover()
    assert stores.seen(number) == NOTHING


@row("MongoDB, while it decides")
def test_mongodb_goes_while_it_decides_and_comes_back(stores: Stores) -> None:
    number = next(stores.numbers)

    def restart() -> None:
        stores.mongo.faults.refuse()
        threading.Timer(0.3, stores.mongo.faults.clear).start()

    with at("entry written", restart):
        stores.commit(number)
    assert stores.seen(number) == ALL


@pytest.mark.parametrize(("fault", "afterwards"), [("cut", ALL), ("refuse", NOTHING)])
def test_what_became_of_a_commit_whose_answer_was_lost_is_told(
    stores: Stores, fault: str, afterwards: frozenset[str]
) -> None:
    number, identity = next(stores.numbers), new_unit_id()
    go = getattr(stores.mongo.faults, fault)
    with at("entry written", go), pytest.raises(OutcomeUnknown, match=f"outcome.'{identity}'"):
        stores.commit(number, unit_id=identity)
    stores.heal()
    assert stores.reader.outcome(identity).is_committed == bool(afterwards)
    stores.reader.recover()
    assert stores.seen(number) == afterwards


@row("MongoDB, while it decides")
@pytest.mark.parametrize(("fault", "afterwards"), some_by_day([("cut", ALL), ("refuse", NOTHING)]))
def test_mongodb_goes_while_it_decides_and_stays_away(
    stores: Stores, fault: str, afterwards: frozenset[str]
) -> None:
    number = next(stores.numbers)
    go = getattr(stores.mongo.faults, fault)
    with at("entry written", go), pytest.raises(ConnectionFailed, match="unknown"):
        stores.commit(number)
    stores.heal()
    stores.reader.recover()
    assert stores.seen(number) == afterwards


@row("MongoDB, after the decision")
def test_mongodb_goes_after_the_decision(stores: Stores) -> None:
    number = next(stores.numbers)
    with at("database committed", stores.mongo.faults.refuse):
        assert_decided(stores, number)
    assert stores.seen(number) == STORED
    stores.heal()
    assert stores.reader.recover() == 1
    assert stores.seen(number) == ALL


@row("ClickHouse, before the commit begins")
def test_clickhouse_goes_before_the_commit_begins(stores: Stores) -> None:
    number = next(stores.numbers)
    stores.clickhouse.faults.refuse()
    with pytest.raises(ConnectionFailed):
        stores.commit(number)
    stores.heal()
    assert stores.seen(number) == NOTHING
    stores.reader.recover()
    assert stores.seen(number) == NOTHING


@row("ClickHouse, after that")
@pytest.mark.parametrize("point", ["entry written", "decided"])
def test_clickhouse_goes(stores: Stores, point: str) -> None:
    number = next(stores.numbers)
    with at(point, stores.clickhouse.faults.refuse):
        assert_decided(stores, number)
    with pytest.raises(StorageError, match="cannot be finished yet"):
        stores.reader.recover()
    stores.heal()
    assert stores.seen(number) == {DOCUMENTS, BOOKKEEPING}
    assert stores.reader.recover() == 1
    assert stores.seen(number) == ALL


@row("the SQL database, before the bookkeeping is written")
def test_the_database_goes_before_the_bookkeeping(stores: Stores) -> None:
    number = next(stores.numbers)
    with at("before the journal", stores.sql.faults.refuse), pytest.raises(ConnectionFailed):
        stores.commit(number)
    assert stores.seen(number) == NOTHING
    stores.heal()
    stores.reader.recover()
    assert stores.seen(number) == NOTHING


@row("the SQL database, after that")
@pytest.mark.parametrize("point", ["database ready", "decided"])
def test_the_database_goes_after_the_bookkeeping(stores: Stores, point: str) -> None:
    number = next(stores.numbers)
    with at(point, stores.sql.faults.refuse):
        assert_decided(stores, number)
    assert stores.seen(number) == {DOCUMENTS}
    stores.heal()
    assert stores.reader.recover() == 1
    assert stores.seen(number) == ALL


@row("the caller is cancelled during a commit")
async def test_the_caller_is_cancelled(
    stores: Stores,
    direct: tuple[StorageSettings, ClickHouseServer, LocalMongod, LocalPostgres],
) -> None:
    async with AsyncStorage.open(direct[0]) as storage:
        storage.events.register_handler(IngestionCompleted, stores.hear)
        for point in ("before the journal", "database ready", "entry written", "series stored"):
            number = next(stores.numbers)
            task = asyncio.create_task(commit_everywhere(storage, number))
            with at(point, task.cancel), pytest.raises(asyncio.CancelledError):
                await task
            # Nobody was left to deliver the event; the storage does when it next looks.
            assert await asyncio.to_thread(stores.seen, number) >= STORED, point
        await storage.recover()
        assert await asyncio.to_thread(stores.seen, number) == ALL


async def commit_everywhere(storage: AsyncStorage, number: int) -> None:
    name, key = named(number)
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula(name))
        await uow.candles.save_many(key, make_candles(key, ROWS))
        await uow.ingestion.symbol_bars.save(SymbolBars(name, DAY).start_collection())
        uow.events.add(IngestionCompleted(symbol=name, trading_day=DAY, bar_count=ROWS))
        await uow.commit()


def assert_decided(stores: Stores, number: int) -> None:
    with pytest.raises(StorageError, match="is decided, but not every store") as caught:
        stores.commit(number)
    assert type(caught.value) is StorageError
