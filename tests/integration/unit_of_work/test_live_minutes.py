"""A minute of a whole market in each commit: one insert, as quick after a thousand as at first."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
import pytest

from jts_storage import CandlePanel, SeriesKey, Storage, Timeframe
from jts_storage.domain.columns import Columns
from jts_storage.testing.factories import START, make_candles

SYMBOLS = 2_500
KEYS = [SeriesKey(f"S{number:05}", Timeframe.M1, "KRX") for number in range(SYMBOLS)]
MINUTE = 60_000
PARTS = (
    "SELECT count() FROM system.parts WHERE active AND table = 'candles'"
    " AND database = currentDatabase()"
)


def minute(number: int) -> CandlePanel:
    columns = make_candles(KEYS[0], SYMBOLS, start=START).columns
    stamps = np.full(SYMBOLS, columns.timestamp[0] + number * MINUTE)
    rows = Columns(stamps, *columns[1:])
    return CandlePanel.trusted(Timeframe.M1, KEYS, np.arange(SYMBOLS + 1), rows)


def parts(storage: Storage) -> int:
    return int(storage.clickhouse.execute(PARTS)[0][0])


async def commit(storage: Storage, panel: CandlePanel) -> float:
    begin = perf_counter()
    async with storage.unit_of_work() as uow:
        await uow.candles.save_panel(panel)
        await uow.commit()
    return perf_counter() - begin


async def test_a_minute_is_one_part_however_it_is_saved(storage: Storage) -> None:
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    one, other = minute(0), minute(1)
    await commit(storage, one)
    assert parts(storage) == 1
    async with storage.unit_of_work() as uow:
        for key, series in other.items():
            await uow.candles.save_many(key, list(series))
        await uow.commit()
    assert parts(storage) == 2
    ends = (one[KEYS[0]][0].timestamp, other[KEYS[0]][0].timestamp)
    found = await storage.candles.get_panel(Timeframe.M1, *ends)
    for key in (KEYS[0], KEYS[1_234], KEYS[-1]):
        assert list(found[key]) == [*one[key], *other[key]]
    assert found.rows == 2 * SYMBOLS


@pytest.mark.slow
async def test_a_thousand_minutes_leave_few_parts(storage: Storage) -> None:
    panels = [minute(number) for number in range(1_000)]
    taken, most = [], 0
    for number, panel in enumerate(panels):
        taken.append(await commit(storage, panel))
        if not number % 20:
            most = max(most, parts(storage))
    first, last = median(taken[:200]), median(taken[-200:])
    print(f"first={first:.4f} last={last:.4f} p99={sorted(taken)[989]:.4f} parts={most}")
    assert most <= 40
    count = await storage.candles.count(KEYS[7])
    assert count == 1_000
