"""A job of the Parquet store goes into the table of candles, and into memory alike."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import InvalidData, NotFound
from jts_storage.lake import ParquetStorageEngine
from jts_storage.sync import Storage as BlockingStorage
from jts_storage.testing.factories import START, make_candles
from jts_storage.unit_of_work.timed_candles import TakesLakes

A = SeriesKey("A", Timeframe.M1, "KRX")
B = SeriesKey("B", Timeframe.M1, "KRX")


def filled(root: Path) -> ParquetStorageEngine:
    lake = ParquetStorageEngine(root)
    for key, day in ((A, 0), (A, 1), (B, 0)):
        start = START + timedelta(days=day)
        lake.write(
            make_candles(key, 100, start=start),
            frame="1m",
            symbol=key.symbol,
            trading_day=start.date(),
            job_id="job",
        )
    return lake


async def imported(candles: TakesLakes, lake: ParquetStorageEngine) -> None:
    for _ in range(2):  # repeating it is harmless
        assert await candles.import_lake(lake, "job") == 300
    assert await candles.count(A) == 200
    day = START, START + timedelta(days=1) - timedelta(minutes=1)
    assert await candles.get_range(A, *day) == make_candles(A, 100)
    assert await candles.get_range(B, *day) == make_candles(B, 100)
    with pytest.raises(NotFound, match="nothing"):
        await candles.import_lake(lake, "nothing")


async def test_into_clickhouse(tmp_path: Path) -> None:
    manager = ClickHouseManager(embedded_path=":memory:", database="import_lake_test")
    tables.build().metadata.create_all(manager.engine)
    manager.execute("TRUNCATE TABLE candles")
    await imported(ClickHouseCandleRepository(manager), filled(tmp_path))
    manager.close()


async def test_into_memory(tmp_path: Path) -> None:
    async with Storage.in_memory() as storage:
        await imported(storage.candles, filled(tmp_path))


def test_from_blocking_code(tmp_path: Path) -> None:
    with BlockingStorage.in_memory() as storage:
        assert storage.candles.import_lake(filled(tmp_path), "job") == 300


@pytest.mark.parametrize("where", ["memory", "embedded", "through Arrow"])
async def test_a_flipped_bit_is_refused(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = ParquetStorageEngine(tmp_path / "lake", compression="none")
    candles = make_candles(A, 500)
    day = START.date()
    path = lake.write(candles, frame="1m", symbol="A", trading_day=day, job_id="job")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 1
    path.write_bytes(whole)
    async with Storage.in_memory() as storage:
        target: TakesLakes = storage.candles
        manager = None
        if where != "memory":
            if where == "through Arrow":
                monkeypatch.setattr("jts_storage.clickhouse.parquet._is_ours", lambda *_: False)
            manager = ClickHouseManager(embedded_path=":memory:", database="flipped_test")
            tables.build().metadata.create_all(manager.engine)
            target = ClickHouseCandleRepository(manager)
        with pytest.raises(InvalidData, match=path.name):
            await target.import_lake(lake, "job")
        assert await target.count(candles.key) == 0
        if manager is not None:
            manager.execute("DROP DATABASE flipped_test")
            manager.close()
