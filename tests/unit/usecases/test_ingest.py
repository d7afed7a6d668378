"""Candles that come in one by one are stored together, in their order, and none is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import jts_storage.sync
from jts_storage import Candle, SeriesKey, Storage, StorageError, Timeframe
from jts_storage.domain import checks
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.ports import UnitOfWork
from jts_storage.testing.factories import make_candles
from jts_storage.usecases import ingest as ingests
from jts_storage.usecases.ingest import Ingest

KEYS = [SeriesKey(name, Timeframe.M1, "KRX") for name in ("A", "B", "C")]
KEY = KEYS[0]
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
BARS = list(make_candles(KEY, 60))
SECONDS = 10.0
"""Far longer than anything takes here: what must happen earlier happens for another reason."""


class Failing:
    """Runs units of work of a storage, except when it is to fail or to wait."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = 0

    async def __call__(self, work: Callable[[UnitOfWork], Awaitable[None]]) -> None:
        self.begun += 1
        await asyncio.wait_for(self.gate.wait(), SECONDS)
        if self.is_away:
            await asyncio.sleep(0)  # as a real store does
            raise StorageError("ClickHouse is away.")
        await self._storage.run(work)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - of another object
            await asyncio.sleep(0.005)


def age(ingest: Any) -> float | None:
    oldest: timedelta | None = ingest.oldest
    return None if oldest is None else oldest.total_seconds()


async def stored(storage: Storage, key: SeriesKey = KEY) -> CandleSeries:
    return await storage.candles.get_range(key, *ALWAYS)


async def test_leaving_the_block_stores_what_was_added() -> None:
    async with Storage.in_memory() as storage:
        async with storage.ingest(every=SECONDS) as ingest:
            for bar in BARS:
                for key in KEYS:
                    await ingest.add(key, bar)
            assert (ingest.pending, ingest.stored, ingest.commits) == (180, 0, 0)
        assert (ingest.pending, ingest.stored, ingest.commits) == (0, 180, 1)
        for key in KEYS:
            assert list(await stored(storage, key)) == BARS


async def test_a_flush_returns_when_all_before_it_is_stored() -> None:
    async with Storage.in_memory() as storage, storage.ingest(every=SECONDS) as ingest:
        for number, bar in enumerate(BARS[:5], start=1):
            await ingest.add(KEY, bar)
            await ingest.flush()
            assert len(await stored(storage)) == ingest.stored == ingest.commits == number
        await ingest.flush()
        assert ingest.commits == 5, "nothing was left to store"


async def test_the_later_of_one_timestamp_counts() -> None:
    first, second = BARS[0], make_candles(KEY, 1, seed=9)[0]
    assert first.timestamp == second.timestamp and first != second
    async with Storage.in_memory() as storage:
        async with storage.ingest(every=SECONDS) as ingest:
            await ingest.add(KEY, first)
            await ingest.add(KEY, second)
            await ingest.flush()
            assert list(await stored(storage)) == [second]
            await ingest.add(KEY, second)
            await ingest.add(KEY, first)
        assert list(await stored(storage)) == [first]


async def test_it_commits_by_time() -> None:
    async with Storage.in_memory() as storage, storage.ingest(every=0.05) as ingest:
        begin = time.monotonic()
        await ingest.add(KEY, BARS[0])
        assert age(ingest) is not None
        await until(lambda: ingest.stored == 1)
        assert time.monotonic() - begin >= 0.05
        assert age(ingest) is None
        await asyncio.sleep(0.06)
        await ingest.add(KEY, BARS[1])
        youngest = age(ingest)
        assert youngest is not None and youngest < 0.05, "counted from the oldest that waits"
        await until(lambda: ingest.commits == 2)


async def test_it_commits_by_number() -> None:
    async with Storage.in_memory() as storage:
        async with storage.ingest(every=SECONDS, rows=10, limit=10) as ingest:
            for bar in BARS[:25]:
                await ingest.add(KEY, bar)
            await until(lambda: ingest.stored == 20)
            assert (ingest.commits, ingest.pending) == (2, 5)
        assert list(await stored(storage)) == BARS[:25]


async def test_a_writer_that_waits_for_time_is_woken_by_number() -> None:
    every = 100 * SECONDS
    async with Storage.in_memory() as storage, storage.ingest(every=every, rows=3) as ingest:
        await ingest.add(KEY, BARS[0])
        await asyncio.sleep(0.02)
        assert ingest.stored == 0
        for bar in BARS[1:3]:
            await ingest.add(KEY, bar)
        await until(lambda: ingest.stored == 3)


