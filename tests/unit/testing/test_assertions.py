"""`assert_same` tells where two things differ, and says nothing where they do not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from jts_storage import CandleSeries, SeriesKey, StopLossRule, Timeframe
from jts_storage.testing.assertions import assert_same
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_formula, make_strategy


def complaint(expected: object, actual: object, **options: list[str]) -> str:
    with pytest.raises(AssertionError) as failure:
        assert_same(expected, actual, **options)
    return str(failure.value)


def test_equal_things_pass() -> None:
    assert_same(make_candles(), make_candles())
    assert_same({"a": [make_formula()]}, {"a": (make_formula(),)})
    assert_same(None, None)


def test_series_name_the_first_rows_and_columns_that_differ() -> None:
    series = make_candles(count=100)
    candles = list(series)
    candles[3] = replace(candles[3], volume=7)
    candles[40] = replace(
        candles[40], close=candles[40].low, high=candles[40].high + Decimal("0.0001")
    )
    text = complaint(series, CandleSeries(SAMPLE_KEY, candles))
    assert "of 100 candles that both have, these differ:" in text
    assert "volume in 1 rows" in text
    assert f"2024-01-02 00:03:00+00:00: volume expected {series[3].volume}, is 7" in text
    assert f"high expected {series[40].high:.4f}, is {candles[40].high:.4f}" in text


def test_series_name_the_rows_of_one_side() -> None:
    series = make_candles(count=100)
    text = complaint(series, series[10:])
    assert "expected 100 candles, has 90" in text
    assert "missing: 10 candles, at 2024-01-02 00:00:00+00:00," in text
    assert "not expected: 10 candles" in complaint(series[10:], series)


def test_series_of_other_keys_differ() -> None:
    other = SeriesKey("000660", Timeframe.M1)
    text = complaint(make_candles(), make_candles(other))
    assert text.count("\n") == 1
    assert "expected the series KRX:005930/1m, is 000660/1m" in text


def test_nested_fields_are_named_by_their_path() -> None:
    strategy = make_strategy()
    other = replace(strategy, stop_loss_rule=StopLossRule(percentage=Decimal(3)))
    assert complaint([strategy], [other]).endswith(
        "[0].stop_loss_rule.percentage: expected Decimal('2.5'), is Decimal('3')"
    )
    assert_same(strategy, other, ignoring=["percentage"])


def test_mappings_and_lists_name_what_one_side_lacks() -> None:
    text = complaint({"a": 1, "b": [1, 2]}, {"b": [1], "c": 3})
    assert "a: missing, expected 1" in text
    assert "c: not expected, is 3" in text
    assert "b: expected 2 items, has 1" in text
    assert "b[1]: missing, expected 2" in text


def test_many_differences_are_cut_short() -> None:
    text = complaint(list(range(100)), list(range(1, 101)))
    assert text.count("\n") == 21
    assert text.endswith("...")
