"""A storage with something of every kind in it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from jts_storage import SeriesKey, Storage, SymbolBars, Timeframe
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import (
    make_backtest,
    make_candles,
    make_formula,
    make_strategy,
    make_symbol,
)

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
OTHER = SeriesKey("000660", Timeframe.D1, exchange="KRX")
DAY = date(2024, 1, 2)


async def fill(storage: Storage, lake: Path) -> None:
    """Commit to every store, correct some of it, and write a file to the lake."""
    candles = make_candles(KEY, 500, seed=1)
    ParquetStorageEngine(lake).write(
        candles, frame=KEY.timeframe, symbol=KEY.symbol, trading_day=DAY, job_id="job-1"
    )
    async with storage.unit_of_work(source="first") as uow:
        await uow.symbols.save(make_symbol(KEY.symbol))
        await uow.candles.save_many(KEY, candles)
        await uow.candles.save_many(OTHER, make_candles(OTHER, 50, seed=2))
        formula = await uow.formulas.save(make_formula())
        strategy = await uow.strategies.save(make_strategy())
        await uow.backtests.save(make_backtest(str(strategy.id), trades=5))
        await uow.ingestion.symbol_bars.save(SymbolBars(KEY.symbol, DAY).start_collection())
        await uow.ingestion.checkpoints.save("collector", {"at": 7})
        await uow.commit()
    async with storage.unit_of_work(source="second") as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 100, seed=3))
        stored = await uow.formulas.get_by_id(str(formula.id))
        assert stored is not None
        await uow.formulas.delete(str(formula.id))
        await uow.commit()


async def fill_more(storage: Storage) -> None:
    """Commit something that the first backup of a storage has not."""
    async with storage.unit_of_work(source="third") as uow:
        await uow.candles.save_many(OTHER, make_candles(OTHER, 70, seed=5))
        await uow.formulas.save(make_formula("another"))
        await uow.ingestion.checkpoints.save("collector", {"at": 8})
        await uow.commit()