async def test_who_adds_waits_while_the_limit_is_reached() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=5, limit=10) as ingest:
            run.gate.clear()
            for bar in BARS[:10]:
                await ingest.add(KEY, bar)
            waiting = asyncio.create_task(ingest.add(KEY, BARS[10]))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            assert ingest.pending == 10, "what is being stored counts until it is"
            run.gate.set()
            await asyncio.wait_for(waiting, SECONDS)
        assert list(await stored(storage)) == BARS[:11]


async def test_the_age_of_the_oldest_counts_what_is_being_stored() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=1, limit=10) as ingest:
            assert age(ingest) is None
            run.gate.clear()
            await ingest.add(KEY, BARS[0])
            await until(lambda: run.begun == 1)
            await asyncio.sleep(0.05)
            await ingest.add(KEY, BARS[1])
            oldest = age(ingest)
            assert oldest is not None and oldest >= 0.05
            run.gate.set()


async def test_the_age_of_what_was_not_stored_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(ingests, "monotonic", lambda: now[0])
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        run.is_away = True
        run.gate.clear()
        async with Ingest(run, every=SECONDS, rows=100, limit=100) as ingest:
            await ingest.add(KEY, BARS[0])
            flush = asyncio.create_task(ingest.flush())
            await until(lambda: run.begun == 1)
            now[0] += 7
            await ingest.add(KEY, BARS[1])
            now[0] += 1
            run.gate.set()
            with pytest.raises(StorageError):
                await flush
            assert age(ingest) == 8
            run.is_away = False


async def test_what_could_not_be_stored_is_not_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingests, "monotonic", lambda: 100.0)
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        run.is_away = True
        async with Ingest(run, every=SECONDS, rows=1, limit=10) as ingest:
            await ingest.add(KEY, BARS[0])
            await until(lambda: run.begun == 1)
            for _ in range(100):
                await asyncio.sleep(0)
            assert run.begun == 1
            run.is_away = False


async def test_a_flush_that_failed_is_not_repeated_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingests, "monotonic", lambda: 100.0)
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        run.is_away = True
        async with Ingest(run, every=SECONDS, rows=10, limit=10) as ingest:
            await ingest.add(KEY, BARS[0])
            with pytest.raises(StorageError):
                await ingest.flush()
            for _ in range(100):
                await asyncio.sleep(0)
            assert run.begun == 1
            run.is_away = False


async def test_what_could_not_be_stored_is_tried_again_soon_however_seldom_it_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingests, "_LONGEST_PAUSE", 0.02)
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        run.is_away = True
        async with Ingest(run, every=100 * SECONDS, rows=1, limit=10) as ingest:
            await ingest.add(KEY, BARS[0])
            await until(lambda: run.begun > 1)
            run.is_away = False
            await until(lambda: ingest.stored == 1)
            await ingest.add(KEY, BARS[1])  # nothing is told of what has been stored since


async def test_what_a_flush_tries_again_is_told_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingests, "_LONGEST_PAUSE", 100 * SECONDS)
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        run.is_away = True
        async with Ingest(run, every=100 * SECONDS, rows=1, limit=10) as ingest:
            await ingest.add(KEY, BARS[0])
            await until(lambda: ingest.pending == 1 and run.begun == 1)
            await asyncio.sleep(0.02)
            run.is_away = False
            run.gate.clear()
            flush = asyncio.create_task(ingest.flush())
            await until(lambda: run.begun == 2)
            await ingest.add(KEY, BARS[1])
            run.gate.set()
            await flush


async def test_what_could_not_be_stored_is_kept_and_tried_again() -> None:
    later = make_candles(KEY, 1, seed=9)[0]
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=0.02, rows=100, limit=100) as ingest:
            run.is_away = True
            await ingest.add(KEY, BARS[0])
            await until(lambda: run.begun > 1)
            with pytest.raises(StorageError) as caught:
                await ingest.add(KEY, BARS[1])
            assert str(caught.value) == (
                "1 candles are not stored yet: ClickHouse is away. They are kept, and tried again"
                " as long as the ingest is open."
            )
            await ingest.add(KEY, BARS[1])
            await ingest.add(KEY, later)
            run.is_away = False
            await until(lambda: ingest.stored == 3)
            await ingest.add(KEY, BARS[2])
        assert list(await stored(storage)) == [later, *BARS[1:3]]


