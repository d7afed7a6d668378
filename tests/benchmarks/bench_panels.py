"""What a whole market costs: panels over bare chDB, and the same symbols one by one."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jts_storage import CandlePanel, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.domain import checks
from jts_storage.domain.columns import Columns
from jts_storage.testing.factories import START

SYMBOLS = 2_500
DAYS, MINUTES = 500, 1_560
ASKED_DAYS = 250
Work = Callable[[], Awaitable[object]]

_ROWS = "symbol, exchange, timestamp, open, high, low, close, volume"
_ORDER = "symbol, exchange, timeframe, timestamp"
# Names as a dictionary, as they are stored: texts a row would take twice as long.
_QUICKEST = "SETTINGS output_format_arrow_low_cardinality_as_dictionary = 1"


def market(timeframe: Timeframe, rows: int, step: timedelta) -> CandlePanel:
    """As many candles of each symbol, made of one random walk."""
    rng = np.random.default_rng(1)
    close = 700_000 + np.cumsum(rng.integers(-50, 51, SYMBOLS * rows)) % 500_000
    first = checks.to_ms(START)
    stamps = first + np.arange(rows) * (step // timedelta(milliseconds=1))
    prices = (close, close + 100, close - 100, close + 10)
    volume = rng.integers(1, 1_000_000, SYMBOLS * rows).astype(np.uint64)
    columns = Columns.of(np.tile(stamps, SYMBOLS), prices, volume)
    keys = [SeriesKey(f"S{n:05}", timeframe, "KRX") for n in range(SYMBOLS)]
    return CandlePanel.trusted(timeframe, keys, np.arange(SYMBOLS + 1) * rows, columns)


async def compare(works: dict[str, Work], runs: int) -> None:
    """Run all in turn and print the median of each as a line of JSON."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name in list(works)[:: 1 if run % 2 else -1]:
            begin = time.perf_counter()
            await works[name]()
            if run:  # the first is a warm-up
                taken[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(each) for name, each in taken.items()}
    floor = min(seconds for name, seconds in medians.items() if name.endswith("bare"))
    for name, seconds in medians.items():
        print(
            f'{{"name": "{name}", "seconds": {seconds:.6f}, "to_bare": {seconds / floor:.3f}}}',
            flush=True,
        )


async def coarser(storage: Storage) -> None:
    """U4: 200 symbols of 100 days of minutes to days, beside the quickest statement that counts on
    there being no duplicate rows.
    """
    key = [SeriesKey(f"M{n:03}", Timeframe.M1, "KRX") for n in range(200)]
    day = checks.to_ms(START) + np.arange(100)[:, None] * 86_400_000
    stamps = (day + np.arange(390) * 60_000).reshape(-1)
    close = 700_000 + np.cumsum(np.random.default_rng(2).integers(-50, 51, len(stamps))) % 500_000
    prices = (close, close + 100, close - 100, close + 10)
    one = Columns.of(stamps, prices, np.arange(len(stamps), dtype=np.uint64))
    each = one.each(lambda column: np.tile(column, len(key)))
    offsets = np.arange(len(key) + 1) * len(stamps)
    panel = CandlePanel.trusted(Timeframe.M1, key, offsets, each)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_panel(panel)
        await uow.commit()
    end = START + timedelta(days=100)
    first, last = checks.to_ms(START), checks.to_ms(end)
    of = (
        "SELECT symbol, exchange, intDiv(toUnixTimestamp64Milli(timestamp), 86400000) AS day,"
        " argMin(open, timestamp), max(high), min(low), argMax(close, timestamp), sum(volume)"
        " FROM candles WHERE timeframe = '1m' AND symbol LIKE 'M%' AND timestamp BETWEEN"
        f" fromUnixTimestamp64Milli({first}) AND fromUnixTimestamp64Milli({last})"
        " GROUP BY symbol, exchange, timeframe, day ORDER BY symbol, exchange, day"
    )
    asked = (Timeframe.M1, Timeframe.D1, START, end)
    assert await storage.candles.resample_panel(*asked, keys=key) == panel.resample(Timeframe.D1)
    await compare(
        {
            "200_symbols_minutes_to_days_plain_bare": bare(storage, of),
            "200_symbols_minutes_to_days_in_order_bare": bare(storage, of, in_order=True),
            "200_symbols_minutes_to_days": lambda: storage.candles.resample_panel(*asked, keys=key),
        },
        7,
    )


def bare(storage: Storage, query: str, *, in_order: bool = False) -> Work:
    settings = f"{_QUICKEST}, optimize_aggregation_in_order = {int(in_order)}"

    def ask() -> pa.Table:
        with storage.clickhouse.transport() as transport:
            connection: Any = transport
            found = connection._connection.query(f"{query} {settings}", "Arrow")
            return pa.ipc.open_file(pa.py_buffer(found.bytes())).read_all()

    return lambda: storage.clickhouse.run(ask)


async def run() -> None:
    days = market(Timeframe.D1, DAYS, timedelta(days=1))
    minutes = market(Timeframe.M1, MINUTES, timedelta(minutes=1))
    with tempfile.TemporaryDirectory() as folder:
        async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
            for panel in (days, minutes):
                async with storage.unit_of_work() as uow:
                    await uow.candles.save_panel(panel)
                    await uow.commit()
            await reads(storage, days)
            await coarser(storage)


async def reads(storage: Storage, days: CandlePanel) -> None:
    candles = storage.candles
    end = START + timedelta(days=DAYS - 1)
    start = end - timedelta(days=ASKED_DAYS - 1)
    first, last = checks.to_ms(start), checks.to_ms(end)

    of_days = (
        f"SELECT {_ROWS} FROM candles WHERE timeframe = '1d' AND timestamp BETWEEN"
        f" fromUnixTimestamp64Milli({first}) AND fromUnixTimestamp64Milli({last})"
    )
    newest = (
        f"SELECT {_ROWS} FROM candles WHERE timeframe = '1m' ORDER BY symbol DESC, exchange DESC,"
        " timeframe DESC, timestamp DESC LIMIT 1 BY symbol, exchange"
    )
    panel = await candles.get_panel(Timeframe.D1, start, end)
    assert panel.rows == SYMBOLS * ASKED_DAYS
    assert panel == days.tail(ASKED_DAYS)
    await compare(
        {
            "250_days_of_2_500_symbols_bare": bare(storage, f"{of_days} ORDER BY {_ORDER}"),
            "250_days_of_2_500_symbols": lambda: candles.get_panel(Timeframe.D1, start, end),
        },
        11,
    )
    await compare(
        {
            "latest_of_2_500_symbols_bare": bare(storage, newest),
            "latest_of_2_500_symbols": lambda: candles.get_latest_panel(Timeframe.M1),
        },
        7,
    )
    await compare(
        {
            "one_by_one_bare": bare(storage, f"{of_days} ORDER BY {_ORDER}"),
            "250_days_by_get_ranges": lambda: candles.get_ranges(days, start, end),
        },
        3,
    )


def main() -> None:
    asyncio.run(run())


if __name__ == "__main__":
    main()
