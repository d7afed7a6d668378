"""A series against a plain dict of candles by timestamp."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries

KEY = SeriesKey("A", Timeframe.M1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

moments = st.integers(-15, 15).map(lambda second: EPOCH + timedelta(seconds=second))
prices = st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-4))
volumes = st.integers(0, 2**64 - 1)


@st.composite
def candle_strategy(draw: st.DrawFn) -> Candle:
    low, opening, close, high = sorted(draw(st.tuples(*[prices] * 4)))
    if draw(st.booleans()):
        opening, close = close, opening
    return Candle(draw(moments), opening, high, low, close, draw(volumes))


batches = st.lists(candle_strategy(), max_size=12)
Model = dict[datetime, Candle]


def model_of(candles: list[Candle]) -> Model:
    return dict(sorted({candle.timestamp: candle for candle in candles}.items()))


def rows(model: Model) -> list[Candle]:
    return [model[moment] for moment in sorted(model)]


@given(batches)
def test_a_series_holds_what_a_dict_would(candles: list[Candle]) -> None:
    model = model_of(candles)
    series = CandleSeries(KEY, candles)
    assert list(series) == rows(model)
    assert list(reversed(series)) == rows(model)[::-1]
    assert len(series) == len(model)
    assert [series[i] for i in range(-len(model), 0)] == rows(model)
    assert all(series.index(candle) == i for i, candle in enumerate(rows(model)))
    assert all((candle in series) == (model[candle.timestamp] == candle) for candle in candles)


@given(batches, batches)
def test_merging_is_updating(first: list[Candle], second: list[Candle]) -> None:
    merged = CandleSeries(KEY, first).merge(CandleSeries(KEY, second))
    assert list(merged) == rows(model_of(first) | model_of(second))


@given(batches, st.tuples(moments, moments).map(sorted))
def test_slice_includes_both_ends(candles: list[Candle], ends: list[datetime]) -> None:
    start, end = ends
    expected = [c for c in rows(model_of(candles)) if start <= c.timestamp <= end]
    assert list(CandleSeries(KEY, candles).slice(start, end)) == expected


@given(batches, st.none() | moments, st.none() | moments)
def test_between_excludes_the_end(
    candles: list[Candle], start: datetime | None, end: datetime | None
) -> None:
    expected = [
        c
        for c in rows(model_of(candles))
        if (start is None or start <= c.timestamp) and (end is None or c.timestamp < end)
    ]
    assert list(CandleSeries(KEY, candles).between(start, end)) == expected


@given(batches, st.integers(-15, 15) | st.none(), st.integers(-15, 15) | st.none())
def test_slicing_by_rows_is_that_of_a_list(
    candles: list[Candle], start: int | None, stop: int | None
) -> None:
    assert list(CandleSeries(KEY, candles)[start:stop]) == rows(model_of(candles))[start:stop]


@given(batches)
def test_columns_go_out_and_come_back(candles: list[Candle]) -> None:
    series = CandleSeries(KEY, candles)
    assert CandleSeries.from_columns(KEY, series.to_columns()) == series
    assert CandleSeries.from_candles(KEY, list(series)) == series
