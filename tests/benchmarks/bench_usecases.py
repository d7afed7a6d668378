"""Imports and exports of a million candles, against bare reads, inserts and writes of the same.

The floor of an import reads the file and inserts its columns with one statement over the same
engine; that of an export reads the columns and has pyarrow write them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from harness import compare

from jts_storage import CandleSeries, Market, SeriesKey, Storage, StorageSettings, Symbol, Timeframe
from jts_storage.domain import checks
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.export_candles import ExportCandles
from jts_storage.usecases.import_candles import ImportCandles

ROWS = 1_000_000
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
EVERY = checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP
RUNS = 5


def main() -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(_prepared(Path(folder)))
        with asyncio.Runner() as runner:
            _compare(Path(folder), runner)


async def _prepared(folder: Path) -> None:
    table = make_candles(KEY, ROWS).to_arrow()
    pq.write_table(table, folder / "candles.parquet")
    arrow_csv.write_csv(table, folder / "candles.csv")


def _compare(folder: Path, runner: asyncio.Runner) -> None:
    storage = Storage.open(StorageSettings.load(data_dir=folder / "stores", migrate=True))
    runner.run(storage.open_stores())
    try:
        runner.run(_symbol(storage))
        exchanges = count()

        def bare(read: Callable[[], Any]) -> Callable[[], None]:
            # Every run writes a series of its own: merges of doubles are not what is measured.
            return lambda: runner.run(_insert(storage, read(), f"F{next(exchanges)}"))

        def ours(path: Path) -> Callable[[], None]:
            return lambda: runner.run(_import(storage, path, f"U{next(exchanges)}"))

        parquet, csv = folder / "candles.parquet", folder / "candles.csv"
        series = make_candles(KEY, ROWS)

        def read_csv() -> CandleSeries:
            arrow_csv.read_csv(csv)
            return series

        def read_parquet() -> CandleSeries:
            pq.read_table(parquet)
            return series

        compare("import_parquet_1m", ours(parquet), bare(read_parquet), RUNS)
        compare("import_csv_1m", ours(csv), bare(read_csv), RUNS)
        runner.run(_import(storage, parquet, KEY.exchange))
        compare(
            "export_parquet_1m",
            lambda: runner.run(_export(storage, folder / "out.parquet")),
            lambda: runner.run(_bare_export(storage, folder / "bare.parquet")),
            RUNS,
        )
    finally:
        runner.run(storage.close())


async def _symbol(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(Symbol(KEY.symbol, "Samsung Electronics", Market.KOSPI))
        await uow.commit()


async def _insert(storage: Storage, series: CandleSeries, exchange: str) -> None:
    key = SeriesKey(KEY.symbol, KEY.timeframe, exchange)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, CandleSeries.trusted(key, series.columns))
        await uow.commit()


async def _import(storage: Storage, path: Path, exchange: str) -> None:
    await ImportCandles(storage).run(path, KEY.timeframe, symbol=KEY.symbol, exchange=exchange)


async def _export(storage: Storage, path: Path) -> None:
    await ExportCandles(storage).run(KEY, path)


async def _bare_export(storage: Storage, path: Path) -> None:
    series = await storage.candles.get_range(KEY, *EVERY)
    pq.write_table(series.to_arrow(), path, compression="zstd", compression_level=1)


if __name__ == "__main__":
    main()
