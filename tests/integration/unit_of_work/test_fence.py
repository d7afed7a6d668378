"""While the fence is up no commit begins, and none that has begun is undecided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.errors import Conflict
from jts_storage.ports import UnitOfWork
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import fence as fences
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.commit import JournalledCommit
from jts_storage.unit_of_work.fence import Broken, Fence
from jts_storage.unit_of_work.participants import Stores

KEY = SeriesKey("005930", Timeframe.M1)
Work = Callable[[UnitOfWork], Awaitable[object]]


async def candles(uow: UnitOfWork) -> None:
    await uow.candles.save_many(KEY, make_candles(KEY, 5))


async def documents(uow: UnitOfWork) -> None:
    await uow.formulas.save(make_formula())


async def bookkeeping(uow: UnitOfWork) -> None:
    await uow.ingestion.checkpoints.save("collector", {"at": 1})


async def everything(uow: UnitOfWork) -> None:
    for work in (candles, documents, bookkeeping):
        await work(uow)


async def committed(storage: Storage, work: Work) -> None:
    async with storage.unit_of_work() as uow:
        await work(uow)
        await uow.commit()


def fence_of(storage: Storage) -> Fence:
    return Fence(stores_of(storage))


def stores_of(storage: Storage) -> Stores:
    return storage._stores


async def is_held_up(task: asyncio.Task[Any]) -> bool:
    await asyncio.wait([task], timeout=0.3)
    return not task.done()


@pytest.fixture
async def without_history(settings: StorageSettings) -> AsyncIterator[Storage]:
    plain = settings.model_copy(update={"history": False})
    async with Storage(StoreBackend(plain)) as storage:
        yield storage


@pytest.mark.parametrize("work", [candles, documents, bookkeeping, everything])
async def test_no_commit_begins_while_it_is_up(storage: Storage, work: Work) -> None:
    async with fence_of(storage).up() as cut:
        writing = asyncio.create_task(committed(storage, work))
        assert await is_held_up(writing)
        assert await stores_of(storage).clock.latest() == cut.version
    await writing
    assert cut.waited_seconds >= 0.3
    if work is not bookkeeping:  # which takes no version
        assert await stores_of(storage).clock.latest() > cut.version


async def test_documents_without_history_do_not_begin_either(without_history: Storage) -> None:
    async with fence_of(without_history).up():
        writing = asyncio.create_task(committed(without_history, documents))
        assert await is_held_up(writing)
    await writing


@asynccontextmanager
async def stopped_in(
    monkeypatch: pytest.MonkeyPatch, storage: Storage, step: str
) -> AsyncIterator[asyncio.Task[None]]:
    """A commit that has come to a step, and goes on after the block."""
    goes_on, is_there = asyncio.Event(), asyncio.Event()
    real = getattr(JournalledCommit, step)

    async def held_up(self: JournalledCommit, *given: Any) -> Any:
        is_there.set()
        await goes_on.wait()
        return await real(self, *given)

    monkeypatch.setattr(JournalledCommit, step, held_up)
    writing = asyncio.create_task(committed(storage, everything))
    await is_there.wait()
    try:
        yield writing
    finally:
        goes_on.set()
        await writing


async def test_it_is_not_up_before_a_commit_that_has_begun_is_decided(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raised() -> int:
        async with fence_of(storage).up() as cut:
            assert cut.attempts > 1
            return cut.version

    async with stopped_in(monkeypatch, storage, "_decide"):
        raising = asyncio.create_task(raised())
        assert await is_held_up(raising)
        # Meanwhile it comes down again and again, so that others are not held up.
        await asyncio.wait_for(committed(storage, bookkeeping_of_another), 10)
    assert await raising == await stores_of(storage).clock.latest()


async def bookkeeping_of_another(uow: UnitOfWork) -> None:
    await uow.formulas.save(make_formula("another"))


async def test_nobody_waits_for_what_a_decided_commit_still_writes(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        stopped_in(monkeypatch, storage, "_finish") as writing,
        fence_of(storage).up() as cut,
    ):
        assert not writing.done()
        assert await stores_of(storage).journal.unfinished_versions()
    assert cut.attempts == 1


async def test_it_falls_by_itself_and_says_so(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "FALLS_AFTER", timedelta(milliseconds=200))
    with pytest.raises(Broken, match="not pinned within"):
        async with fence_of(storage).up():
            await asyncio.wait_for(committed(storage, everything), 10)


async def test_a_version_that_is_given_all_the_same_is_noticed(storage: Storage) -> None:
    """As by an earlier release, which asks for no fence."""
    clock = storage.mongo.get_collection(CLOCK)
    with pytest.raises(Broken, match="older release"):
        async with fence_of(storage).up():
            await clock.update_one({}, {"$inc": {"value": 2}})


async def test_a_view_of_another_moment_is_noticed(storage: Storage) -> None:
    await committed(storage, documents)
    session = storage.mongo.client.start_session(snapshot=True)
    await storage.mongo.get_collection(CLOCK).find_one({}, session=session)
    async with session, fence_of(storage).up() as cut:
        with pytest.raises(Broken, match="another moment"):
            await fence_of(storage).pin(session, cut)


async def test_a_view_that_shows_an_earlier_fence_is_noticed(storage: Storage) -> None:
    session = storage.mongo.client.start_session(snapshot=True)
    async with session:
        async with fence_of(storage).up():
            await storage.mongo.get_collection(CLOCK).find_one({}, session=session)
        async with fence_of(storage).up() as cut:
            with pytest.raises(Broken, match="another moment"):
                await fence_of(storage).pin(session, cut)


async def test_there_is_one_at_a_time(storage: Storage) -> None:
    async with fence_of(storage).up():
        with pytest.raises(Conflict, match="Another backup"):
            async with fence_of(storage).up():
                raise AssertionError
    async with fence_of(storage).up():
        pass


async def test_what_goes_wrong_in_between_lowers_it(storage: Storage) -> None:
    with pytest.raises(RuntimeError):
        async with fence_of(storage).up():
            raise RuntimeError
    await asyncio.wait_for(committed(storage, everything), 10)
