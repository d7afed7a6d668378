"""Imports and exports of a million candles, against bare reads, inserts and writes of the same.

Then an import of five million rows of 500 symbols, minute by minute, from one file.

The floor of an import reads the file with pyarrow, and inserts the same rows, which it was given as
columns, with the fastest statement of `clickhouse_floor`; that of an export reads the columns with
one bare statement and has pyarrow write them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from clickhouse_floor import TABLE, BareChdb, insert_frame, of
from harness import compare

from jts_storage import Market, SeriesKey, Storage, StorageSettings, Symbol, Timeframe
from jts_storage.clickhouse.embedded import engine
from jts_storage.domain.columns import NAMES
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.any_storage import BLOCK_ROWS
from jts_storage.usecases.export_candles import ExportCandles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions

ROWS = 1_000_000
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
RUNS = 5
MARKET_ROWS = 5_000_000
MARKET_SYMBOLS = 500
MARKET_RUNS = 3


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
    connection = engine.acquire(str(folder / "stores" / "clickhouse"))
    try:
        runner.run(_symbol(storage))
        for statement in ("USE jts", "SET async_insert = 0", TABLE.format(name="bare")):
            connection.query(statement)
        bare_table = BareChdb(connection, "bare")
        series = make_candles(KEY, ROWS)
        numbers = count()

        def bare(read: Callable[[], Any]) -> Callable[[], None]:
            # Every run writes a series of its own: merges of duplicates are not what is measured.
            def work() -> None:
                read()
                bare_table.write(f"F{next(numbers)}", series, time.time_ns())

            return work

        def ours(path: Path) -> Callable[[], None]:
            return lambda: runner.run(_import(storage, path, f"U{next(numbers)}"))

        parquet, csv = folder / "candles.parquet", folder / "candles.csv"
        compare("import_parquet_1m", ours(parquet), bare(lambda: pq.read_table(parquet)), RUNS)
        compare("import_csv_1m", ours(csv), bare(lambda: arrow_csv.read_csv(csv)), RUNS)
        _compare_market(folder, runner, storage, connection)
        runner.run(_import(storage, parquet, KEY.exchange))
        source = f"candles FINAL WHERE {of(KEY.symbol)}"
        query = f"SELECT {BareChdb.columns} FROM {source} ORDER BY timestamp"
        compare(
            "export_parquet_1m",
            lambda: runner.run(_export(storage, folder / "out.parquet")),
            lambda: _bare_export(bare_table.read(query, ROWS), folder / "bare.parquet"),
            RUNS,
        )
    finally:
        engine.release(connection)
        runner.run(storage.close())


def _compare_market(
    folder: Path, runner: asyncio.Runner, storage: Storage, connection: Any
) -> None:
    path = folder / "market.csv"
    frames = _market(path)
    numbers = count()

    def bare() -> None:
        arrow_csv.read_csv(path)
        for frame in frames:
            insert_frame(connection, "bare", frame.assign(version=time.time_ns()))

    def ours(block_rows: int) -> None:
        # An exchange for each run: merges of duplicates are not what is measured.
        options = ImportOptions(create=Market.KOSPI, block_rows=block_rows)
        work = ImportCandles(storage).run(
            path, KEY.timeframe, exchange=f"X{next(numbers)}", options=options
        )
        runner.run(work)

    for name, rows in (("import_csv_market", BLOCK_ROWS), ("import_csv_market_1m_blocks", ROWS)):
        compare(name, partial(ours, rows), bare, MARKET_RUNS)


def _market(path: Path) -> list[Any]:
    """Write the rows of all symbols to a CSV file; return them as frames of a million rows."""
    import pandas as pd

    rows = MARKET_ROWS // MARKET_SYMBOLS
    codes = [f"S{number:03}" for number in range(MARKET_SYMBOLS)]
    keys = [SeriesKey(code, KEY.timeframe, KEY.exchange) for code in codes]
    many = [make_candles(key, rows, seed=number) for number, key in enumerate(keys)]
    # Minute by minute, as a collector of the market writes them.
    order = np.arange(rows * MARKET_SYMBOLS).reshape(MARKET_SYMBOLS, rows).T.ravel()
    names = pa.array(np.repeat(codes, rows))
    table = pa.concat_tables([series.to_arrow() for series in many])
    arrow_csv.write_csv(table.append_column("symbol", names).take(pa.array(order)), path)
    frame = pd.concat([pd.DataFrame(series.to_columns()) for series in many]).iloc[order]
    frame = frame.assign(symbol=np.repeat(codes, rows)[order].astype(object))
    return [frame[start : start + ROWS].copy() for start in range(0, len(frame), ROWS)]


async def _symbol(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(Symbol(KEY.symbol, "Samsung Electronics", Market.KOSPI))
        await uow.commit()


async def _import(storage: Storage, path: Path, exchange: str) -> None:
    await ImportCandles(storage).run(path, KEY.timeframe, symbol=KEY.symbol, exchange=exchange)


async def _export(storage: Storage, path: Path) -> None:
    await ExportCandles(storage).run(KEY, path)


def _bare_export(columns: Sequence[Any], path: Path) -> None:
    """What was read, in the least that makes it Parquet of the same types, with pyarrow's ways."""
    stamps, *prices, volume = columns
    arrays = [pa.array(stamps).view(pa.timestamp("ms", "UTC"))]
    for price in prices:
        words = np.empty((len(price), 2), np.int64)
        words[:, 0] = price
        words[:, 1] = price >> 63
        buffers = [None, pa.py_buffer(words)]
        arrays.append(pa.Array.from_buffers(pa.decimal128(18, 4), len(price), buffers))
    table = pa.table([*arrays, pa.array(volume).view(pa.uint64())], names=list(NAMES))
    pq.write_table(table, path, compression="zstd", compression_level=1)


if __name__ == "__main__":
    main()
