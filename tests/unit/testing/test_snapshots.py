"""`storage_state` holds everything, and compares."""

from __future__ import annotations

from datetime import date

from jts_storage import Storage, SymbolBars
from jts_storage.sync import Storage as SyncStorage
from jts_storage.testing.assertions import assert_same
from jts_storage.testing.factories import (
    SAMPLE_KEY,
    make_backtest,
    make_candles,
    make_formula,
    make_strategy,
    make_symbol,
)
from jts_storage.testing.snapshots import storage_state


async def test_every_kind_of_entity_is_in_the_state() -> None:
    async with Storage.in_memory() as storage:
        assert await storage_state(storage) == {}
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(SAMPLE_KEY, make_candles())
            await uow.symbols.save(make_symbol())
            formula = await uow.formulas.save(make_formula())
            strategy = await uow.strategies.save(make_strategy())
            result = await uow.backtests.save(make_backtest())
            await uow.ingestion.symbol_bars.save(SymbolBars("005930", date(2024, 1, 2)))
            await uow.ingestion.bars.save_many(SAMPLE_KEY, make_candles(count=3))
            await uow.ingestion.checkpoints.save("collector", {"at": 1})
            await uow.commit()
        state = await storage_state(storage)
        assert set(state) == {
            "candles/KRX:005930/1m",
            "symbols/005930",
            f"formulas/{formula.id}",
            f"strategies/{strategy.id}",
            f"backtests/{result.id}",
            "symbol_bars/005930/2024-01-02",
            "bars/KRX:005930/1m",
            "checkpoints/collector",
        }
        assert_same(make_candles(), state["candles/KRX:005930/1m"])
        assert state == await storage_state(storage)


async def test_long_lists_are_read_to_their_end() -> None:
    async with Storage.in_memory() as storage:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save_many([make_symbol(f"{n:06}") for n in range(250)])
            await uow.commit()
        assert len(await storage_state(storage)) == 250


def test_a_blocking_storage_gives_its_state_at_once() -> None:
    with SyncStorage.in_memory() as storage:
        with storage.unit_of_work() as uow:
            uow.symbols.save(make_symbol())
            uow.commit()
        assert list(storage_state(storage)) == ["symbols/005930"]
