"""Commits of more rows than stay in memory."""

from __future__ import annotations

import numpy as np
import pytest

from jts_storage import CandleSeries, SeriesKey, Storage, Timeframe
from jts_storage.clickhouse import candle_writer
from jts_storage.domain import candle_changes, checks
from jts_storage.domain.columns import Columns
from jts_storage.testing.factories import START
from jts_storage.unit_of_work import journal_format

KEYS = [SeriesKey(symbol, Timeframe.M1, "KRX") for symbol in ("000660", "005930", "AAPL")]
END = checks.from_ms(checks.to_ms(START) + 10_000 * 60_000)


def series_of(key: SeriesKey, first: int, rows: int, price: int) -> CandleSeries:
    stamps = checks.to_ms(START) + np.arange(first, first + rows) * 60_000
    prices = np.full(rows, price)
    columns = Columns.of(stamps, (prices, prices, prices, prices), np.full(rows, 1, np.uint64))
    return CandleSeries.trusted(key, columns)


@pytest.mark.parametrize("overlaps", [False, True])
async def test_a_commit_of_many_rows_stores_what_was_staged(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, overlaps: bool
) -> None:
    monkeypatch.setattr(candle_changes, "MOST_IN_MEMORY", 700)
    monkeypatch.setattr(candle_writer, "WRITE_ROWS", 400)
    monkeypatch.setattr(journal_format, "CHUNK_ROWS", 300)
    expected: dict[SeriesKey, dict[int, int]] = {key: {} for key in KEYS}
    async with storage.unit_of_work() as uow:
        for number in range(9):
            key = KEYS[number % 3]
            first = (number // 3) * (150 if overlaps else 300)
            await uow.candles.save_many(key, series_of(key, first, 300, number + 1))
            expected[key].update(dict.fromkeys(range(first, first + 300), number + 1))
        await uow.commit()
    for key in KEYS:
        found = (await storage.candles.get_range(key, START, END)).columns
        minutes = (found.timestamp - checks.to_ms(START)) // 60_000
        assert dict(zip(minutes.tolist(), found.close.tolist(), strict=True)) == expected[key]


async def test_a_unit_of_work_reads_what_waits_in_files(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_changes, "MOST_IN_MEMORY", 100)
    key = KEYS[0]
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, series_of(key, 0, 150, 1))
        await uow.candles.save_many(key, series_of(key, 150, 150, 2))
        assert await uow.candles.count(key) == 300
        await uow.candles.delete_range(key, START, checks.from_ms(checks.to_ms(START) + 59_999))
        await uow.candles.save_many(key, series_of(key, 300, 150, 3))
        assert (await uow.candles.get_latest(key)).columns.close.tolist() == [3]
        await uow.commit()
    assert await storage.candles.count(key) == 449
