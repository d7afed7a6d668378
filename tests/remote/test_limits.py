"""What is too much is refused with what to do about it; what is large goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jts_storage import FormulaCategory, SeriesKey, Storage, StorageSettings, Strategy, Timeframe
from jts_storage.errors import OutcomeUnknown, PoolTimeout, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_backtest, make_candles, make_formula
from jts_storage.testing.fault_proxy import FaultProxy

KEY = SeriesKey("A", Timeframe.M1, "KRX")


@asynccontextmanager
async def opened(more: str = "", **limits: Any) -> AsyncIterator[tuple[Storage, InMemoryBackend]]:
    backend = InMemoryBackend()
    async with Storage(backend):
        bounds = Limits(**{"grace_seconds": 0.5, **limits})
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=bounds))
        await gateway.start()
        try:
            async with Storage.open(
                StorageSettings(url=f"grpc://{gateway.address}{more}")
            ) as client:
                yield client, backend
        finally:
            await gateway.stop()


async def test_one_call_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(calls=3) as (client, backend):
        going = asyncio.Event()

        async def slow(*_: Any, **__: Any) -> Any:
            await going.wait()
            return []

        monkeypatch.setattr(type(backend.readable.formulas), "get_by_category", slow)
        waiting = [
            asyncio.create_task(client.formulas.get_by_category(FormulaCategory.ENTRY))
            for _ in range(3)
        ]
        await asyncio.sleep(0.3)
        with pytest.raises(PoolTimeout, match=r"as many calls as it takes.*--calls") as caught:
            await client.formulas.list()
        assert caught.value.repeatable
        going.set()
        assert await asyncio.gather(*waiting) == [[], [], []]
        assert await client.formulas.list() == []


async def test_an_idle_unit_of_work_is_dropped() -> None:
    async with opened(idle_seconds=0.2) as (client, _):
        with pytest.raises(StorageError, match=r"asked nothing for 0.2 s.*Compute first"):
            async with client.unit_of_work() as uow:
                await uow.formulas.save(make_formula("f"))
                await asyncio.sleep(0.6)
                await uow.commit()
        assert await client.formulas.list() == []


async def test_staged_rows_are_bounded() -> None:
    async with opened(staged_bytes=2**20) as (client, _):
        for _ in range(10):
            with pytest.raises(StorageError, match=r"more than 1,048,576 bytes.*Commit more"):
                async with client.unit_of_work() as uow:
                    await uow.candles.save_many(KEY, make_candles(KEY, 200_000))
                    await uow.commit()
        assert len(await client.candles.get_range(KEY, *FOREVER)) == 0


async def test_a_call_within_a_unit_of_work_is_bounded() -> None:
    async with opened(call_bytes=2**20) as (client, _):
        with pytest.raises(StorageError, match="larger than 1,048,576 bytes"):
            async with client.unit_of_work() as uow:
                strategy = await uow.strategies.save(Strategy(name="s"))
                result = make_backtest(strategy.id or "", trades=20_000)
                await uow.backtests.save(result)


async def test_a_call_that_is_larger_than_a_message_is_told() -> None:
    keys = [SeriesKey(f"{n:060}", Timeframe.M1, "KRX") for n in range(150_000)]
    async with opened() as (client, _):
        with pytest.raises(StorageError, match=r"larger than one message.*Ask for less"):
            await client.candles.get_ranges(keys, *FOREVER)


@pytest.mark.slow
async def test_fifty_thousand_keys() -> None:
    keys = [SeriesKey(f"S{n:05}", Timeframe.M1, "KRX") for n in range(50_000)]
    async with opened() as (client, _):
        async with client.unit_of_work() as uow:
            for key in keys[:20]:
                await uow.candles.save_many(key, make_candles(key, 3))
            await uow.commit()
        found = await client.candles.get_ranges(keys, *FOREVER)
        assert list(found) == keys
        assert sum(map(len, found.values())) == 60
        assert await client.candles.list_keys() == keys[:20]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_result_with_a_hundred_thousand_trades() -> None:
    async with opened(more="?timeout=300&commit_timeout=300") as (client, _):
        async with client.unit_of_work() as uow:
            strategy = await uow.strategies.save(Strategy(name="s"))
            saved = await uow.backtests.save(make_backtest(strategy.id or "", trades=100_000))
            await uow.commit()
        found = await client.backtests.get_by_id(saved.id or "")
        assert found is not None
        assert found.trades == saved.trades
        count = 0
        async for trade in client.backtests.trades(saved.id or ""):
            count += trade in (saved.trades[count],)
        assert count == 100_000


async def test_a_list_that_is_larger_than_a_message() -> None:
    text = "x" * 9_000
    async with opened() as (client, _):
        async with client.unit_of_work() as uow:
            for number in range(1_000):
                await uow.formulas.save(make_formula(f"f{number}", expression=text))
            await uow.commit()
        found = await client.formulas.list(limit=1_000)
        assert len(found) == 1_000
        assert {each.expression for each in found} == {text}


@pytest.mark.slow
async def test_many_events_and_checkpoints_in_one_commit() -> None:
    from jts_storage.domain.events import IngestionCompleted

    async with opened() as (client, _):
        async with client.unit_of_work() as uow:
            for number in range(1_000):
                name = "n" * 100 + str(number)
                await uow.ingestion.checkpoints.save(name, {"data": "x" * 9_000})
            for number in range(34_000):
                day = FOREVER[0].date()
                event = IngestionCompleted(
                    symbol=f"S{number}" + "x" * 20, trading_day=day, bar_count=1
                )
                uow.events.add(event)
            await uow.commit()
        assert len(await client.ingestion.checkpoints.list(limit=5_000)) == 1_000


async def test_what_changes_something_is_not_asked_twice() -> None:
    """Where its answer was lost, that is told."""
    backend = InMemoryBackend()
    async with Storage(backend) as storage:
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=0.5)))
        await gateway.start()
        host, _, port = gateway.address.rpartition(":")
        with FaultProxy(host, int(port)) as proxy:
            url = f"grpc://{proxy.host}:{proxy.port}?retry_base_delay=0.01"
            async with Storage.open(StorageSettings(url=url)) as client:
                await client.snapshots.create("before")
                create = type(backend.readable.snapshots).create

                async def cut(*given: Any, **named: Any) -> Any:
                    found = await create(*given, **named)
                    proxy.faults.cut(0)
                    asyncio.get_running_loop().call_later(0.2, proxy.faults.clear)
                    return found

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(type(backend.readable.snapshots), "create", cut)
                    with pytest.raises(OutcomeUnknown, match="Look before you repeat"):
                        await client.snapshots.create("lost")
                proxy.faults.clear()
                names = [each.name for each in await storage.snapshots.list()]
                assert names == ["before", "lost"]
        await gateway.stop()
