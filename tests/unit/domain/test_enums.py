from __future__ import annotations

from enum import Enum

import pytest

from jts_storage.domain.enums import (
    FormulaCategory,
    Market,
    Metric,
    ParameterType,
    StopLossType,
    Timeframe,
    TradeSide,
    member,
)
from jts_storage.errors import InvalidData

MINUTE = 60_000


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Market, "KOSPI KOSDAQ ETF"),
        (Timeframe, "1m 5m 15m 1h 1d 1w 1M"),
        (FormulaCategory, "scan entry exit stop_loss"),
        (ParameterType, "int float decimal string bool"),
        (StopLossType, "formula fixed_pct"),
        (TradeSide, "buy sell long short"),
    ],
)
def test_the_values_that_stores_write_stay_as_they_are(kind: type[Enum], values: str) -> None:
    assert " ".join(item.value for item in kind) == values


@pytest.mark.parametrize(
    ("timeframe", "step"),
    [
        (Timeframe.M1, MINUTE),
        (Timeframe.M5, 5 * MINUTE),
        (Timeframe.M15, 15 * MINUTE),
        (Timeframe.H1, 60 * MINUTE),
        (Timeframe.D1, 1_440 * MINUTE),
        (Timeframe.W1, 10_080 * MINUTE),
        (Timeframe.MN1, None),
    ],
)
def test_a_timeframe_knows_its_length(timeframe: Timeframe, step: int | None) -> None:
    assert timeframe.step_ms == step


def test_only_bars_shorter_than_a_day_are_intraday() -> None:
    assert [t.value for t in Timeframe if t.is_intraday] == ["1m", "5m", "15m", "1h"]


@pytest.mark.parametrize("source", Timeframe)
@pytest.mark.parametrize("target", Timeframe)
def test_a_timeframe_nests_in_those_it_divides(source: Timeframe, target: Timeframe) -> None:
    order = list(Timeframe)
    coarser = order.index(target) > order.index(source)
    # A week may belong to two months.
    assert source.nests_in(target) is (coarser and source is not Timeframe.W1)


def test_a_drawdown_is_better_the_lower_it_is() -> None:
    assert [m for m in Metric if not m.higher_is_better] == [Metric.MAX_DRAWDOWN_PCT]


def test_a_member_is_found_by_itself_and_by_its_value() -> None:
    assert member(Market, Market.ETF, "market") is Market.ETF
    assert member(Market, "ETF", "market") is Market.ETF


@pytest.mark.parametrize("value", ["NYSE", "", None, 1, ["ETF"], Timeframe.M1, "etf"])
def test_another_value_is_refused_with_those_that_exist(value: object) -> None:
    with pytest.raises(InvalidData, match="must be one of KOSPI, KOSDAQ, ETF") as caught:
        member(Market, value, "market", row=4, document="d")
    assert (caught.value.field, caught.value.row, caught.value.document) == ("market", 4, "d")
