"""Commits of candles: whole to every reader, the later wins, the first ones too."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.domain.events import CandlesImported
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points

KEY = SeriesKey("005930", Timeframe.D1, "KRX")


async def test_the_first_commits_of_a_database_do_not_get_into_each_others_way(
    storage: Storage,
) -> None:
    async def commit(number: int) -> None:
        key = SeriesKey(f"FIRST{number}", Timeframe.M1)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, make_candles(key, 1))
            await uow.formulas.save(make_formula(key.symbol))
            uow.events.add(CandlesImported(series=key, rows=1))
            await uow.commit()

    await asyncio.gather(*map(commit, range(8)))
    assert len(await storage.candles.list_keys()) == len(await storage.formulas.list()) == 8


async def test_the_clock_is_ahead_of_what_earlier_releases_wrote(storage: Storage) -> None:
    other = ClickHouseCandleRepository(storage.clickhouse)
    old, new = make_candles(KEY, 10, seed=1), make_candles(KEY, 10, seed=2)
    for is_journalled in (False, True):
        other.write(old, time.time_ns() + 10**13)  # by a host whose clock is hours ahead
        await storage.recover()
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, new)
            if is_journalled:
                await uow.formulas.save(make_formula())
            await uow.commit()
        assert await storage.candles.get_latest(KEY, 10) == new


@pytest.mark.parametrize("by_year", [False, True])
async def test_rows_of_several_partitions_take_the_journal(
    storage: Storage, by_year: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_year:
        storage.clickhouse.execute("DROP TABLE candles SYNC")
        built = tables.build(partition_by_year=True)
        built.metadata.tables["candles"].create(storage.clickhouse.engine)
        storage._backend.stores.candles._is_ours = False  # type: ignore[attr-defined]
    points: list[str] = []
    monkeypatch.setattr(commit_points, "reached", points.append)
    for start, is_journalled in ((2020, False), (2023, by_year)):
        points.clear()
        days = make_candles(
            KEY, 300, start=datetime(start, 3 if start == 2020 else 9, 1, tzinfo=UTC)
        )
        years = {day.timestamp.year for day in days}
        assert len(years) == (1 if start == 2020 else 2)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, days)
            await uow.commit()
        assert ("decided" in points) == is_journalled
        assert await storage.candles.get_range(KEY, days[0].timestamp, days[-1].timestamp) == days
