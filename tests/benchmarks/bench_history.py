"""What a history costs: the fingerprint of ten million candles where they lie, and a comparison.

Beside the fingerprint stands the quickest statement that reads all its columns once.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from harness import report

from jts_storage import CandlePanel, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.domain import checks
from jts_storage.domain.columns import Columns
from jts_storage.testing.factories import START

SERIES, ROWS, PARTS = 1_000, 10_000, 5
RUNS = 3
CORRECTED = 100
"""One row of so many is corrected."""

M1 = Timeframe.M1
END = START + timedelta(minutes=ROWS)
READ = (
    "SELECT sum(reinterpretAsInt64(open)), sum(reinterpretAsInt64(high)),"
    " sum(reinterpretAsInt64(low)), sum(reinterpretAsInt64(close)), sum(volume),"
    " sum(toUnixTimestamp64Milli(timestamp)) FROM candles WHERE timeframe = '1m'"
)


def minutes(first: int, step: int = 1, higher: int = 0) -> CandlePanel:
    """A part of the candles of every series."""
    stamps = checks.to_ms(START) + np.arange(first, first + ROWS // PARTS, step) * 60_000
    count = len(stamps)
    rng = np.random.default_rng(first)
    close = 700_000 + np.cumsum(rng.integers(-50, 51, SERIES * count)) % 500_000 + higher
    prices = (close, close + 100, close - 100, close + 10)
    volume = rng.integers(1, 1_000_000, SERIES * count).astype(np.uint64)
    columns = Columns.of(np.tile(stamps, SERIES), prices, volume)
    keys = [SeriesKey(f"S{n:05}", M1, "KRX") for n in range(SERIES)]
    return CandlePanel.trusted(M1, keys, np.arange(SERIES + 1) * count, columns)


async def save(storage: Storage, panel: CandlePanel) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_panel(panel)
        await uow.commit()


async def taken(name: str, work: Callable[[], Awaitable[object]], **more: float) -> float:
    await work()
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - begin)
    report(name, seconds=statistics.median(seconds), best=min(seconds), **more)
    return statistics.median(seconds)


async def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
            for part in range(PARTS):
                await save(storage, minutes(part * ROWS // PARTS))
            rows = float(SERIES * ROWS)
            clickhouse = storage.clickhouse
            await taken(
                "history_columns_read_once", lambda: clickhouse.run(clickhouse.execute, READ)
            )
            seen = await storage.data_set(M1, START, END)
            text = await storage.fingerprint(seen)
            await taken("history_data_set", lambda: storage.data_set(M1, START, END))
            await taken("history_fingerprint", lambda: storage.fingerprint(seen), rows=rows)
            for part in range(PARTS):
                await save(storage, minutes(part * ROWS // PARTS, CORRECTED, higher=1))
            assert await storage.fingerprint(seen) == text
            await taken("history_fingerprint_unmerged", lambda: storage.fingerprint(seen))
            await clickhouse.run(clickhouse.execute, "OPTIMIZE TABLE candles FINAL")
            await taken("history_fingerprint_corrected", lambda: storage.fingerprint(seen))
            await taken("history_differing", lambda: storage._opened.data_sets.differing(seen))


def main() -> None:
    asyncio.run(run())


if __name__ == "__main__":
    main()
