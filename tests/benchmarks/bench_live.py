"""One new minute of a whole market in one commit, beside two bare durable inserts of its rows.

`floor` is the quickest that the engine takes: blocks of its own format, written of arrays that are
there already. `bare` begins with the candles as ours do: an Arrow table of them, handed to chDB.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
from harness import report

from jts_storage import Candle, CandlePanel, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.clickhouse import tables
from jts_storage.clickhouse.blocks import write_block
from jts_storage.clickhouse.candle_mappers import rows_to_columns
from jts_storage.clickhouse.driver_internals import CompressedBufferedWriter
from jts_storage.clickhouse.embedded.handover import HandoverFile
from jts_storage.domain.rows import LooseRows, SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.factories import START

SYMBOLS = 2_500
RUNS = 15
KEYS = [SeriesKey(f"S{n:05}", Timeframe.M1, "KRX") for n in range(SYMBOLS)]
Bars = list[Candle]

_FROM_FILE = (
    "INSERT INTO bare ({names}) FROM INFILE '{path}' COMPRESSION 'none'"
    " SETTINGS async_insert = 0, input_format_parallel_parsing = 0, max_threads = 1 FORMAT Native"
)
_FROM_ARROW = (
    "INSERT INTO bare ({names}) FROM INFILE '{path}' COMPRESSION 'none'"
    " SETTINGS async_insert = 0 FORMAT ArrowStream"
)


def minute(number: int) -> Bars:
    """One bar of each symbol."""
    stamp = START + timedelta(minutes=number)
    price = Decimal("78200.5")
    return [
        Candle(stamp, price + n, price + n + 2, price + n - 2, price + n + 1, 1_000 + n)
        for n in range(SYMBOLS)
    ]


class Live:
    """The ways to store a minute, each in a commit of its own."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._file = HandoverFile()
        self._arrow = folder / "bare.arrow"
        self._candles = tables.build().candles
        with storage.clickhouse.transport() as transport:
            transport.execute("CREATE TABLE IF NOT EXISTS bare AS candles")

    async def floor(self, bars: Bars, number: int) -> float:
        """The quickest there is: rows in the engine's own format, written from arrays."""
        rows = SeriesRows.joined([LooseRows.of(KEYS, bars)])
        columns = rows_to_columns(self._candles, rows, version=number + 1)
        names = ", ".join(columns)

        def insert() -> float:
            with self._storage.clickhouse.transport() as transport:
                connection: Any = transport
                connection.connect()
                begin = perf_counter()
                self._file.rewind()
                out = CompressedBufferedWriter(self._file, 1 << 20)
                write_block(out, connection.context, columns)
                out.flush()
                self._file.end()
                query = _FROM_FILE.format(names=names, path=self._file.path)
                connection._connection.query(query, "Native")
                return perf_counter() - begin

        return await self._storage.clickhouse.run(insert)

    async def arrow_bare(self, bars: Bars, number: int) -> float:
        """What a service would write with chDB and pyarrow alone."""

        def insert() -> float:
            with self._storage.clickhouse.transport() as transport:
                connection: Any = transport
                connection.connect()
                begin = perf_counter()
                table = arrow_of(bars, number + 1)
                with (
                    pa.OSFile(str(self._arrow), "wb") as file,
                    pa.ipc.new_stream(file, table.schema) as out,
                ):
                    out.write_table(table)
                names = ", ".join(table.column_names)
                query = _FROM_ARROW.format(names=names, path=self._arrow)
                connection._connection.query(query, "Native")
                return perf_counter() - begin

        return await self._storage.clickhouse.run(insert)

    async def calls(self, bars: Bars, number: int) -> float:
        begin = perf_counter()
        async with self._storage.unit_of_work() as uow:
            for key, bar in zip(KEYS, bars, strict=True):
                await uow.candles.save_many(key, [bar])
            await uow.commit()
        return perf_counter() - begin

    async def panel(self, bars: Bars, number: int) -> float:
        return await self._save(panel_of(bars))

    async def arrow(self, bars: Bars, number: int) -> float:
        return await self._save(panel_of(bars).to_arrow())

    async def pandas(self, bars: Bars, number: int) -> float:
        return await self._save(panel_of(bars).to_pandas())

    async def polars(self, bars: Bars, number: int) -> float:
        return await self._save(panel_of(bars).to_polars())

    async def _save(self, given: Any) -> float:
        begin = perf_counter()
        async with self._storage.unit_of_work() as uow:
            await uow.candles.save_panel(given, timeframe=Timeframe.M1)
            await uow.commit()
        return perf_counter() - begin


def arrow_of(bars: Bars, version: int) -> pa.Table:
    price = pa.decimal128(18, 4)
    return pa.table(
        {
            "symbol": [key.symbol for key in KEYS],
            "exchange": [key.exchange for key in KEYS],
            "timeframe": [key.timeframe.value for key in KEYS],
            "timestamp": pa.array([bar.timestamp for bar in bars], pa.timestamp("ms", "UTC")),
            "open": pa.array([bar.open for bar in bars], price),
            "high": pa.array([bar.high for bar in bars], price),
            "low": pa.array([bar.low for bar in bars], price),
            "close": pa.array([bar.close for bar in bars], price),
            "volume": pa.array([bar.volume for bar in bars], pa.uint64()),
            "version": pa.array([version] * len(bars), pa.uint64()),
        }
    )


def panel_of(bars: Bars) -> CandlePanel:
    each = (CandleSeries(key, [bar]) for key, bar in zip(KEYS, bars, strict=True))
    return CandlePanel(Timeframe.M1, each)


async def compare(live: Live) -> None:
    """Run all in turn; print the median of each and how many times the floor that is."""
    works: dict[str, Callable[[Bars, int], Awaitable[float]]] = {
        "floor": live.floor,
        "bare": live.arrow_bare,
        "2_500_calls_of_save_many": live.calls,
        "save_panel": live.panel,
        "save_panel_arrow": live.arrow,
        "save_panel_pandas": live.pandas,
        "save_panel_polars": live.polars,
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    number = 0
    for run in range(RUNS + 1):
        for name in list(works)[:: 1 if run % 2 else -1]:
            number += 1
            bars = minute(number)
            gc.collect()
            seconds = await works[name](bars, number)
            if run:  # the first is a warm-up
                taken[name].append(seconds)
    floor = statistics.median(taken.pop("floor"))
    bare = statistics.median(taken.pop("bare"))
    for name, each in taken.items():
        seconds = statistics.median(each)
        figures = {"floor_seconds": floor, "ratio": seconds / floor}
        report(name, seconds=seconds, **figures, bare_seconds=bare, to_bare=seconds / bare)


async def lag(live: Live) -> None:
    """Print the longest time for which a commit keeps the event loop from anything else."""
    longest = 0.0
    done = False

    async def watch() -> None:
        nonlocal longest
        while not done:
            begin = perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, perf_counter() - begin)

    found = []
    for number in range(10_000, 10_000 + RUNS):
        bars = minute(number)
        longest, done = 0.0, False
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await live.calls(bars, number)
        done = True
        await watching
        found.append(longest)
    report("event_loop_lag_of_2_500_calls", seconds=statistics.median(found), most=max(found))


async def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
            live = Live(storage, Path(folder))
            await compare(live)
            await lag(live)


def main() -> None:
    asyncio.run(run())


if __name__ == "__main__":
    main()
