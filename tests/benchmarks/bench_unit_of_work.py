"""What a unit of work costs over the same writes without one."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from clickhouse_floor import TABLE, insert_frame

from jts_storage import CandleSeries, Formula, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.embedded import engine
from jts_storage.domain.events import CandlesImported
from jts_storage.domain.ids import new_document_id
from jts_storage.mongo.documents import FORMULAS
from jts_storage.mongo.mappers import formula_to_stored
from jts_storage.testing.factories import SAMPLE_KEY, START, make_candles, make_formula

ROWS = 100_000
SYMBOLS = 2_500
Work = Callable[[], Awaitable[object]]


async def compare(name: str, ours: Work, floor: Work, runs: int) -> None:
    """Alternate both in one loop and print the medians as one line of JSON."""
    taken: dict[Work, list[float]] = {ours: [], floor: []}
    for run in range(runs + 1):
        for work in (floor, ours) if run % 2 else (ours, floor):
            begin = time.perf_counter()
            await work()
            if run:  # the first is a warm-up
                taken[work].append(time.perf_counter() - begin)
    seconds, bare = (statistics.median(taken[work]) for work in (ours, floor))
    print(
        f'{{"name": "{name}", "seconds": {seconds:.6f}, "floor_seconds": {bare:.6f}, '
        f'"ratio": {seconds / bare:.3f}}}',
        flush=True,
    )


async def measure(storage: Storage, backend: StoreBackend) -> None:
    alone = ClickHouseCandleRepository(backend.stores.clickhouse)
    batches = [make_candles(count=ROWS, seed=seed) for seed in range(2)]
    turn = 0

    def batch() -> object:
        nonlocal turn
        turn += 1
        return batches[turn % 2]

    async def save_many() -> None:
        await alone.save_many(SAMPLE_KEY, batch())

    async def commit_candles() -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(SAMPLE_KEY, batch())
            await uow.commit()

    async def commit_everywhere() -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(SAMPLE_KEY, batch())
            await uow.formulas.save(make_formula())
            await uow.ingestion.checkpoints.save("bench", {"turn": turn})
            uow.events.add(CandlesImported(series=SAMPLE_KEY, rows=ROWS))
            await uow.commit()

    async def commit_formula() -> None:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.commit()

    async def bare_transaction() -> None:
        mongo = backend.stores.mongo
        formula: Formula = make_formula(id=new_document_id())
        async with mongo.client.start_session() as session, await session.start_transaction():
            document = formula_to_stored(formula)
            await mongo.db[FORMULAS].insert_one(document, session=session)

    async def empty() -> None:
        async with storage.unit_of_work():
            pass

    async def nothing() -> None:
        await asyncio.sleep(0)

    await compare("unit of work, 100,000 candles alone", commit_candles, save_many, 15)
    await compare("unit of work, journalled over all stores", commit_everywhere, commit_candles, 15)
    await compare("unit of work, one formula", commit_formula, bare_transaction, 200)
    await compare("unit of work, empty (against one turn of the loop)", empty, nothing, 500)


async def measure_minute(storage: Storage, folder: Path) -> None:
    """One new minute of each symbol of a market, against one bare insert of the same columns."""
    keys = [SeriesKey(f"{number:06}", Timeframe.M1, "KRX") for number in range(SYMBOLS)]
    minutes = count()

    def minute() -> list[CandleSeries]:
        start = START + timedelta(minutes=next(minutes))
        return [make_candles(key, 1, start=start, seed=seed) for seed, key in enumerate(keys)]

    # Made before the clock starts, and each written once: a run adds a minute of its own.
    runs = 15
    for_ours, for_bare = ([minute() for _ in range(runs + 1)] for _ in range(2))
    columns = list(map(market_frame, for_bare))
    for_ours.reverse()  # taken from the end, and a minute comes after those before it
    connection = engine.acquire(str(folder / "clickhouse"))

    async def commit_minute() -> None:
        async with storage.unit_of_work() as uow:
            for series in for_ours.pop():
                await uow.candles.save_many(series.key, series)
            await uow.commit()

    async def insert_minute() -> None:
        insert_frame(connection, "bare", columns.pop())

    try:
        for statement in ("USE jts", "SET async_insert = 0", TABLE.format(name="bare")):
            connection.query(statement)
        name = f"unit of work, one new minute of {SYMBOLS:,} symbols"
        await compare(name, commit_minute, insert_minute, runs)
        for table in ("bare", "candles"):
            query = f"SELECT count() FROM {table} FINAL WHERE symbol <= '{keys[-1].symbol}'"
            assert int(connection.query(query).bytes()) == (runs + 1) * SYMBOLS
    finally:
        engine.release(connection)


def market_frame(market: list[CandleSeries]) -> pd.DataFrame:
    """The columns of many series, as `insert_frame` takes them."""
    parts = [series.to_columns() for series in market]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    symbols = [series.key.symbol for series in market]
    return pd.DataFrame({"symbol": symbols, **columns, "version": time.time_ns()}, copy=False)


async def measured() -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = StoreBackend(StorageSettings(data_dir=Path(folder)))
        async with Storage(backend) as storage:
            await measure(storage, backend)
            await measure_minute(storage, Path(folder))


def main() -> None:
    asyncio.run(measured())


if __name__ == "__main__":
    main()
