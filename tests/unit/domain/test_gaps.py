"""Missing candles against a reference that walks through every expected moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain.calendar import Sessions, exchange_calendar
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import PRICES
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.gaps import Gap, expected_timestamps
from jts_storage.domain.series import CandleSeries

# exchange_calendars calls what the newest pandas deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:exchange_calendars")

START = datetime(2024, 1, 2, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEP = {
    Timeframe.M1: timedelta(minutes=1),
    Timeframe.M3: timedelta(minutes=3),
    Timeframe.M5: timedelta(minutes=5),
    Timeframe.M10: timedelta(minutes=10),
    Timeframe.M15: timedelta(minutes=15),
    Timeframe.M30: timedelta(minutes=30),
    Timeframe.H1: timedelta(hours=1),
    Timeframe.H2: timedelta(hours=2),
    Timeframe.H4: timedelta(hours=4),
    Timeframe.D1: timedelta(days=1),
    Timeframe.W1: timedelta(days=7),
}


def series_at(timeframe: Timeframe, moments: list[datetime]) -> CandleSeries:
    stamps = [(moment - EPOCH) // timedelta(milliseconds=1) for moment in moments]
    ones = np.ones(len(stamps), np.int64)
    columns = {"timestamp": stamps, "volume": ones} | dict.fromkeys(PRICES, ones)
    return CandleSeries.from_columns(SeriesKey("A", timeframe), columns)


def runs_of(expected: list[datetime], present: set[datetime]) -> list[Gap]:
    gaps: list[Gap] = []
    follows = False
    for moment in expected:
        if moment in present:
            follows = False
        elif follows:
            gaps[-1] = Gap(gaps[-1].start, moment, gaps[-1].bars + 1)
        else:
            gaps.append(Gap(moment, moment, 1))
            follows = True
    return gaps


def unbroken(first: datetime, timeframe: Timeframe) -> Iterator[datetime]:
    moment = first
    while True:
        yield moment
        if timeframe is Timeframe.MN1:
            moment = (moment.replace(day=1) + timedelta(days=32)).replace(day=1)
        else:
            moment += STEP[timeframe]


@lru_cache
def trading(name: str, timeframe: Timeframe) -> list[datetime]:
    calendar: Any = exchange_calendars.get_calendar(name, start="1990-01-01")
    grid: dict[datetime, None] = {}
    for row in calendar.schedule.loc["2023-11-01":"2024-06-30"].itertuples():
        day = row.Index.to_pydatetime().replace(tzinfo=UTC)
        if timeframe is Timeframe.D1:
            grid[day] = None
        elif timeframe is Timeframe.W1:
            grid[day - timedelta(days=day.weekday())] = None
        elif timeframe is Timeframe.MN1:
            grid[day.replace(day=1)] = None
        else:
            halves = [(row.open, row.close)]
            if row.break_start == row.break_start:  # NaT differs from itself
                halves = [(row.open, row.break_start), (row.break_end, row.close)]
            for begin, end in halves:
                moment = begin.to_pydatetime()
                while moment < end:
                    grid[moment] = None
                    moment += STEP[timeframe]
    return list(grid)


@pytest.mark.parametrize("timeframe", Timeframe)
@settings(max_examples=15)
@given(st.integers(2, 60), st.data())
def test_a_market_that_never_closes_misses_every_step(
    timeframe: Timeframe, size: int, data: st.DataObject
) -> None:
    grid = list(islice(unbroken(datetime(1969, 11, 1, tzinfo=UTC), timeframe), size))
    present = data.draw(st.sets(st.sampled_from(grid), min_size=1))
    inner = [moment for moment in grid if min(present) <= moment <= max(present)]
    assert series_at(timeframe, list(present)).gaps() == runs_of(inner, present)


@given(st.sampled_from(["XKRX", "XNYS", "XHKG"]), st.sampled_from(Timeframe), st.data())
def test_a_calendar_says_when_candles_begin(
    name: str, timeframe: Timeframe, data: st.DataObject
) -> None:
    grid = trading(name, timeframe)
    begin = data.draw(st.integers(0, len(grid) - 2))
    window = grid[begin : begin + 40]
    present = data.draw(st.sets(st.sampled_from(window), min_size=1))
    inner = [moment for moment in window if min(present) <= moment <= max(present)]
    assert series_at(timeframe, list(present)).gaps(name) == runs_of(inner, present)


@pytest.mark.parametrize("timeframe", [t for t in Timeframe if t is not Timeframe.M1])
@pytest.mark.parametrize("name", ["XKRX", "XNYS", "XHKG"])
def test_whole_sessions_resampled_have_no_gaps(name: str, timeframe: Timeframe) -> None:
    march = [m for m in trading(name, Timeframe.M1) if (m.year, m.month) == (2024, 3)]
    series = series_at(Timeframe.M1, march)
    assert series.gaps(name) == []
    assert series.resample(timeframe, calendar=name).gaps(name) == []


def test_moments_off_the_grid_neither_fill_nor_make_gaps() -> None:
    minutes = [START, START + timedelta(seconds=30), START + timedelta(minutes=2)]
    missing = START + timedelta(minutes=1)
    assert series_at(Timeframe.M1, minutes).gaps() == [Gap(missing, missing, 1)]


@pytest.mark.parametrize("moments", [[], [START]])
def test_fewer_than_two_candles_have_no_gaps(moments: list[datetime]) -> None:
    assert series_at(Timeframe.M1, moments).gaps() == []
    assert series_at(Timeframe.M1, moments).gaps("XKRX") == []


def test_a_holiday_is_no_gap() -> None:
    eve, after = datetime(2024, 2, 8, tzinfo=UTC), datetime(2024, 2, 13, tzinfo=UTC)
    days = series_at(Timeframe.D1, [eve, after])
    assert days.gaps("XKRX") == []
    assert [gap.bars for gap in days.gaps()] == [4]


def test_sessions_of_ones_own_may_end_within_a_step() -> None:
    class Short:
        name = "short"

        def sessions(self, first_ms: int, last_ms: int, /) -> Sessions:
            day = np.array([0, 86_400_000], np.int64)
            none = np.array([-1, -1], np.int64)
            return Sessions(day, day, day + 90_000, none, none)

    moments = [EPOCH, EPOCH + timedelta(days=1, minutes=1)]
    assert series_at(Timeframe.M1, moments).gaps(Short()) == [
        Gap(EPOCH + timedelta(minutes=1), EPOCH + timedelta(days=1), 2)
    ]


@pytest.mark.parametrize("name", [None, "XKRX"])
def test_expected_moments_include_both_ends(name: str | None) -> None:
    opening = 1_704_240_000_000  # 2024-01-03, 09:00 in Seoul
    calendar = exchange_calendar(name) if name else None
    found = expected_timestamps(opening, opening + 120_000, Timeframe.M1, calendar)
    assert found.tolist() == [opening, opening + 60_000, opening + 120_000]
    assert len(expected_timestamps(opening, opening, Timeframe.M1, calendar)) == 1