async def test_what_is_tried_again_comes_before_what_came_meanwhile() -> None:
    later = make_candles(KEY, 1, seed=9)[0]
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=1, limit=10) as ingest:
            run.gate.clear()
            await ingest.add(KEY, BARS[0])
            await until(lambda: run.begun == 1)
            await ingest.add(KEY, later)
            run.is_away = True
            run.gate.set()
            with pytest.raises(StorageError):
                await ingest.flush()
            run.is_away = False
        assert list(await stored(storage)) == [later]


async def test_a_flush_tries_at_once_and_raises_if_that_fails() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=100, limit=100) as ingest:
            run.is_away = True
            await ingest.add(KEY, BARS[0])
            for _ in range(2):
                with pytest.raises(StorageError, match="ClickHouse is away"):
                    await ingest.flush()
            await ingest.add(KEY, BARS[1])  # the failure was told
            run.is_away = False
            await ingest.flush()
            assert list(await stored(storage)) == BARS[:2]


async def test_all_who_wait_are_told_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingests, "_LONGEST_PAUSE", 0.05)
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=2, limit=2) as ingest:
            run.gate.clear()
            await ingest.add(KEY, BARS[0])
            flushes = [asyncio.create_task(ingest.flush()) for _ in range(2)]
            await until(lambda: run.begun == 1)
            await ingest.add(KEY, BARS[1])
            adding = asyncio.create_task(ingest.add(KEY, BARS[2]))
            await asyncio.sleep(0)
            run.is_away = True
            run.gate.set()
            found = await asyncio.gather(*flushes, return_exceptions=True)
            assert [type(each) for each in found] == [StorageError] * 2
            run.is_away = False
            await asyncio.wait([adding])
            if adding.exception() is not None:
                await ingest.add(KEY, BARS[2])
        assert list(await stored(storage)) == BARS[:3]


async def test_what_leaving_could_not_store_is_an_error() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        with pytest.raises(StorageError, match="1 candles were lost when") as caught:
            async with Ingest(run, every=SECONDS, rows=100, limit=100) as ingest:
                run.is_away = True
                await ingest.add(KEY, BARS[0])
        assert caught.value.remedy == "Add them to another ingest.", "nothing is kept any more"
        with pytest.raises(StorageError, match="This ingest is over"):
            await ingest.add(KEY, BARS[0])
        with pytest.raises(StorageError, match="This ingest is over"):
            await ingest.flush()


async def test_an_exception_in_the_block_stores_what_was_added(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        for is_away in (False, True):
            run.is_away = is_away
            with pytest.raises(ZeroDivisionError):
                async with Ingest(run, every=SECONDS, rows=100, limit=100) as ingest:
                    await ingest.add(KEY, BARS[int(is_away)])
                    raise ZeroDivisionError
        assert list(await stored(storage)) == BARS[:1]
        assert "1 candles were lost when an ingest was left." in caplog.text


async def test_a_cancellation_stores_what_was_added_and_goes_on() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        added = asyncio.Event()

        async def collect() -> None:
            async with Ingest(run, every=SECONDS, rows=100, limit=100) as ingest:
                await ingest.add(KEY, BARS[0])
                added.set()
                await asyncio.sleep(SECONDS)

        run.gate.clear()
        task = asyncio.create_task(collect())
        await added.wait()
        task.cancel()
        await until(lambda: run.begun == 1)
        task.cancel()  # once more, while it is being stored
        await asyncio.sleep(0.02)
        assert not task.done()
        run.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(await stored(storage)) == BARS[:1]


async def test_a_loop_that_ends_cancels_every_task_and_loses_nothing() -> None:
    async with Storage.in_memory() as storage:

        async def collect() -> None:
            async with storage.ingest(every=SECONDS, rows=100, limit=100) as ingest:
                for bar in BARS[:50]:
                    await ingest.add(KEY, bar)
                await asyncio.sleep(SECONDS)

        service = asyncio.create_task(collect())
        await asyncio.sleep(0.05)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        async with asyncio.timeout(SECONDS):
            with pytest.raises(asyncio.CancelledError):
                await service
        assert list(await stored(storage)) == BARS[:50]


async def test_a_commit_that_is_cancelled_is_made_again() -> None:
    async with Storage.in_memory() as storage:
        cancelled = 0

        async def run(work: Callable[[UnitOfWork], Awaitable[None]]) -> None:
            nonlocal cancelled
            cancelled += 1
            if cancelled == 1:
                raise asyncio.CancelledError
            await storage.run(work)

        async with asyncio.timeout(SECONDS), Ingest(run, every=9, rows=9, limit=9) as ingest:
            await ingest.add(KEY, BARS[0])
            await ingest.flush()
            assert (ingest.stored, ingest.pending) == (1, 0)
        assert list(await stored(storage)) == BARS[:1]


async def test_an_add_that_is_cancelled_while_it_waits_has_added_nothing() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=1, limit=1) as ingest:
            run.gate.clear()
            await ingest.add(KEY, BARS[0])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ingest.add(KEY, BARS[1]), 0.02)
            run.gate.set()
        assert list(await stored(storage)) == BARS[:1]


