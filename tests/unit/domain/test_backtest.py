from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.enums import TradeSide
from jts_storage.errors import InvalidData

MOMENT = datetime(2024, 1, 2, tzinfo=UTC)
LATER = MOMENT + timedelta(days=1)
ID = "a" * 24


def config(**fields: Any) -> BacktestConfig:
    values: dict[str, Any] = {
        "start_date": MOMENT,
        "end_date": LATER,
        "symbols": ["A", "B"],
        "initial_capital": Decimal("1000000.01"),
    }
    return BacktestConfig(**values | fields)


def trade(**fields: Any) -> Trade:
    values: dict[str, Any] = {
        "symbol": "A",
        "side": "buy",
        "entry_time": MOMENT,
        "entry_price": Decimal("70000.5"),
        "quantity": Decimal(10),
    }
    return Trade(**values | fields)


def result(**fields: Any) -> BacktestResult:
    values: dict[str, Any] = {"strategy_id": ID, "run_at": MOMENT, "config": config()}
    return BacktestResult(**values | fields)


def test_a_config_keeps_what_was_tested() -> None:
    made = config(data_fingerprint="jts1:00", end_date=MOMENT)
    assert made.symbols == ("A", "B")
    assert made.data_fingerprint == "jts1:00"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_date", datetime(2024, 1, 2)),
        ("end_date", datetime(2024, 1, 2)),
        ("end_date", MOMENT - timedelta(milliseconds=1)),
        ("symbols", "AB"),
        ("symbols", [""]),
        ("initial_capital", Decimal(0)),
        ("initial_capital", Decimal(-1)),
        ("initial_capital", 1000.0),
        ("data_fingerprint", ""),
    ],
)
def test_a_bad_config_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        config(**{field: value})
    assert caught.value.field == field


FIGURES = ["total_return_pct", "sharpe_ratio", "max_drawdown_pct", "win_rate", "profit_factor"]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_a_finite_float_or_undefined(figure: str) -> None:
    assert isinstance(getattr(BacktestMetrics(**{figure: 2}), figure), float)
    assert getattr(BacktestMetrics(), figure) is None
    for value in (float("nan"), float("inf"), True, "1", Decimal(1)):
        with pytest.raises(InvalidData) as caught:
            BacktestMetrics(**{figure: value})  # type: ignore[arg-type]
        assert caught.value.field == figure


def test_trades_are_counted_in_whole_numbers() -> None:
    assert BacktestMetrics(total_trades=3).total_trades == 3
    with pytest.raises(InvalidData):
        BacktestMetrics(total_trades=-1)


@given(
    st.decimals(allow_nan=False, allow_infinity=False).filter(
        lambda d: len(d.as_tuple().digits) <= 34 and abs(int(d.as_tuple().exponent)) < 6000
    )
)
def test_the_decimals_of_a_trade_stay_as_they_were_written(value: Decimal) -> None:
    kept = trade(entry_price=value, exit_price=value, pnl=value)
    assert [str(kept.entry_price), str(kept.exit_price), str(kept.pnl)] == [str(value)] * 3


def test_a_trade_is_open_until_it_has_an_exit() -> None:
    opened = trade()
    assert opened.side is TradeSide.BUY
    assert (opened.exit_time, opened.exit_price, opened.pnl, opened.exit_reason) == (None,) * 4
    closed = trade(exit_time=MOMENT, exit_price=Decimal(1), pnl=Decimal(-1), exit_reason="stop")
    assert closed.exit_time == MOMENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", ""),
        ("side", "hold"),
        ("entry_time", datetime(2024, 1, 2)),
        ("entry_price", 1.5),
        ("quantity", Decimal(0)),
        ("quantity", Decimal("0.1234567890123456")),
        ("exit_time", datetime(2024, 1, 3)),
        ("exit_time", MOMENT - timedelta(milliseconds=1)),
        ("exit_price", Decimal("NaN")),
        ("pnl", Decimal("Infinity")),
        ("exit_reason", "a\0"),
    ],
)
def test_a_bad_trade_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        trade(**{field: value})
    assert caught.value.field == field


def test_a_result_keeps_its_trades_in_order() -> None:
    trades = [trade(symbol="B"), trade(symbol="A")]
    made = result(trades=trades, id=ID.upper())
    assert made.trades == tuple(trades)
    assert made.id == ID
    assert made.metrics == BacktestMetrics()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "x"),
        ("strategy_id", "x"),
        ("strategy_id", None),
        ("run_at", datetime(2024, 1, 2)),
        ("config", {}),
        ("metrics", None),
        ("trades", None),
        ("trades", [None]),
    ],
)
def test_a_bad_result_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        result(**{field: value})
    assert caught.value.field == field


def test_a_bad_trade_of_a_result_is_named_by_its_row() -> None:
    with pytest.raises(InvalidData, match="row 1, field 'trades': must be a Trade"):
        result(trades=[trade(), "trade"])
