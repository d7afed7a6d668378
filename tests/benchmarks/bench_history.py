"""What a history costs: writes with and without it, reads as of a time, proofs, and bytes.

Writes are made to one storage, in turn with its history on and off. Beside a read as of a time
stands the same range as it is now, and ArcticDB's where that is installed. Beside the fingerprint
of ten million candles stands the quickest statement that reads all its columns once.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from harness import report

from jts_storage import CandlePanel, CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.domain import checks
from jts_storage.domain.columns import Columns
from jts_storage.testing.factories import START

SERIES, ROWS, PARTS = 1_000, 10_000, 5
RUNS = 3
WRITTEN, PAIRS = 100_000, 15
READ_ROWS, READS = 1_000_000, 9
CORRECTED = 100
"""One row of so many is corrected."""

WORK = (
    ("new_series", 0, 0),
    ("append", 0, WRITTEN),
    ("same_rows", 0, 0),
    ("all_corrected", 1, 0),
)
"""By how much prices are higher than before, and the first minute."""

M1 = Timeframe.M1
END = START + timedelta(minutes=ROWS)
READ = (
    "SELECT sum(reinterpretAsInt64(open)), sum(reinterpretAsInt64(high)),"
    " sum(reinterpretAsInt64(low)), sum(reinterpretAsInt64(close)), sum(volume),"
    " sum(toUnixTimestamp64Milli(timestamp)) FROM candles WHERE timeframe = '1m'"
)
SIZE = (
    "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
    " AND table IN ('candles', 'candles_history')"
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


class Writes:
    """Commits of 100,000 candles, each pair of a series of its own, with history and without."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._candles: Any = storage._backend.stores.candles  # type: ignore[attr-defined]
        self._history = self._candles._history
        self._taken: dict[str, list[tuple[float, float]]] = {}

    async def run(self, pairs: int) -> None:
        for pair in range(pairs + 1):
            ways = (True, False) if pair % 2 else (False, True)
            keys = {way: SeriesKey(f"P{pair:03}{way}", M1) for way in ways}
            for name, higher, first in WORK:
                seconds = {
                    way: await self._save(keys[way], higher, first, kept=way) for way in ways
                }
                if pair:  # the first is a warm-up
                    self._taken.setdefault(name, []).append((seconds[True], seconds[False]))
        self._candles._history = self._history
        for name, taken in self._taken.items():
            ours, floor = (statistics.median(each) for each in zip(*taken, strict=True))
            report(f"history_{name}", seconds=ours, floor_seconds=floor, ratio=ours / floor)

    async def _save(self, key: SeriesKey, higher: int, first: int, *, kept: bool) -> float:
        self._candles._history = self._history if kept else None
        panel = one_series(key, WRITTEN, higher, first=first)
        begin = time.perf_counter()
        await save(self._storage, panel)
        return time.perf_counter() - begin


def one_series(
    key: SeriesKey, rows: int, higher: int = 0, step: int = 1, first: int = 0
) -> CandlePanel:
    """Every so many of some minutes."""
    minute = np.arange(first, first + rows, step)
    stamps = checks.to_ms(START) + minute * 60_000
    close = 700_000 + minute % 50_000 + higher
    prices = (close, close + 100, close - 100, close + 10)
    columns = Columns.of(stamps, prices, np.ones(len(minute), np.uint64))
    return CandlePanel.trusted(M1, [key], np.array([0, len(minute)]), columns)


async def read_as_of(storage: Storage, folder: Path) -> None:
    """A million candles of which one in a hundred was corrected, now and as of before."""
    key, end = SeriesKey("MILLION", M1), START + timedelta(minutes=READ_ROWS)
    whole = one_series(key, READ_ROWS)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_panel(whole)
        before = (await uow.commit()).commit
    corrected = one_series(key, READ_ROWS, higher=1, step=CORRECTED)[key]
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, corrected)
        await uow.commit()
    unheld = ClickHouseCandleRepository(storage.clickhouse, cache_bytes=0)
    assert await storage.candles.get_range(key, START, end, as_of=before) == whole[key]
    works: dict[str, Callable[[], Awaitable[object]]] = {
        "now": lambda: unheld.get_range(key, START, end),
        "as_of": lambda: storage.candles.get_range(key, START, end, as_of=before),
    }
    with suppress(ImportError):
        works |= arctic(folder, whole[key], corrected)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(READS):
        for name, work in works.items():
            begin = time.perf_counter()
            await work()
            taken[name].append(time.perf_counter() - begin)
    plain = statistics.median(taken["now"])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        report(f"history_read_{name}", seconds=median, ratio=median / plain)


def arctic(
    folder: Path, whole: CandleSeries, corrected: CandleSeries
) -> dict[str, Callable[[], Awaitable[object]]]:
    """The same two versions of a symbol in ArcticDB.

    :raises ImportError: it is not installed.
    """
    import arcticdb  # type: ignore[import-not-found]

    store = arcticdb.Arctic(f"lmdb://{folder / 'arctic'}?map_size=4GB")
    library = store.create_library("candles")
    library.write("M", whole.to_pandas(prices="float"))
    library.update("M", corrected.to_pandas(prices="float"))

    async def read(version: int | None) -> object:
        return library.read("M", as_of=version).data

    return {"arctic_now": lambda: read(None), "arctic_as_of": lambda: read(0)}


async def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Storage.open(StorageSettings(data_dir=Path(folder, "jts"))) as storage:
            await Writes(storage).run(PAIRS)
            await read_as_of(storage, Path(folder))
    await prove()


async def prove() -> None:
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
            await grow(storage)
            for part in range(PARTS):
                await save(storage, minutes(part * ROWS // PARTS, CORRECTED, higher=2))
            assert await storage.fingerprint(seen) == text
            await taken("history_fingerprint_unmerged", lambda: storage.fingerprint(seen))
            await clickhouse.run(clickhouse.execute, "OPTIMIZE TABLE candles FINAL")
            await taken("history_fingerprint_corrected", lambda: storage.fingerprint(seen))
            await taken("history_differing", lambda: storage._opened.data_sets.differing(seen))  # type: ignore[attr-defined]


async def grow(storage: Storage) -> None:
    """Correct one candle in a thousand, and tell by how much all of them take more room."""
    clickhouse = storage.clickhouse
    sizes = []
    for is_corrected in (False, True):
        for part in range(PARTS if is_corrected else 0):
            await save(storage, minutes(part * ROWS // PARTS, 1_000, higher=1))
        for table in ("candles", "candles_history"):
            await clickhouse.run(clickhouse.execute, f"OPTIMIZE TABLE {table} FINAL")
        sizes.append(clickhouse.execute(SIZE)[0][0])
    report("history_bytes", bytes=sizes[0], ratio=sizes[1] / sizes[0])


def main() -> None:
    asyncio.run(run())


if __name__ == "__main__":
    main()
