"""What is stored, what is missing, and whether the stores agree about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage import SeriesKey, Storage, SymbolBars, Timeframe
from jts_storage.domain import calendar as calendar_module
from jts_storage.domain import checks
from jts_storage.domain.calendar import BY_EXCHANGE, CALENDARS, calendar_of, of_series
from jts_storage.domain.gaps import Gap
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import START, make_candles
from jts_storage.usecases.coverage import Coverage, merged
from jts_storage.usecases.quality import Action, Before, QualityPolicy, Rule, judge
from jts_storage.usecases.reconcile import Reconcile
from jts_storage.usecases.validate import ValidateCandles

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
DAY = date(2024, 1, 2)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


async def save(storage: Storage, *ranges: tuple[int, int]) -> None:
    series = make_candles(KEY, 2_000)
    async with storage.unit_of_work() as uow:
        for first, last in ranges:
            await uow.candles.save_many(KEY, series.slice(at(first), at(last)))
        await uow.commit()


async def test_missing_candles_have_two_states(storage: Storage) -> None:
    await save(storage, (0, 9), (20, 29), (40, 49))
    use_case = Coverage(storage)
    await use_case.record_empty(KEY, at(10), at(19))
    await use_case.record_empty(KEY, at(12), at(14))
    found = await use_case.of(KEY)
    assert (found.rows, found.first, found.last) == (30, at(0), at(49))
    assert found.known_empty == (Gap(at(10), at(19), 10),)
    assert found.gaps == (Gap(at(30), at(39), 10),)
    assert found.missing == 10
    assert found.complete == 30 / 40
    assert found.by_day == {DAY: 30}


async def test_a_backfill_asks_for_what_nobody_knows(storage: Storage) -> None:
    await save(storage, (10, 19))
    use_case = Coverage(storage)
    await use_case.record_empty(KEY, at(25), at(27))
    plan = await use_case.plan_backfill(KEY, at(0), at(30))
    assert [(r.start, r.end, r.bars) for r in plan] == [
        (at(0), at(9), 10),
        (at(20), at(24), 5),
        (at(28), at(30), 3),
    ]
    for part in plan:
        await use_case.record_empty(KEY, part.start, part.end)
    assert await use_case.plan_backfill(KEY, at(0), at(30)) == []


async def test_nights_and_holidays_are_not_asked_for(storage: Storage) -> None:
    plan = await Coverage(storage).plan_backfill(
        KEY, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC), calendar="XKRX"
    )
    # The first session of the year opens at ten in Seoul.
    assert plan[0].start == datetime(2024, 1, 2, 1, tzinfo=UTC)
    assert sum(r.bars for r in plan) < 391


async def test_nothing_stored_is_no_error(storage: Storage) -> None:
    found = await Coverage(storage).of(KEY)
    assert (found.rows, found.first, found.gaps, found.complete) == (0, None, (), 1.0)
    assert await Coverage(storage).keys() == []


@given(
    ranges=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 9)).map(lambda r: (r[0], r[0] + r[1]))
    ),
    step=st.integers(0, 1),
)
def test_merged_ranges_hold_the_same_and_are_apart(
    ranges: list[tuple[int, int]], step: int
) -> None:
    result = merged(ranges, step)
    held = {n for first, last in ranges for n in range(first, last + 1)}
    assert {n for first, last in result for n in range(first, last + 1)} == held
    assert all(b[0] - a[1] > step for a, b in pairwise(result))


@pytest.mark.parametrize(
    ("exchange", "calendar"),
    [
        ("KRX", "XKRX"),
        ("krx", "XKRX"),
        ("XKRX", "XKRX"),
        ("KONEX", "XKRX"),
        ("XNYS", "XNYS"),
        ("XNAS", "XNYS"),
        ("NASDAQ", "XNYS"),
        ("XASX", "XASX"),
        ("Binance", "24/7"),
        ("CRYPTO", "24/7"),
        ("FX", "24/5"),
        ("", None),
        ("MOON", None),
    ],
)
def test_exchanges_have_calendars(exchange: str, calendar: str | None) -> None:
    assert calendar_of(exchange) == calendar
    assert of_series(BY_EXCHANGE, exchange) == calendar
    assert of_series("XTKS", exchange) == "XTKS"


def test_every_name_that_the_kit_knows_is_a_calendar() -> None:
    known = set(exchange_calendars.get_calendar_names())
    assert set(CALENDARS.values()) <= known
    assert known >= calendar_module._KNOWN


@pytest.mark.parametrize(
    ("exchange", "missing"),
    [("XNAS", 0), ("KRX", 0), ("FX", 0), ("UPBIT", 2), ("nowhere", 2)],
)
async def test_a_weekend_is_no_gap_where_the_exchange_rests(
    storage: Storage, exchange: str, missing: int
) -> None:
    """Of two weeks without holidays anywhere, on each exchange only its own weekdays."""
    key = SeriesKey("A", Timeframe.D1, exchange)
    days = [datetime(2024, 3, day, tzinfo=UTC) for day in (4, 5, 6, 7, 8, 11, 12, 13, 14, 15)]
    candles = make_candles(key, len(days))
    stamped = [replace(each, timestamp=day) for each, day in zip(candles, days, strict=True)]
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, stamped)
        await uow.commit()
    found = await Coverage(storage).of(key, calendar="exchange")
    assert found.missing == missing
    judged = await ValidateCandles(storage).run(key, QualityPolicy(calendar="exchange"))
    assert judged.broken.get("off_session", 0) == 0


async def test_without_calendars_installed_the_market_never_closes(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar_module, "find_spec", lambda _: None)
    assert of_series(BY_EXCHANGE, "KRX") is None


def test_bars_beside_the_sessions_of_an_exchange_are_flagged_and_stored() -> None:
    """Unless the caller named the calendar, or what becomes of them."""
    sunday = START.replace(month=3, day=3)
    columns = make_candles(SeriesKey("A", Timeframe.D1), 1).columns
    columns = columns._replace(timestamp=np.array([checks.to_ms(sunday)]))
    old = columns._replace(timestamp=np.array([checks.to_ms(datetime(1975, 1, 5, tzinfo=UTC))]))

    def verdict(policy: QualityPolicy, of: Any = columns) -> tuple[dict[str, int], bool]:
        given = judge(of, np.zeros(1, np.bool_), Timeframe.D1, policy.of_exchange("NYSE"), Before())
        return given.counts(), bool(given.accepted[0])

    assert verdict(QualityPolicy(calendar="exchange")) == ({"off_session": 1}, True)
    assert verdict(QualityPolicy(calendar="NYSE")) == ({"off_session": 1}, False)
    strict = QualityPolicy(calendar="exchange", actions={Rule.OFF_SESSION: Action.REJECT})
    assert verdict(strict) == ({"off_session": 1}, False)
    assert verdict(QualityPolicy(calendar="exchange"), old) == ({}, True), "older than known"


async def test_stores_that_agree_have_no_disagreement(storage: Storage) -> None:
    await save(storage, (0, 9))
    async with storage.unit_of_work() as uow:
        bars = SymbolBars("005930", DAY).start_collection().add_bars(10)
        await uow.ingestion.symbol_bars.save(bars)
        await uow.ingestion.bars.save_many(KEY, make_candles(KEY, 10))
        await uow.commit()
    assert await Reconcile(storage).run(KEY) == []


async def test_raw_bars_without_candles_are_copied(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.ingestion.bars.save_many(KEY, make_candles(KEY, 10))
        await uow.commit()
    (seen,) = await Reconcile(storage).run(KEY)
    assert (seen.day, seen.raw, seen.candles) == (DAY, 10, None)
    assert await storage.candles.count(KEY) == 0, "nothing is mended unasked"
    await Reconcile(storage).run(KEY, repair=True)
    assert await storage.candles.count(KEY) == 10
    assert await Reconcile(storage).run(KEY) == []


async def test_counts_follow_the_candles_until_a_day_is_complete(storage: Storage) -> None:
    await save(storage, (0, 9))
    async with storage.unit_of_work() as uow:
        bars = SymbolBars("005930", DAY).start_collection().add_bars(7)
        await uow.ingestion.symbol_bars.save(bars)
        await uow.commit()
    await Reconcile(storage).run(KEY, repair=True)
    mended = await storage.ingestion.symbol_bars.get("005930", DAY)
    assert mended is not None
    assert mended.bar_count == 10
    async with storage.unit_of_work() as uow:
        await uow.ingestion.symbol_bars.save(mended.add_bars(1).complete())
        await uow.commit()
    (seen,) = await Reconcile(storage).run(KEY, repair=True)
    assert seen.repair is None


async def test_files_of_a_lake_are_compared_too(storage: Storage, tmp_path: Path) -> None:
    lake = ParquetStorageEngine(tmp_path)
    lake.write(
        make_candles(KEY, 11), frame=KEY.timeframe, symbol=KEY.symbol, trading_day=DAY, job_id="a"
    )
    await save(storage, (0, 9))
    (seen,) = await Reconcile(storage, lake).run(KEY, repair=True)
    assert (seen.files, seen.candles, seen.repair) == (11, 10, None)
    await save(storage, (10, 10))
    assert await Reconcile(storage, lake).run(KEY) == []
    elsewhere = SeriesKey(KEY.symbol, KEY.timeframe, "NXT")
    assert await Reconcile(storage, lake).run(elsewhere) == [], "files of another exchange"


async def test_days_that_only_files_have_are_copied(storage: Storage, tmp_path: Path) -> None:
    """Of a session that begins before midnight, each candle comes to its own day."""
    lake = ParquetStorageEngine(tmp_path)
    evening = make_candles(KEY, 120, start=datetime(2024, 1, 1, 23, tzinfo=UTC))
    lake.write(evening, frame=KEY.timeframe, symbol=KEY.symbol, trading_day=DAY, job_id="a")
    found = await Reconcile(storage, lake).run(KEY, repair=True)
    assert [(d.day, d.files, d.repair) for d in found] == [
        (date(2024, 1, 1), 60, "copy 60 rows of files to the candles"),
        (DAY, 60, "copy 60 rows of files to the candles"),
    ]
    ends = datetime(2023, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    assert await storage.candles.get_range(KEY, *ends) == evening
    assert await Reconcile(storage, lake).run(KEY) == []


async def test_stored_candles_are_validated(storage: Storage) -> None:
    series = make_candles(KEY, 100)
    volume = series.columns.volume.copy()
    volume[[3, 50]] = 0
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, {**series.to_columns(), "volume": np.array(volume)})
        await uow.commit()
    found = await ValidateCandles(storage).run(KEY)
    assert found.broken == {"zero_volume": 2}
    assert found.examples["zero_volume"] == [at(3), at(50)]
    assert not found.is_clean
    clean = await ValidateCandles(storage).run(KEY, QualityPolicy(), start=at(51), end=at(99))
    assert clean.is_clean
    assert clean.rows == 49


async def test_days_are_those_that_the_store_counts() -> None:
    key = SeriesKey("DAYS", Timeframe.M5, "KRX")
    async with Storage.in_memory() as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, make_candles(key, 700))
            await uow.commit()
        for timezone in ("UTC", "Asia/Seoul"):
            found = await Coverage(storage).of(key, timezone=timezone)
            assert found.by_day == await storage.candles.coverage_by_day(key, timezone=timezone)
            assert found.rows == 700


async def test_many_series_are_read_together_and_found_the_same(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a series is longer than a block, and one of them is not stored."""
    keys = [SeriesKey(f"S{n}", frame) for frame in (Timeframe.M1, Timeframe.D1) for n in range(4)]
    for number, key in enumerate(keys):
        async with storage.unit_of_work() as uow:
            series = make_candles(key, 40 + number)
            await uow.candles.save_many(key, series.head(10))
            await uow.candles.save_many(key, series.tail(20))
            await uow.commit()
        await Coverage(storage).record_empty(key, series[12].timestamp, series[13].timestamp)
    await storage.run(lambda uow: uow.ingestion.checkpoints.save("covered", {"empty": "no"}))
    asked = [SeriesKey("NONE", Timeframe.D1), *reversed(keys)]

    read = type(storage.candles).stream_panels
    used: list[int] = []

    def short(self: Any, *given: Any, **options: Any) -> Any:
        used.append(1)
        return read(self, *given, **options, block_rows=25)

    monkeypatch.setattr(type(storage.candles), "stream_panels", short)
    done: list[int] = []
    use_case = Coverage(storage)
    found = await use_case.of_many(asked, timezone="Asia/Seoul", progress=done.append)
    assert found == [await use_case.of(key, timezone="Asia/Seoul") for key in asked]
    assert sum(len(one.known_empty) for one in found) == len(keys)
    assert used == [1, 1]
    assert done == list(range(1, len(asked) + 1))
    assert await use_case.of_many([]) == []


async def test_days_are_those_of_the_time_zone(storage: Storage) -> None:
    """A day of New York has 23 hours when summer begins there."""
    key = SeriesKey("005930", Timeframe.H1, "KRX")
    first = datetime(2024, 3, 8, tzinfo=UTC)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(key, make_candles(key, 120, start=first))
        await uow.commit()
    found = await Coverage(storage).of(key, timezone="America/New_York")
    expected = await storage.candles.coverage_by_day(key, timezone="America/New_York")
    assert dict(found.by_day) == expected
    assert found.by_day[date(2024, 3, 10)] == 23
