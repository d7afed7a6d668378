"""Two shards, and what becomes of reads and commits while one of them is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse import surroundings
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.settings import ClickHouseConfig
from jts_storage.testing.backends import Stack
from jts_storage.testing.factories import make_candles, make_formula, make_symbol
from jts_storage.unit_of_work import commit as commit_points
from tests.integration.cluster.servers import HOST, Shards
from tests.prepared import emptied

ALWAYS = (FIRST_TIMESTAMP, LAST_TIMESTAMP)
MARKET = [SeriesKey(f"S{number}", Timeframe.M1, "KRX") for number in range(12)]
ROWS = 20
SKIPPING = "SET skip_unavailable_shards = 1"
COUNT = "SELECT count() FROM candles FINAL"


@pytest.fixture
def settings(sharded: Stack) -> StorageSettings:
    return emptied(sharded)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage


def counted(shards: Shards, at: int, table: str = "candles_local") -> int:
    return int(shards[at].ask(f"SELECT count() FROM {table} FINAL", "jts")[0][0])


async def fill(storage: Storage) -> None:
    """One commit of candles alone, of symbols that lie on both shards."""
    async with storage.unit_of_work() as uow:
        for number, key in enumerate(MARKET):
            await uow.candles.save_many(key, make_candles(key, ROWS, seed=number + 1))
        await uow.commit()


async def test_a_market_lies_on_both_and_is_read_as_one(storage: Storage, shards: Shards) -> None:
    await fill(storage)
    here, there = counted(shards, 0), counted(shards, 1)
    assert here + there == ROWS * len(MARKET)
    assert here % ROWS == there % ROWS == 0, "a symbol lies on one of them"
    assert here
    assert there
    panel = await storage.candles.get_panel(Timeframe.M1, *ALWAYS)
    assert [len(panel[key]) for key in MARKET] == [ROWS] * len(MARKET)
    for number, key in enumerate(MARKET):
        expected = make_candles(key, ROWS, seed=number + 1)
        assert await storage.candles.get_range(key, *ALWAYS) == expected
        assert panel[key] == expected
    streamed = [each async for each in storage.candles.stream_panels(Timeframe.M1, *ALWAYS)]
    assert sum(each.rows for each in streamed) == ROWS * len(MARKET)
    latest = await storage.candles.get_latest_panel(Timeframe.M1)
    assert [len(latest[key]) for key in MARKET] == [1] * len(MARKET)


async def test_what_a_shard_has_is_not_missed_in_silence(
    storage: Storage, shards: Shards, settings: StorageSettings
) -> None:
    await fill(storage)
    both = {key: await storage.candles.get_range(key, *ALWAYS) for key in MARKET}
    shards[1].kill()
    try:
        await refuses(storage)
        # As if a profile of the server said so: it lasts as long as the connection.
        with ClickHouseManager(settings.clickhouse(), cluster=None, pool_size=1) as careless:
            careless.execute(SKIPPING)
            assert careless.execute(COUNT)[0][0] == counted(shards, 0), "half, and no word of it"
            (told,) = [
                each for each in surroundings.differences(careless) if each.what == "setting"
            ]
            assert told.where == "skip_unavailable_shards"
            assert "skip_unavailable_shards = 0" in told.remedy
        with ClickHouseManager(settings.clickhouse(), pool_size=1) as careful:
            careful.execute(SKIPPING)
            with pytest.raises(ConnectionFailed):
                careful.execute(COUNT)
    finally:
        shards[1].start()
        shards[1].wait()
    for key, expected in both.items():
        assert await storage.candles.get_range(key, *ALWAYS) == expected, "nothing acknowledged"


async def refuses(storage: Storage) -> None:
    """Each kind of read, and each kind of commit."""
    candles, key = storage.candles, MARKET[0]

    async def stream() -> None:
        async for _ in candles.stream_panels(Timeframe.M1, *ALWAYS):
            pass

    async def rewrite() -> None:
        await fill(storage)

    async def together() -> None:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula("beside candles"))
            for each in MARKET:
                await uow.candles.save_many(each, make_candles(each, 1, seed=99))
            await uow.commit()

    reads: list[Callable[[], Any]] = [
        lambda: candles.get_panel(Timeframe.M1, *ALWAYS),
        lambda: candles.get_latest_panel(Timeframe.M1),
        lambda: candles.get_range(key, *ALWAYS),
        lambda: candles.count(key, *ALWAYS),
        lambda: candles.list_keys(),
        lambda: storage.symbols.get_all_active(),
        stream,
    ]
    for read in reads:
        with pytest.raises(ConnectionFailed) as caught:
            await read()
        assert "bring that one back" in (caught.value.remedy or "")
        assert "Connection refused" in str(caught.value)
    for write in (rewrite, together):
        with pytest.raises(ConnectionFailed) as caught:
            await write()
        assert "is decided" not in str(caught.value), "it is refused before anything is stored"


@pytest.mark.slow
async def test_a_commit_that_met_the_loss_of_a_shard_is_whole_or_nothing(
    storage: Storage, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes after the look at all shards: the commit is decided, and is finished once it is back.

    Candles alone are one insert, which the server makes two; one of them would have been stored.
    """
    await fill(storage)

    def lose(step: str) -> None:
        if step == "decided":
            shards[1].kill()

    try:
        async with storage.unit_of_work() as uow:
            for each in MARKET:
                await uow.candles.save_many(each, make_candles(each, 1, seed=77))
            await uow.symbols.save_many([make_symbol(f"{number:06}") for number in range(12)])
            with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
                patch.setattr(commit_points, "reached", lose)
                await uow.commit()
        assert "is decided" in str(caught.value)
        assert "recover" in (caught.value.remedy or "")
    finally:
        shards[1].start()
        shards[1].wait()
    assert await storage.recover() == 1
    for key in MARKET:
        series = await storage.candles.get_range(key, *ALWAYS)
        assert series[0] == make_candles(key, 1, seed=77)[0]
        assert len(series) == ROWS
    assert len(await storage.symbols.get_all_active()) == 12


async def test_what_one_shard_refuses_is_no_half_commit(storage: Storage, shards: Shards) -> None:
    """One insert of two symbols is one on each shard: there the other's rows are stored."""
    await fill(storage)
    shards[1].ask("ALTER TABLE candles_local ADD CONSTRAINT never CHECK volume < 0", "jts")
    try:
        async with storage.unit_of_work() as uow:
            for each in MARKET:
                await uow.candles.save_many(each, make_candles(each, 1, seed=77))
            with pytest.raises(StorageError, match="is decided"):
                await uow.commit()
    finally:
        shards[1].ask("ALTER TABLE candles_local DROP CONSTRAINT never", "jts")
    assert await storage.recover() == 1
    for key in MARKET:
        found = await storage.candles.get_range(key, *ALWAYS)
        assert found[0] == make_candles(key, 1, seed=77)[0]


def test_no_configuration_may_ask_for_half() -> None:
    with pytest.raises(InvalidConfiguration, match="skip_unavailable_shards=1"):
        ClickHouseConfig(host=HOST, settings={"skip_unavailable_shards": 1})
