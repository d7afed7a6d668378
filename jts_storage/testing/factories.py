"""Realistic entities for tests: the same arguments give the same entity, every field can be set."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.domain.enums import FormulaCategory, Market, ParameterType, Timeframe, TradeSide
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.rate_limits import Limit, PerDay, PerSecond, RateLimits
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.strategy import StopLossRule, Strategy
from jts_storage.domain.symbol import Symbol

START = datetime(2024, 1, 2, tzinfo=UTC)
"""The opening of the first Korean session of 2024, 09:00 in Seoul."""

SAMPLE_KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")


def make_candles(
    key: SeriesKey | int = SAMPLE_KEY,
    count: int = 10,
    *,
    start: datetime = START,
    seed: int = 0,
    tick: Decimal = Decimal(100),
) -> CandleSeries:
    """An unbroken series that walks at random by whole ticks; ``make_candles(500)`` is of 500."""
    if isinstance(key, int):
        return make_candles(count=key, start=start, seed=seed, tick=tick)
    random = np.random.default_rng(seed)
    step = int(tick * checks.PRICE_SCALE)
    close = np.maximum(np.cumsum(random.integers(-3, 4, count)) + 700, 10)
    opening = np.maximum(close - random.integers(-3, 4, count), 10)
    high = np.maximum(opening, close) + random.integers(0, 4, count)
    low = np.minimum(opening, close) - random.integers(0, 4, count)
    volume = random.integers(1, 1_000_000, count).astype(np.uint64)
    prices = (opening * step, high * step, low * step, close * step)
    return CandleSeries.trusted(key, Columns.of(_grid(key, start, count), prices, volume))


def _grid(key: SeriesKey, start: datetime, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    first = checks.to_ms(start)
    if key.timeframe.step_ms is not None:
        return first + np.arange(count, dtype=np.int64) * key.timeframe.step_ms
    month = np.datetime64(first, "ms").astype("M8[M]")
    months: np.ndarray[Any, Any] = month + np.arange(count)
    return months.astype("M8[ms]").astype(np.int64)


def make_symbol(code: str = "005930", **fields: Any) -> Symbol:
    defaults: dict[str, Any] = {
        "code": code,
        "name": f"Company {code}",
        "market": Market.KOSPI,
        "sector": "Tech",
    }
    return Symbol(**defaults | fields)


def make_formula(name: str = "golden cross", **fields: Any) -> Formula:
    parameters = (
        FormulaParameter("fast", ParameterType.INT, 5, 1, 50),
        FormulaParameter("slow", ParameterType.INT, 20, 2, 200),
    )
    defaults: dict[str, Any] = {
        "name": name,
        "expression": "sma(close, :fast) > sma(close, :slow)",
        "category": FormulaCategory.ENTRY,
        "description": "The fast average rises above the slow one",
        "tags": ("trend", "average"),
        "parameters": parameters,
    }
    return Formula(**defaults | fields)


def make_strategy(name: str = "trend follower", **fields: Any) -> Strategy:
    defaults: dict[str, Any] = {
        "name": name,
        "description": "Buys strength, sells weakness",
        "entry_formula_id": "a" * 24,
        "exit_formula_id": "b" * 24,
        "stop_loss_rule": StopLossRule(percentage=Decimal("2.5")),
    }
    return Strategy(**defaults | fields)


def make_trade(number: int = 0, **fields: Any) -> Trade:
    entry = START + timedelta(minutes=10 * number)
    price = Decimal(70_000) + 100 * (number % 7)
    defaults: dict[str, Any] = {
        "symbol": "005930",
        "side": TradeSide.BUY,
        "entry_time": entry,
        "entry_price": price,
        "quantity": Decimal(10),
        "exit_time": entry + timedelta(minutes=5),
        "exit_price": price + Decimal("50.25"),
        "pnl": Decimal("502.50"),
        "exit_reason": "take_profit",
    }
    return Trade(**defaults | fields)


def make_backtest(strategy_id: str = "c" * 24, *, trades: int = 3, **fields: Any) -> BacktestResult:
    defaults: dict[str, Any] = {
        "strategy_id": strategy_id,
        "run_at": START,
        "config": BacktestConfig(
            start_date=START - timedelta(days=365),
            end_date=START,
            symbols=("005930", "000660"),
            initial_capital=Decimal("10000000.50"),
        ),
        "metrics": BacktestMetrics(
            total_return_pct=12.5,
            sharpe_ratio=1.25,
            max_drawdown_pct=8.0,
            win_rate=55.5,
            profit_factor=1.75,
            total_trades=trades,
        ),
        "trades": tuple(make_trade(number) for number in range(trades)),
    }
    return BacktestResult(**defaults | fields)


def make_rate_limits(**names: Iterable[Limit]) -> RateLimits:
    """Limits of these names, or of a broker ``kis`` that a test does not have to wait for."""
    return RateLimits(
        names or {"kis": [PerSecond(1_000), PerDay(1_000_000, timezone="Asia/Seoul")]}
    )
