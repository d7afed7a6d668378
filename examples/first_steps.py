"""What `make demo` shows: the same few lines of work on every storage that can be opened here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from jts_storage import Market, SeriesKey, Storage, StorageSettings, Symbol, Timeframe
from jts_storage.errors import Conflict
from jts_storage.testing.factories import START, make_candles, make_formula

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
ROWS = 100_000


async def tour(storage: Storage) -> None:
    candles = make_candles(KEY, ROWS)

    started = perf_counter()
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(Symbol("005930", "Samsung Electronics", Market.KOSPI))
        await uow.candles.save_many(KEY, candles)
        formula = await uow.formulas.save(make_formula("golden cross"))
        await uow.commit()
    elapsed = perf_counter() - started
    print(f"  stored a symbol, a formula and {ROWS:,} candles in {elapsed * 1_000:.0f} ms")

    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles[:1_000])
        await uow.commit()
    print(f"  wrote 1,000 of them again: still {await storage.candles.count(KEY):,}")

    series = await storage.candles.get_range(KEY, START, START + timedelta(days=1))
    hourly = series.resample(Timeframe.H1)
    print(f"  read {series}")
    print(f"  as hours: {len(hourly)}, the first closed at {hourly[0].close}")

    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, START, START + timedelta(days=365))
    print(f"  deleted without a commit: still {await storage.candles.count(KEY):,}")

    await storage.run(lambda uow: uow.formulas.save(replace(formula, tags=("trend",))))
    try:
        await storage.run(lambda uow: uow.formulas.save(formula), attempts=1)
    except Conflict as conflict:
        print(f"  an outdated save was refused: {conflict}")


async def main() -> None:
    print("in memory")
    async with Storage.in_memory() as storage:
        await tour(storage)

    print("embedded: ClickHouse in this process, a local mongod, SQLite")
    with TemporaryDirectory(prefix="jts-demo-") as folder:
        async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
            await tour(storage)


if __name__ == "__main__":
    asyncio.run(main())