async def test_who_waits_in_add_when_the_block_is_left_is_told() -> None:
    async with Storage.in_memory() as storage:
        run = Failing(storage)
        async with Ingest(run, every=SECONDS, rows=1, limit=1) as ingest:
            run.gate.clear()
            await ingest.add(KEY, BARS[0])
            waiting = asyncio.create_task(ingest.add(KEY, BARS[1]))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.02, run.gate.set)
        with pytest.raises(StorageError, match="This ingest is over"):
            await waiting
        assert list(await stored(storage)) == BARS[:1]


async def test_adding_without_end_lets_others_work() -> None:
    async with Storage.in_memory() as storage, storage.ingest(every=SECONDS) as ingest:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(100):
            for bar in BARS:
                await ingest.add(KEY, bar)
        counting.cancel()
        assert turns >= 10


async def test_what_is_no_candle_is_refused_at_once() -> None:
    async with Storage.in_memory() as storage, storage.ingest() as ingest:
        wrong: Any = BARS[0].open
        with pytest.raises(InvalidData) as caught:
            await ingest.add(KEY, wrong)
        assert caught.value.field == "candle"
        with pytest.raises(InvalidData) as caught:
            await ingest.add("A", BARS[0])  # type: ignore[arg-type]
        assert caught.value.field == "key"
        with pytest.raises(InvalidData) as caught:
            await ingest.add(KEY, Candle(**{**fields_of(BARS[0]), "high": BARS[0].low - 1}))
        assert caught.value.field == "high"
        assert ingest.pending == 0


def fields_of(bar: Candle) -> dict[str, Any]:
    names = ("timestamp", "open", "high", "low", "close", "volume")
    return {name: getattr(bar, name) for name in names}


async def test_options_that_make_no_sense_are_refused() -> None:
    async with Storage.in_memory() as storage:
        for field, options in (
            *[("every", {"every": every}) for every in (0, -1, float("nan"))],
            ("rows", {"rows": 0}),
            ("limit", {"rows": 10, "limit": 9}),
        ):
            with pytest.raises(InvalidData) as caught:
                storage.ingest(**options)  # type: ignore[arg-type]
            assert caught.value.field == field
        assert "must not be below rows, 10, got 9" in str(caught.value)


async def test_a_storage_that_is_not_open_is_told_at_once() -> None:
    storage = Storage.in_memory()
    with pytest.raises(StorageError, match="not open"):
        storage.ingest()


async def test_a_storage_that_was_closed_is_told_when_a_candle_is_added() -> None:
    storage = Storage.in_memory()
    async with storage:
        ingest = storage.ingest(every=SECONDS)
        await ingest.__aenter__()
        await ingest.add(KEY, BARS[0])
        await ingest.flush()
    with pytest.raises(StorageError, match="not open"):
        await ingest.add(KEY, BARS[1])
    assert (ingest.pending, ingest.stored) == (0, 1)
    await ingest.__aexit__(None, None, None)


async def test_it_is_used_once_and_within_its_block() -> None:
    async with Storage.in_memory() as storage:
        ingest = storage.ingest()
        with pytest.raises(StorageError, match="has not been entered"):
            await ingest.add(KEY, BARS[0])
        async with ingest:
            pass
        with pytest.raises(StorageError, match="only once"):
            await ingest.__aenter__()


def test_the_blocking_twin_does_the_same() -> None:
    with jts_storage.sync.Storage.in_memory() as storage:
        with storage.ingest(every=SECONDS, rows=100, limit=100) as ingest:
            for bar in BARS[:3]:
                ingest.add(KEY, bar)
            assert age(ingest) is not None
            ingest.flush()
            assert age(ingest) is None
            assert (ingest.pending, ingest.stored, ingest.commits) == (0, 3, 1)
            ingest.add(KEY, BARS[3])
        assert list(storage.candles.get_range(KEY, *ALWAYS)) == BARS[:4]
