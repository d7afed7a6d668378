from __future__ import annotations

import copy
import pickle
from enum import Enum
from typing import Any

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
        (Market, "KOSPI KOSDAQ ETF KONEX NYSE NASDAQ CRYPTO FX OTHER"),
        (Timeframe, "1m 3m 5m 10m 15m 30m 1h 2h 4h 1d 1w 1M"),
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
        (Timeframe.M3, 3 * MINUTE),
        (Timeframe.M5, 5 * MINUTE),
        (Timeframe.M10, 10 * MINUTE),
        (Timeframe.M15, 15 * MINUTE),
        (Timeframe.M30, 30 * MINUTE),
        (Timeframe.H1, 60 * MINUTE),
        (Timeframe.H2, 120 * MINUTE),
        (Timeframe.H4, 240 * MINUTE),
        (Timeframe.D1, 1_440 * MINUTE),
        (Timeframe.W1, 10_080 * MINUTE),
        (Timeframe.MN1, None),
    ],
)
def test_a_timeframe_knows_its_length(timeframe: Timeframe, step: int | None) -> None:
    assert timeframe.step_ms == step


def test_only_bars_shorter_than_a_day_are_intraday() -> None:
    short = "1m 3m 5m 10m 15m 30m 1h 2h 4h"
    assert " ".join(t.value for t in Timeframe if t.is_intraday) == short


@pytest.mark.parametrize("source", Timeframe)
@pytest.mark.parametrize("target", Timeframe)
def test_a_timeframe_nests_in_those_it_divides(source: Timeframe, target: Timeframe) -> None:
    order = list(Timeframe)
    coarser = order.index(target) > order.index(source)
    # A week may belong to two months, and ten minutes to two quarters of an hour.
    straddles = {
        (Timeframe.M3, Timeframe.M5),
        (Timeframe.M3, Timeframe.M10),
        (Timeframe.M10, Timeframe.M15),
        (Timeframe.W1, Timeframe.MN1),
    }
    assert source.nests_in(target) is (coarser and (source, target) not in straddles)


def test_a_drawdown_is_better_the_lower_it_is() -> None:
    assert [m for m in Metric if not m.higher_is_better] == [Metric.MAX_DRAWDOWN_PCT]


def test_a_member_is_found_by_itself_and_by_its_value() -> None:
    assert member(Market, Market.ETF, "market") is Market.ETF
    assert member(Market, "ETF", "market") is Market.ETF


def test_a_market_of_ones_own_is_one_object_and_known_by_its_text() -> None:
    mine = Market.own("SPOT")
    assert (mine.value, mine.name, str(mine)) == ("SPOT", "SPOT", "Market.SPOT")
    assert Market.own("SPOT") is mine
    assert Market.own("KOSPI") is Market.KOSPI
    assert member(Market, mine, "market") is mine
    assert pickle.loads(pickle.dumps(mine)) is mine
    assert pickle.loads(pickle.dumps(Market.ETF)) is Market.ETF
    assert copy.deepcopy(mine) is mine
    assert {mine: 1}[Market.own("SPOT")] == 1
    assert mine not in list(Market)
    with pytest.raises(ValueError, match="SPOT"):
        Market("SPOT")


@pytest.mark.parametrize("text", ["", " KOSPI", "a\nb", "x" * 65, None, 1])
def test_what_is_no_name_is_no_market(text: Any) -> None:
    with pytest.raises(InvalidData) as caught:
        Market.own(text)
    assert caught.value.field == "market"


def test_a_market_that_may_be_misspelled_is_not_made() -> None:
    with pytest.raises(InvalidData, match=r"Market\.own") as caught:
        member(Market, "KOPSI", "market")
    assert caught.value.value == "KOPSI"


@pytest.mark.parametrize("value", ["MARS", "", None, 1, ["ETF"], Timeframe.M1, "etf"])
def test_another_value_is_refused_with_those_that_exist(value: object) -> None:
    with pytest.raises(InvalidData, match="must be one of KOSPI, KOSDAQ, ETF") as caught:
        member(Market, value, "market", row=4, document="d")
    assert (caught.value.field, caught.value.row, caught.value.document) == ("market", 4, "d")
