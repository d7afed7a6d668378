"""Coarser candles against a slow reference that looks at one candle at a time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.domain.calendar import Sessions
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.columns import PRICES
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData

# exchange_calendars calls what the newest pandas deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:exchange_calendars")

ZONES = [
    "UTC",
    "Asia/Seoul",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Pacific/Apia",
]
# Moments around which a clock somewhere above changes, or a day is left out (Apia, 2011).
TURNS = [
    datetime(1969, 12, 31, 12, tzinfo=UTC),
    datetime(2006, 10, 29, 2, 31, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2024, 3, 10, 7, tzinfo=UTC),
    datetime(2024, 3, 10, 3, 30, tzinfo=UTC),
    datetime(2024, 4, 6, 15, tzinfo=UTC),
    datetime(2024, 4, 14, 2, tzinfo=UTC),
    datetime(2024, 11, 3, 6, tzinfo=UTC),
    datetime(2024, 12, 31, 15, tzinfo=UTC),
]
STEP = {
    Timeframe.M3: timedelta(minutes=3),
    Timeframe.M5: timedelta(minutes=5),
    Timeframe.M10: timedelta(minutes=10),
    Timeframe.M15: timedelta(minutes=15),
    Timeframe.M30: timedelta(minutes=30),
    Timeframe.H1: timedelta(hours=1),
    Timeframe.H2: timedelta(hours=2),
    Timeframe.H4: timedelta(hours=4),
}


def candles_at(moments: list[datetime]) -> list[Candle]:
    return [
        Candle(
            moment,
            Decimal(number % 7),
            Decimal(10 + number % 5),
            Decimal(-number % 3 - 4),
            Decimal(number % 4),
            number,
        )
        for number, moment in enumerate(sorted(moments))
    ]


def series_at(timeframe: Timeframe, moments: list[datetime]) -> CandleSeries:
    return CandleSeries(SeriesKey("A", timeframe, "X"), candles_at(moments))


def joined(groups: dict[datetime, list[Candle]]) -> list[Candle]:
    return [
        Candle(
            stamp,
            group[0].open,
            max(candle.high for candle in group),
            min(candle.low for candle in group),
            group[-1].close,
            sum(candle.volume for candle in group),
        )
        for stamp, group in sorted(groups.items())
    ]


def period(day: date, target: Timeframe) -> datetime:
    if target is Timeframe.W1:
        day -= timedelta(days=day.weekday())
    if target is Timeframe.MN1:
        day = day.replace(day=1)
    return datetime.combine(day, time(), UTC)


def expected(
    candles: list[Candle], target: Timeframe, zone: tzinfo = UTC, calendar: Any = None
) -> list[Candle]:
    groups: dict[datetime, list[Candle]] = {}
    for candle in candles:
        groups.setdefault(stamp_of(candle.timestamp, target, zone, calendar), []).append(candle)
    return joined(groups)


def stamp_of(moment: datetime, target: Timeframe, zone: tzinfo, calendar: Any) -> datetime:
    if calendar is not None:
        row = next(row for row in sessions_near(calendar, moment) if moment <= row.close)
        if target not in STEP:
            return period(row.Index.date(), target)
        base = row.open
        if row.break_end == row.break_end and moment >= row.break_end:  # NaT differs from itself
            base = row.break_end
        steps = (moment - base.to_pydatetime()) // STEP[target]
        start: datetime = base.to_pydatetime() + steps * STEP[target]
        return start
    if target in STEP:
        return checks.EPOCH + (moment - checks.EPOCH) // STEP[target] * STEP[target]
    return period(moment.astimezone(zone).date(), target)


def sessions_near(calendar: Any, moment: datetime) -> Any:
    day = moment.date()
    near = calendar.schedule.loc[str(day - timedelta(days=5)) : str(day + timedelta(days=15))]
    return near.itertuples()


@st.composite
def moments_strategy(draw: st.DrawFn, around: list[datetime], days: int) -> list[datetime]:
    centre = draw(st.sampled_from(around))
    minutes = st.integers(-days * 1_440, days * 1_440)
    near = st.integers(-200, 200)
    return [
        centre + timedelta(minutes=minute)
        for minute in draw(st.sets(minutes | near, min_size=1, max_size=30))
    ]


coarser = st.sampled_from([t for t in Timeframe if t is not Timeframe.M1])


@given(moments_strategy(TURNS, 40), coarser, st.sampled_from(ZONES))
def test_days_weeks_and_months_are_those_of_the_zone(
    moments: list[datetime], target: Timeframe, zone: str
) -> None:
    series = series_at(Timeframe.M1, moments)
    resampled = series.resample(target, timezone=zone)
    assert list(resampled) == expected(list(series), target, ZoneInfo(zone))
    assert resampled.key == SeriesKey("A", target, "X")


@pytest.mark.parametrize("zone", ["America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"])
def test_every_minute_of_a_day_on_which_the_clock_changes_finds_its_day(zone: str) -> None:
    for turn in TURNS:
        start = turn.replace(hour=0, minute=0) - timedelta(days=1)
        series = series_at(Timeframe.M1, [start + timedelta(minutes=m) for m in range(0, 4_320, 7)])
        assert list(series.resample(Timeframe.D1, timezone=zone)) == expected(
            list(series), Timeframe.D1, ZoneInfo(zone)
        )


@given(
    moments_strategy([datetime(2024, 1, 1, tzinfo=UTC), datetime(1969, 12, 29, tzinfo=UTC)], 800),
    st.sampled_from([Timeframe.W1, Timeframe.MN1]),
)
def test_days_make_up_weeks_from_monday_and_months(
    moments: list[datetime], target: Timeframe
) -> None:
    days = {moment.replace(hour=0, minute=0) for moment in moments}
    series = series_at(Timeframe.D1, list(days))
    assert list(series.resample(target)) == expected(list(series), target)
    # Dates are dates: neither a zone nor a calendar moves them.
    assert series.resample(target, timezone="Asia/Seoul", calendar="XNYS") == series.resample(
        target
    )


SESSION_TURNS = {
    "XKRX": [datetime(2023, 11, 16, 1, tzinfo=UTC), datetime(2024, 2, 8, 6, tzinfo=UTC)],
    "XNYS": [datetime(2024, 3, 10, 15, tzinfo=UTC), datetime(2024, 7, 3, 17, tzinfo=UTC)],
    "XHKG": [datetime(2024, 1, 2, 4, tzinfo=UTC), datetime(2024, 2, 9, 4, tzinfo=UTC)],
}


@given(st.data(), st.sampled_from(sorted(SESSION_TURNS)), coarser)
def test_bars_are_aligned_to_sessions(data: st.DataObject, name: str, target: Timeframe) -> None:
    moments = data.draw(moments_strategy(SESSION_TURNS[name], 4))
    series = series_at(Timeframe.M1, moments)
    calendar = exchange_calendars.get_calendar(name, start="1990-01-01")
    resampled = series.resample(target, calendar=name)
    assert list(resampled) == expected(list(series), target, calendar=calendar)


def test_a_closing_auction_belongs_to_the_session_that_it_closes() -> None:
    close = datetime(2024, 1, 2, 6, 30, tzinfo=UTC)
    series = series_at(Timeframe.M1, [close, close + timedelta(minutes=1)])
    days = series.resample(Timeframe.D1, calendar="XKRX")
    assert [candle.timestamp.day for candle in days] == [2, 3]


def test_the_afternoon_is_counted_from_the_end_of_the_break() -> None:
    opening, noon = datetime(2024, 1, 2, 1, 30, tzinfo=UTC), datetime(2024, 1, 2, 5, tzinfo=UTC)
    series = series_at(Timeframe.M1, [opening, noon, noon + timedelta(minutes=59)])
    hours = series.resample(Timeframe.H1, calendar="XHKG")
    assert [candle.timestamp for candle in hours] == [opening, noon]


def test_a_calendar_of_ones_own_is_asked_for_the_range() -> None:
    class OneSession:
        name = "mine"
        asked: tuple[int, int] | None = None

        def sessions(self, first_ms: int, last_ms: int, /) -> Sessions:
            self.asked = first_ms, last_ms
            one = np.array([0], np.int64)
            return Sessions(one, one + 1_000, one + 10_000_000, one - 1, one - 1)

    calendar = OneSession()
    moments = [checks.from_ms(1_000), checks.from_ms(10_000_000)]
    days = series_at(Timeframe.M1, moments).resample(Timeframe.D1, calendar=calendar)
    assert calendar.asked == (1_000, 10_000_000)
    assert [candle.timestamp for candle in days] == [checks.EPOCH]
    with pytest.raises(InvalidData, match="after the last session") as caught:
        series_at(Timeframe.M1, [*moments, checks.from_ms(10_000_001)]).resample(
            Timeframe.D1, calendar=calendar
        )
    assert caught.value.row == 2


def test_every_zone_of_the_standard_library_is_taken() -> None:
    moment = datetime(2024, 1, 2, 20, tzinfo=UTC)
    series = series_at(Timeframe.M1, [moment])
    for zone in ("Asia/Seoul", ZoneInfo("Asia/Seoul"), timezone(timedelta(hours=9))):
        assert series.resample(Timeframe.D1, timezone=zone)[0].timestamp.day == 3


@pytest.mark.parametrize("zone", ["", "Nowhere/City", "America", "../UTC", "x" * 500, "a\0b"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidData, match="is no time zone"):
        series_at(Timeframe.M1, []).resample(Timeframe.D1, timezone=zone)


@pytest.mark.parametrize(
    ("source", "target"),
    [("5m", "5m"), ("1h", "15m"), ("1d", "1h"), ("1w", "1M"), ("1M", "1w"), ("1M", "1M")],
)
def test_what_does_not_make_up_whole_bars_is_refused(source: str, target: str) -> None:
    series = series_at(Timeframe(source), [])
    with pytest.raises(InvalidData, match=f"candles of {source} cannot make up {target}"):
        series.resample(Timeframe(target))


def test_an_unknown_timeframe_is_refused() -> None:
    with pytest.raises(InvalidData, match="must be one of"):
        series_at(Timeframe.M1, []).resample("2m")  # type: ignore[arg-type]


def test_nothing_makes_up_nothing() -> None:
    assert len(series_at(Timeframe.M1, []).resample(Timeframe.D1, calendar="XKRX")) == 0


def with_volumes(*volumes: int) -> CandleSeries:
    columns = {"timestamp": [60_000 * row for row in range(len(volumes))], "volume": volumes}
    prices = dict.fromkeys(PRICES, np.ones(len(volumes), np.int64))
    return CandleSeries.from_columns(SeriesKey("A", Timeframe.M1), columns | prices)


def test_volumes_add_up_to_the_last_unit() -> None:
    volumes = (2**64 - 3, 1, 1, 0, 0, 2**63, 2**63 - 1)
    bars = with_volumes(*volumes).resample(Timeframe.M5)
    assert [bar.volume for bar in bars] == [2**64 - 1, 2**64 - 1]


@pytest.mark.parametrize(
    "volumes", [(2**64 - 1, 1), (2**63, 2**63), (2**64 - 1,) * 5, (0, 0, 0, 0, 0, 2**63, 2**63)]
)
def test_volumes_that_add_up_to_too_much_are_refused(volumes: tuple[int, ...]) -> None:
    with pytest.raises(InvalidData, match="more than 2") as caught:
        with_volumes(*volumes).resample(Timeframe.M5)
    assert caught.value.field == "volume"


def test_a_bar_at_midnight_is_of_the_day_that_begins_where_sessions_touch() -> None:
    """Currencies trade around the clock: each session begins as the one before it closes."""
    hours = [datetime(2024, 3, 5, tzinfo=UTC) + timedelta(hours=n) for n in range(-3, 30)]
    bars = series_at(Timeframe.H1, hours)
    days = bars.resample(Timeframe.D1, calendar="FX")
    volumes = [bar.volume for bar in bars]
    assert [(bar.timestamp.day, bar.volume) for bar in days] == [
        (4, sum(volumes[:3])),
        (5, sum(volumes[3:27])),
        (6, sum(volumes[27:])),
    ]
