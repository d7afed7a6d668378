"""Backups of ten million candles and ten thousand documents: made, verified and restored.

``python -m tests.benchmarks.bench_backup [series] [rows of each] [documents]``; a line of JSON for
each step, with processor time beside the clock's, and how long writers waited.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jts_storage import CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backup import BackupManager, BackupResult
from jts_storage.domain.columns import Columns
from jts_storage.testing.factories import make_formula

T = TypeVar("T")

_MINUTE = 60_000
_FIRST = 1_700_000_040_000


async def measured(name: str, work: Awaitable[T], **more: Any) -> T:
    wall, processor = time.perf_counter(), time.process_time()
    result = await work
    found = {
        "step": name,
        "seconds": round(time.perf_counter() - wall, 3),
        "processor_seconds": round(time.process_time() - processor, 3),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024,
    }
    if isinstance(result, BackupResult):
        waited, new = result.waited_seconds * 1_000, result.new_bytes / 1e6
        found |= {"waited_ms": round(waited, 1), "new_mb": round(new, 1)}
    print(json.dumps(found | more), flush=True)
    return result


def random_series(key: SeriesKey, rows: int, chance: np.random.Generator) -> CandleSeries:
    stamps = _FIRST + np.arange(rows, dtype=np.int64) * _MINUTE
    close = np.cumsum(chance.integers(-500, 501, rows)) + 50_000_0000
    prices = (close, close + 300, close - 300, close + chance.integers(-300, 300, rows))
    volume = chance.integers(0, 100_000, rows).astype(np.uint64)
    return CandleSeries.trusted(key, Columns.of(stamps, prices, volume))


async def fill(storage: Storage, series: int, rows: int, documents: int) -> None:
    chance = np.random.default_rng(1)
    for number in range(series):
        key = SeriesKey(f"S{number:05}", Timeframe.M1, exchange="KRX")
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, random_series(key, rows, chance))
            await uow.commit()
    for first in range(0, documents, 500):
        async with storage.unit_of_work() as uow:
            for number in range(first, min(first + 500, documents)):
                await uow.formulas.save(make_formula(f"formula {number}"))
            await uow.commit()


def filled(folder: Path, series: int, rows: int, documents: int) -> None:
    """In a process of its own, whose memory is none that backups take."""

    async def work() -> None:
        async with Storage.open(StorageSettings(data_dir=folder)) as storage:
            await fill(storage, series, rows, documents)

    asyncio.run(work())


def size_of(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)


async def main(series: int, rows: int, documents: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = folder / "repository"
        live = StorageSettings(data_dir=folder / "live")
        given = (folder / "live", series, rows, documents)
        filling = get_context("spawn").Process(target=filled, args=given)
        filling.start()
        await asyncio.to_thread(filling.join)
        async with Storage.open(live) as storage:
            await measured("opened", asyncio.sleep(0))
            manager = BackupManager(storage, repository)
            await measured("first", manager.create_backup(verify=False))
            await measured("second, nothing new", manager.create_backup(verify=False))
            key = SeriesKey("S00000", Timeframe.D1, exchange="KRX")
            async with storage.unit_of_work() as uow:
                day = random_series(key, 1_000, np.random.default_rng(2))
                await uow.candles.save_many(key, day)
                await uow.formulas.save(make_formula("one more"))
                await uow.commit()
            await measured("third, a little new", manager.create_backup(verify=False))
            await measured("verify --quick", manager.verify(quick=True))
            await measured("verify", manager.verify())
        clickhouse = size_of(folder / "live" / "clickhouse")
        print(json.dumps({"clickhouse_mb": clickhouse, "repository_mb": size_of(repository)}))
        async with Storage.open(StorageSettings(data_dir=folder / "other")) as storage:
            await measured("restore", BackupManager(storage, repository).restore())
            count = await storage.candles.count(SeriesKey("S00001", Timeframe.M1, exchange="KRX"))
            assert count == rows


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    asyncio.run(main(*given, *(100, 100_000, 10_000)[len(given) :]))
