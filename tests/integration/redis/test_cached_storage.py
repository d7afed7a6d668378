"""Storages with a cache: what one commits, the next read of another sees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from jts_storage import CandlePanel, CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.cache.backend import Cache
from jts_storage.cache.writers import WriteNotKnown
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import make_candles, make_formula, make_symbol
from jts_storage.testing.fault_proxy import FaultProxy
from jts_storage.unit_of_work.announced_clock import MOST_NOTES, StoredNotes
from tests.integration.unit_of_work.interrupted import abandon

KEY = SeriesKey("AAPL", Timeframe.M1)
DAY = make_candles(KEY, 390)
FIRST = DAY[0].timestamp
ENDS = (FIRST, DAY[-1].timestamp)
HIGHER = make_candles(KEY, 390, seed=7)

Opened = Callable[..., Awaitable[Storage]]
Write = Callable[[Storage, Path, CandleSeries], Awaitable[None]]


@pytest.fixture
async def opened(emptied_settings: StorageSettings) -> AsyncIterator[Opened]:
    """Opens storages over the same stores, each with what it is given of Redis."""
    async with AsyncExitStack() as stack:

        async def one(url: str | None, **fields: Any) -> Storage:
            known = emptied_settings.model_dump() | {"cache": "auto" if url else "off"}
            if url is not None:
                known["redis_url"] = SecretStr(url)
                known["redis"] = {"timeout": 5.0} | fields
            backend = StoreBackend(StorageSettings(**known))
            return await stack.enter_async_context(Storage(backend))

        yield one


@pytest.fixture
async def writer(opened: Opened, redis_url: str) -> Storage:
    storage = await opened(redis_url)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, DAY)
        await uow.symbols.save(make_symbol("AAPL"))
        await uow.commit()
    return storage


@pytest.fixture
async def reader(opened: Opened, redis_url: str, writer: Storage) -> Storage:
    return await opened(redis_url)


def cache_of(storage: Storage) -> Cache:
    cache: Cache | None = storage._backend.cache  # type: ignore[attr-defined]
    assert cache is not None
    return cache


def counted(storage: Storage, name: str) -> int:
    told = storage.cache_statistics()
    assert told is not None
    return int(getattr(told, name))


async def everything(storage: Storage) -> list[Any]:
    """All that is kept, small as it is."""
    candles, symbols = storage.candles, storage.symbols
    return [
        await candles.get_range(KEY, *ENDS),
        await candles.get_latest(KEY, 2),
        await candles.get_coverage(KEY),
        await candles.count(KEY),
        await candles.coverage_by_day(KEY),
        await candles.resample(KEY, Timeframe.H1, *ENDS),
        await candles.get_ranges([KEY, SeriesKey("nobody", Timeframe.M1)], *ENDS),
        await candles.get_panel(Timeframe.M1, *ENDS, last=2, fields=("close",)),
        await candles.get_latest_panel(Timeframe.M1),
        await candles.resample_panel(Timeframe.M1, Timeframe.H1, *ENDS),
        list(await candles.list_keys()),
        list(await symbols.list()),
        await symbols.get_by_code("AAPL"),
        await symbols.get_by_code("MSFT"),
        list(await symbols.get_all_active()),
    ]


async def some(storage: Storage) -> list[Any]:
    return [
        await storage.candles.get_range(KEY, *ENDS),
        await storage.candles.get_latest(KEY, 2),
        await storage.symbols.get_by_code("AAPL"),
    ]


async def uncached(storage: Storage) -> list[Any]:
    cache, backend = cache_of(storage), storage._backend
    backend.cache = None  # type: ignore[attr-defined]
    try:
        return await everything(storage)
    finally:
        backend.cache = cache  # type: ignore[attr-defined]


async def save(storage: Storage, _: Path, candles: CandleSeries = HIGHER) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles)
        await uow.commit()


async def save_with_a_document(storage: Storage, _: Path, candles: CandleSeries) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles)
        await uow.formulas.save(make_formula("f"))
        await uow.commit()


async def save_many_series(storage: Storage, _: Path, candles: CandleSeries) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles)
        for number in range(120):
            key = SeriesKey(f"S{number}", Timeframe.M1)
            await uow.candles.save_many(key, make_candles(key, 1))
        await uow.commit()


async def correct(storage: Storage, _: Path, candles: CandleSeries) -> None:
    """One candle of a day that was kept, and a panel as a writer gives it."""
    panel = CandlePanel(Timeframe.M1, [candles[200:201]])
    await storage.run(lambda uow: uow.candles.save_panel(panel))


async def delete(storage: Storage, _: Path, __: CandleSeries) -> None:
    async with storage.unit_of_work() as uow:
        assert await uow.candles.delete_range(KEY, FIRST, FIRST) == 1
        await uow.commit()


async def save_a_symbol(storage: Storage, _: Path, __: CandleSeries) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("MSFT"))
        await uow.commit()


async def save_a_symbol_with_candles(storage: Storage, _: Path, candles: CandleSeries) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("AAPL", is_active=False))
        await uow.candles.save_many(KEY, candles[:5])
        await uow.commit()


async def import_a_lake(storage: Storage, folder: Path, candles: CandleSeries) -> None:
    lake = ParquetStorageEngine(folder / "lake")
    day = candles[0].timestamp.date()
    lake.write(candles, frame=Timeframe.M1, symbol="AAPL", trading_day=day, job_id="job")
    await storage.candles.import_lake(lake, "job")


async def ingest(storage: Storage, _: Path, candles: CandleSeries) -> None:
    async with storage.ingest() as live:
        for candle in candles[:3]:
            await live.add(KEY, candle)


async def recover(storage: Storage, _: Path, candles: CandleSeries) -> None:
    with pytest.MonkeyPatch.context() as patch:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, candles)
            await uow.symbols.save(make_symbol("AAPL"))
            await uow.formulas.save(make_formula("g"))
            await abandon(storage, patch, uow)
    # The lease of the writer that died ends.
    redis_of = cache_of(storage).redis
    assert redis_of is not None
    client = redis_of.get_cache_client()
    async for key in client.scan_iter("*:w:*"):
        await client.delete(key)
    assert await storage.recover() == 1


BY_DAY = (save_a_symbol_with_candles, import_a_lake, ingest, recover)
BY_NIGHT = (
    *(save, save_with_a_document, correct, delete, save_a_symbol, save_many_series),
    *BY_DAY,
)


@pytest.mark.parametrize(
    "ways", [BY_DAY, pytest.param(BY_NIGHT, marks=pytest.mark.slow)], ids=["some", "all"]
)
async def test_whatever_is_written_is_seen_by_the_next_read(
    writer: Storage, reader: Storage, tmp_path: Path, ways: Sequence[Write]
) -> None:
    for seed, write in enumerate(ways, 100):
        before = await everything(reader)
        known = counted(reader, "hits")
        assert await everything(reader) == before
        assert counted(reader, "hits") == known + len(before), "all of them are kept"
        await write(writer, tmp_path, make_candles(KEY, 390, seed=seed))
        after = await everything(reader)
        assert after == await uncached(reader), write.__name__
        assert after != before, write.__name__
    assert counted(writer, "unannounced_writes") == 0


@pytest.mark.slow
async def test_a_purge_of_history_leaves_what_is_kept_as_it_is(
    writer: Storage, reader: Storage
) -> None:
    await save(writer, Path())
    before = await everything(reader)
    assert await writer.candles.purge_history([KEY]) > 0
    assert await everything(reader) == before == await uncached(reader)


async def test_notes_of_what_redis_missed_do_not_pile_up(writer: Storage) -> None:
    """As while Redis is away for days, and somebody commits each second."""
    notes = StoredNotes(writer.mongo)
    for _ in range(3):
        await notes.add(["b", "a"], ["all"])
    assert list((await notes.all()).values()) == [["a", "b"]]
    for number in range(MOST_NOTES + 5):
        await notes.add([f"{number}"], ["all"])
    kept = await notes.all()
    assert ["all"] in kept.values()
    assert len(kept) <= 10
    await notes.remove(list(kept))
    assert await notes.all() == {}


async def test_ut_infra_03_2_a_miss_asks_the_database_and_keeps_its_answer(
    writer: Storage, reader: Storage
) -> None:
    """UT-INFRA-03.2"""
    assert await reader.candles.get_range(KEY, *ENDS) == DAY
    assert (counted(reader, "misses"), counted(reader, "hits")) == (1, 0)
    assert await reader.candles.get_range(KEY, *ENDS) == DAY
    assert (counted(reader, "misses"), counted(reader, "hits")) == (1, 1)
    await cache_of(reader).answers.settle(5)
    assert await writer.candles.get_range(KEY, *ENDS) == DAY
    assert counted(writer, "shared_hits") == 1, "what one process has read serves the others"


async def test_ut_infra_03_3_without_redis_all_is_read_from_the_stores(
    opened: Opened, writer: Storage, redis_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """UT-INFRA-03.3: nothing fails, one warning for each change, and it is used again."""
    caplog.set_level(logging.WARNING, "jts_storage.cache")
    storage = await opened(f"redis://127.0.0.1:{redis_proxy.port}")
    expected = await some(storage)
    sharing = cache_of(storage)._sharing
    assert sharing is not None
    sharing._breaker._pause = 0.1
    redis_proxy.faults.refuse()
    for _ in range(2):
        assert await some(storage) == expected
    assert (await storage.health()).is_well
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    told = storage.cache_statistics()
    assert told is not None and told.state == "away" and told.errors >= 3
    redis_proxy.faults.clear()
    async with asyncio.timeout(30):
        while counted(storage, "hits") < 6:
            assert await some(storage) == expected
            await asyncio.sleep(0.05)
    assert len(caplog.records) == 2 and "answers again" in caplog.text


async def test_a_write_that_redis_was_not_told_of_is_told_later(
    opened: Opened, writer: Storage, reader: Storage, redis_url: str, redis_proxy: FaultProxy
) -> None:
    cut_off = await opened(f"redis://127.0.0.1:{redis_proxy.port}")
    assert await reader.candles.get_latest(KEY) == DAY.tail(1)
    await cut_off.candles.get_latest(KEY)
    redis_proxy.faults.refuse()
    async with cut_off.unit_of_work() as uow:
        await uow.candles.save_many(KEY, HIGHER)
        await uow.commit()
    assert counted(cut_off, "unannounced_writes") == 1
    assert await cut_off.candles.get_latest(KEY) == HIGHER.tail(1), "its own reads are right"
    # It dies, and any other process that opens tells Redis.
    await cut_off.close()
    another = await opened(redis_url)
    await another.candles.get_latest(KEY)
    assert await reader.candles.get_latest(KEY) == HIGHER.tail(1)


async def test_a_strict_cache_refuses_what_redis_is_not_told_of(
    opened: Opened, writer: Storage, redis_proxy: FaultProxy
) -> None:
    strict = await opened(f"redis://127.0.0.1:{redis_proxy.port}", coherence="strict")
    redis_proxy.faults.refuse()
    with pytest.raises(WriteNotKnown, match="nothing of it is stored"):
        await save(strict, Path())
    assert await strict.candles.get_range(KEY, *ENDS) == DAY
    redis_proxy.faults.clear()
    await strict.run(lambda uow: uow.candles.save_many(KEY, HIGHER))
    assert await writer.candles.get_range(KEY, *ENDS) == HIGHER


@pytest.mark.slow
async def test_et_infra_03_1_a_full_redis_evicts_and_all_reads_are_right(
    opened: Opened, writer: Storage, redis_client: redis.Redis, redis_url: str
) -> None:
    """ET-INFRA-03.1"""
    used: Any = redis_client.info("memory")
    redis_client.config_set("maxmemory", used["used_memory"] + 200_000)
    storage = await opened(redis_url)
    for rows in range(1, 40):
        assert await storage.candles.get_latest(KEY, 389 - rows) == DAY.tail(389 - rows)
    await cache_of(storage).answers.settle(5)
    report = await cache_of(storage).redis.memory()  # type: ignore[union-attr]
    assert report.evicted > 0
    await save(writer, Path())
    assert await storage.candles.get_latest(KEY, 5) == HIGHER.tail(5)


@pytest.mark.slow
async def test_a_full_redis_that_evicts_nothing_gives_nothing_stale(
    opened: Opened, writer: Storage, redis_client: redis.Redis, redis_url: str
) -> None:
    storage = await opened(redis_url)
    assert await storage.candles.get_latest(KEY) == DAY.tail(1)
    redis_client.config_set("maxmemory-policy", "noeviction")
    redis_client.config_set("maxmemory", 1)
    await save(writer, Path())
    assert await storage.candles.get_latest(KEY) == HIGHER.tail(1)


async def test_et_infra_03_2_a_hung_redis_is_given_up(
    opened: Opened,
    writer: Storage,
    redis_proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """ET-INFRA-03.2: three reads wait for their bound, later ones for nothing."""
    storage = await opened(f"redis://127.0.0.1:{redis_proxy.port}", timeout=0.05)
    asked = 0
    sharing = cache_of(storage)._sharing
    assert sharing is not None
    look = sharing._coherence.look

    async def counting(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return await look(*args)

    monkeypatch.setattr(sharing._coherence, "look", counting)
    redis_proxy.faults.hang()
    for _ in range(20):
        assert await storage.candles.get_range(KEY, *ENDS) == DAY
    # Three within five seconds; a machine that is busier than that asks once or twice more.
    assert 3 <= asked < 10, "a task of its own asks again, no read does"
    assert caplog.text.count("does not answer") == 1
    await save(storage, Path())
    assert await storage.candles.get_range(KEY, *ENDS) == HIGHER


async def test_units_of_work_and_moments_ask_the_stores(writer: Storage) -> None:
    async with writer.unit_of_work() as uow:
        await uow.candles.save_many(KEY, HIGHER)
        commit = (await uow.commit()).commit
    async with writer.unit_of_work() as uow:
        assert await uow.candles.get_range(KEY, *ENDS) == HIGHER
        assert [each.code for each in await uow.symbols.list()] == ["AAPL"]
    assert await writer.candles.get_range(KEY, *ENDS, as_of=commit) == HIGHER
    told = writer.cache_statistics()
    assert told is not None and (told.hits, told.misses, told.shared_hits) == (0, 0, 0)


@pytest.mark.slow
async def test_what_is_large_is_not_kept(writer: Storage) -> None:
    long = make_candles(KEY, 20_001)
    await writer.run(lambda uow: uow.candles.save_many(KEY, long))
    for _ in range(2):
        assert len(await writer.candles.get_range(KEY, FIRST, long[-1].timestamp)) == 20_001
    assert (counted(writer, "too_large"), counted(writer, "held_bytes")) == (1, 400)


async def test_health_tells_of_the_cache(writer: Storage, opened: Opened) -> None:
    await writer.candles.get_latest(KEY)
    health = await writer.health()
    assert health.cache is not None and health.cache.state == "ready"
    assert health.cache.to_dict()["misses"] == 1
    assert (await (await opened(None)).health()).cache is None
