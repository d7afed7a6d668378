"""The blocking unit of work over real stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from itertools import count

import pytest

from jts_storage import SeriesKey, SymbolBars, Timeframe
from jts_storage.domain.events import IngestionCompleted
from jts_storage.errors import Conflict, StorageError
from jts_storage.sync import Storage, UnitOfWork
from jts_storage.testing.factories import make_candles, make_formula, make_symbol
from jts_storage.unit_of_work import commit as commit_points
from tests.prepared import Prepared

DAY = date(2024, 1, 2)
numbers = count()


class Crash(BaseException):
    """What a process meets that dies."""


@pytest.fixture(scope="module")
def storage(
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Storage]:
    for engine in ("mongod", "chDB", "SQLite"):
        engine_used(engine)
    with (
        prepared.stores(tmp_path_factory.mktemp("sync")) as settings,
        Storage.open(settings) as storage,
    ):
        yield storage


@pytest.fixture
def key() -> SeriesKey:
    return SeriesKey(f"SYNC{next(numbers)}", Timeframe.M1, "KRX")


def change_everything(uow: UnitOfWork, key: SeriesKey) -> None:
    uow.candles.save_many(key, make_candles(key, 5))
    uow.symbols.save(make_symbol(key.symbol))
    uow.formulas.save(make_formula(key.symbol))
    uow.ingestion.symbol_bars.save(SymbolBars(key.symbol, DAY).start_collection())
    uow.ingestion.checkpoints.save(key.symbol, {"rows": 5})


def stored(reader: Storage | UnitOfWork, key: SeriesKey) -> list[bool]:
    return [
        reader.candles.count(key) == 5,
        reader.symbols.get_by_code(key.symbol) is not None,
        key.symbol in {formula.name for formula in reader.formulas.list()},
        reader.ingestion.symbol_bars.get(key.symbol, DAY) is not None,
        reader.ingestion.checkpoints.get(key.symbol) is not None,
    ]


def test_a_commit_is_in_every_store(storage: Storage, key: SeriesKey) -> None:
    with storage.unit_of_work() as uow:
        change_everything(uow, key)
        assert all(stored(uow, key)), "it reads its own writes"
        assert not any(stored(storage, key)), "nobody else does"
        uow.commit()
    assert all(stored(storage, key))


def test_leaving_without_a_commit_rolls_back(storage: Storage, key: SeriesKey) -> None:
    with storage.unit_of_work() as uow:
        change_everything(uow, key)
    assert not any(stored(storage, key))
    with pytest.raises(StorageError, match="rolled back"):
        uow.commit()


def test_the_second_of_two_gets_a_conflict(storage: Storage, key: SeriesKey) -> None:
    with storage.unit_of_work() as uow:
        change_everything(uow, key)
        uow.commit()
    with storage.unit_of_work() as first, storage.unit_of_work() as second:
        for uow in (first, second):
            bars = uow.ingestion.symbol_bars.get(key.symbol, DAY)
            assert bars is not None
            uow.ingestion.symbol_bars.save(bars.add_bars(1))
        first.commit()
        with pytest.raises(Conflict):
            second.commit()
    found = storage.ingestion.symbol_bars.get(key.symbol, DAY)
    assert found is not None
    assert (found.version, found.bar_count) == (2, 1)


def test_run_repeats_until_it_succeeds(storage: Storage, key: SeriesKey) -> None:
    with storage.unit_of_work() as uow:
        formula = uow.formulas.save(make_formula(key.symbol))
        uow.commit()

    def rename(uow: UnitOfWork) -> None:
        found = uow.formulas.get_by_id(formula.id or "")
        assert found is not None
        uow.formulas.save(replace(found, name=found.name + "!"))

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(storage.run, rename, attempts=100) for _ in range(12)]:
            done.result(timeout=30)
    found = storage.formulas.get_by_id(formula.id or "")
    assert found is not None
    assert found.version == 13
    assert found.name == key.symbol + "!" * 12


def test_run_gives_up_after_so_many_attempts(storage: Storage, key: SeriesKey) -> None:
    calls: list[int] = []

    def overtaken(uow: UnitOfWork) -> None:
        calls.append(1)
        uow.ingestion.symbol_bars.save(SymbolBars(key.symbol, DAY).start_collection())
        with storage.unit_of_work() as other:
            other.ingestion.symbol_bars.delete(key.symbol, DAY)
            other.ingestion.symbol_bars.save(SymbolBars(key.symbol, DAY).start_collection())
            other.commit()

    with pytest.raises(Conflict):
        storage.run(overtaken, attempts=3)
    assert len(calls) == 3


def test_a_commit_that_was_interrupted_is_recovered(storage: Storage, key: SeriesKey) -> None:
    def die(point: str) -> None:
        if point == "decided":
            raise Crash

    commit_points.reached, before = die, commit_points.reached
    try:
        with pytest.raises(Crash), storage.unit_of_work() as uow:
            change_everything(uow, key)
            uow.commit()
    finally:
        commit_points.reached = before
    health = storage.health()
    assert health.is_well
    assert health.unfinished == 1
    assert health.oldest is not None
    assert stored(storage, key) == [False, False, True, False, False]
    assert storage.recover() == 1
    assert all(stored(storage, key))
    assert storage.health().unfinished == 0
    assert storage.recover() == 0


def test_events_come_after_the_commit_and_only_then(storage: Storage, key: SeriesKey) -> None:
    heard: list[bool] = []

    async def look(event: IngestionCompleted) -> None:
        # In the storage's own loop blocking calls would wait for themselves.
        found = await storage._storage.candles.count(key)
        heard.append(found == event.bar_count)
        await asyncio.sleep(0)

    event = IngestionCompleted(symbol=key.symbol, trading_day=DAY, bar_count=5)
    storage.events.register_handler(IngestionCompleted, look)
    try:
        with storage.unit_of_work() as uow:
            uow.events.add(event)
        assert heard == []
        with storage.unit_of_work() as uow:
            uow.candles.save_many(key, make_candles(key, 5))
            uow.events.add(event)
            uow.commit()
    finally:
        storage.events.unregister_handler(IngestionCompleted, look)
    assert heard == [True]
    assert storage.health().waiting_events == 0
