"""Series and symbols become columns and rows of ClickHouse, and come back as they went."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from jts_storage.clickhouse import candle_mappers as mappers
from jts_storage.clickhouse import symbol_model, tables
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
OTHER = SeriesKey("AAPL", Timeframe.D1, "NASDAQ")
CANDLES = tables.build().candles
NAMES = ("open", "high", "low", "close")


def result_of(series: CandleSeries, **further: Any) -> dict[str, Any]:
    """As a query gives it: the names are the query's, times and volumes signed or not."""
    columns = series.columns
    prices = {f"{name}_": getattr(columns, name) for name in NAMES}
    return {"ms": columns.timestamp, **prices, "volume": columns.volume, **further}


def together(*series: CandleSeries) -> SeriesRows:
    return SeriesRows.joined(list(map(SeriesRows.of, series)))


def flags(*is_deleted: int) -> Any:
    return np.array(is_deleted, np.uint8)


# To columns


def test_a_series_becomes_columns_of_the_table() -> None:
    series = make_candles(KEY, 3)
    columns = mappers.rows_to_columns(CANDLES, SeriesRows.of(series), version=7)
    assert [(name, column.type) for name, column in columns.items()] == [
        ("symbol", "LowCardinality(String)"),
        ("exchange", "LowCardinality(String)"),
        ("timeframe", "LowCardinality(String)"),
        ("timestamp", "DateTime64(3, 'UTC')"),
        ("open", "Decimal(18, 4)"),
        ("high", "Decimal(18, 4)"),
        ("low", "Decimal(18, 4)"),
        ("close", "Decimal(18, 4)"),
        ("volume", "UInt64"),
        ("version", "UInt64"),
    ]
    values = {name: column.values for name, column in columns.items()}
    assert (values["symbol"], values["exchange"], values["timeframe"]) == ("005930", "KRX", "1m")
    assert values["version"] == 7
    for name in ("timestamp", *NAMES, "volume"):
        assert values[name] is getattr(series.columns, name), "not copied"


def test_several_series_lie_one_behind_the_other() -> None:
    one, other = make_candles(KEY, 2), make_candles(OTHER, 3, seed=1)
    values: Any = {
        name: column.values
        for name, column in mappers.rows_to_columns(
            CANDLES, together(one, other), version=7
        ).items()
    }
    assert list(values["symbol"].to_array()) == ["005930"] * 2 + ["AAPL"] * 3
    assert list(values["exchange"].to_array()) == ["KRX"] * 2 + ["NASDAQ"] * 3
    assert list(values["timeframe"].to_array()) == ["1m"] * 2 + ["1d"] * 3
    for name in ("timestamp", *NAMES, "volume"):
        expected = [*getattr(one.columns, name), *getattr(other.columns, name)]
        assert list(values[name]) == expected


def test_what_all_series_share_is_told_once() -> None:
    same = SeriesKey("AAPL", Timeframe.M1, "KRX")
    rows = together(make_candles(KEY, 2), make_candles(same, 1))
    columns = mappers.rows_to_columns(CANDLES, rows, version=7)
    assert (columns["exchange"].values, columns["timeframe"].values) == ("KRX", "1m")
    assert list(columns["symbol"].values.to_array()) == ["005930", "005930", "AAPL"]


# From columns


def test_a_result_comes_back_as_the_series() -> None:
    series = make_candles(KEY, 5)
    assert mappers.series_from_columns(KEY, result_of(series)) == series
    assert mappers.series_from_columns(KEY, result_of(series, more=series.columns.open)) == series
    unsigned = result_of(series)
    unsigned["ms"] = unsigned["ms"].view(np.uint64)
    unsigned["volume"] = unsigned["volume"].view(np.int64)
    found = mappers.series_from_columns(KEY, unsigned)
    assert found == series
    assert found.columns.timestamp.dtype == np.dtype(np.int64)
    assert found.columns.volume.dtype == np.dtype(np.uint64)
    assert mappers.series_from_columns(KEY, {}) == CandleSeries.empty(KEY)


def test_rows_by_time_are_a_series_but_for_those_that_say_deleted() -> None:
    series = make_candles(KEY, 4)
    assert mappers.series_from_rows(KEY, result_of(series, deleted=flags(0, 0, 0, 0))) == series
    found = mappers.series_from_rows(KEY, result_of(series, deleted=flags(1, 0, 1, 0)))
    assert found is not None
    assert list(found) == [series[1], series[3]]
    assert mappers.series_from_rows(KEY, {}) == CandleSeries.empty(KEY)
    one = mappers.series_from_rows(KEY, result_of(series[:1], deleted=flags(1)))
    assert one == CandleSeries.empty(KEY)


@pytest.mark.parametrize("order", [[0, 1, 1, 2], [0, 0, 1, 2], [0, 1, 2, 2], [0, 2, 1, 3]])
def test_rows_of_which_several_are_of_one_time_are_no_series_yet(order: list[int]) -> None:
    rows = {name: column[order] for name, column in result_of(make_candles(KEY, 4)).items()}
    assert mappers.series_from_rows(KEY, rows | {"deleted": flags(0, 0, 0, 0)}) is None


def test_no_rows_of_an_end_are_an_empty_series() -> None:
    none = result_of(CandleSeries.empty(KEY), deleted=flags(), version=np.array([], np.uint64))
    for is_cut in (False, True):
        assert mappers.series_from_end(KEY, {}, is_cut=is_cut) == CandleSeries.empty(KEY)
        assert mappers.series_from_end(KEY, none, is_cut=is_cut) == CandleSeries.empty(KEY)


# Symbols


@pytest.mark.parametrize("sector", ["Tech", None])
@pytest.mark.parametrize("is_active", [True, False])
def test_symbols_come_back_as_they_went(sector: str | None, is_active: bool) -> None:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    symbol = Symbol("005930", "Samsung", Market.KOSDAQ, sector, is_active, moment)
    row = symbol_model.symbol_to_row(symbol)
    assert row == {
        "code": "005930",
        "name": "Samsung",
        "market": "KOSDAQ",
        "sector": sector or "",
        "is_active": int(is_active),
        "updated_at": moment,
    }
    assert type(row["is_active"]) is int
    assert symbol_model.symbol_from_row(row) == symbol


def test_a_market_that_is_none_is_told_with_the_symbol() -> None:
    with pytest.raises(InvalidData) as caught:
        symbol_model.symbol_from_row(
            {"code": "005930", "name": "Samsung", "market": "", "sector": "", "is_active": 1}
        )
    assert (caught.value.document, caught.value.field) == ("005930", "market")
