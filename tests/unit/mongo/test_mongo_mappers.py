"""What goes out as BSON comes back equal: no server and no Beanie needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.enums import FormulaCategory, ParameterType, TradeSide
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.errors import InvalidData
from jts_storage.mongo import mappers
from jts_storage.mongo.documents import BacktestDocument, FormulaDocument, StrategyDocument
from jts_storage.mongo.stored import CODEC

ids = st.binary(min_size=12, max_size=12).map(bytes.hex)
words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
moments = st.integers(-2_208_988_800_000, 10_413_791_999_999).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
decimals = st.builds(
    lambda digits, exponent: Decimal(f"{digits}E{exponent}"),
    st.integers(-(10**34) + 1, 10**34 - 1),
    st.integers(-20, 20) | st.integers(-5_900, 5_900),
)
percentages = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(1, 10**15 - 1),
    st.integers(13, 25),
)
figures = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def wired(document: dict[str, Any]) -> dict[str, Any]:
    """As the server would give it back."""
    return bson.decode(bson.encode(document), CODEC)


def formula_of(stored: dict[str, Any]) -> Formula:
    return mappers.read_stored(FormulaDocument, mappers.formula_from_document, stored)


def strategy_of(stored: dict[str, Any]) -> Strategy:
    return mappers.read_stored(StrategyDocument, mappers.strategy_from_document, stored)


def backtest_of(stored: dict[str, Any]) -> BacktestResult:
    return mappers.read_stored(BacktestDocument, mappers.backtest_from_document, stored)


parameters = st.one_of(
    st.builds(
        lambda v: FormulaParameter("p", ParameterType.INT, v, -(2**63), 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
    ),
    st.builds(
        lambda v: FormulaParameter("p", ParameterType.FLOAT, v),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1),
    ),
    st.builds(lambda v: FormulaParameter("p", ParameterType.DECIMAL, v, v, v), decimals),
    st.builds(lambda v: FormulaParameter("p", ParameterType.STRING, v), words),
    st.builds(lambda v: FormulaParameter("p", ParameterType.BOOL, v), st.none() | st.booleans()),
)


@given(
    st.builds(
        Formula,
        id=ids,
        name=words,
        expression=words,
        category=st.sampled_from(FormulaCategory),
        description=st.none() | words,
        tags=st.lists(words).map(tuple),
        parameters=parameters.map(lambda parameter: (parameter,)),
        version=st.integers(1, 2**63 - 1),
        created_at=st.none() | moments,
        updated_at=st.none() | moments,
    )
)
def test_formulas_come_back_equal(formula: Formula) -> None:
    found = formula_of(wired(mappers.formula_to_stored(formula)))
    assert found == formula
    for before, after in zip(formula.parameters, found.parameters, strict=True):
        assert type(after.default_value) is type(before.default_value)


@given(
    st.builds(
        Strategy,
        id=ids,
        name=words,
        entry_formula_id=st.none() | ids,
        exit_formula_id=st.none() | ids,
        stop_loss_rule=st.none()
        | st.builds(StopLossRule, formula_id=ids)
        | st.builds(StopLossRule, percentage=percentages),
        risk_config=st.builds(
            RiskConfig,
            position_size_pct=percentages,
            max_positions=st.integers(1, 2**31 - 1),
            take_profit_pct=st.none() | percentages,
            max_daily_loss_pct=st.none() | percentages,
        ),
        version=st.integers(1, 2**31),
        updated_at=st.none() | moments,
    )
)
def test_strategies_come_back_equal(strategy: Strategy) -> None:
    document = wired(mappers.strategy_to_stored(strategy))
    assert strategy_of(document) == strategy


@given(
    ids,
    ids,
    moments,
    decimals.filter(lambda d: d > 0),
    st.builds(BacktestMetrics, sharpe_ratio=figures, win_rate=figures),
    st.lists(
        st.builds(
            Trade,
            symbol=words,
            side=st.sampled_from(TradeSide),
            entry_time=moments,
            entry_price=decimals,
            quantity=percentages,
            exit_price=st.none() | decimals,
            pnl=st.none() | decimals,
            exit_reason=st.none() | words,
        )
    ),
)
def test_backtests_come_back_equal(
    identity: str,
    strategy_id: str,
    moment: datetime,
    capital: Decimal,
    metrics: BacktestMetrics,
    trades: list[Trade],
) -> None:
    config = BacktestConfig(
        start_date=moment, end_date=moment, symbols=("005930",), initial_capital=capital
    )
    result = BacktestResult(
        id=identity,
        strategy_id=strategy_id,
        run_at=moment,
        config=config,
        metrics=metrics,
        trades=tuple(trades),
    )
    document = mappers.backtest_to_stored(result, mappers.trades_to_stored(result.trades))
    assert backtest_of(wired(document)) == result


IDENTITY = ObjectId()


def test_a_strategy_of_jts_with_numbers_of_other_kinds() -> None:
    found = strategy_of(
        {
            "_id": IDENTITY,
            "name": "s",
            "stopLossRule": {"type": "fixed_pct", "percentage": 3, "formulaId": ObjectId()},
            "riskConfig": {
                "positionSizePct": 33.333333333333336,
                "maxPositions": 4.0,
                "takeProfitPct": Int64(7),
                "maxDailyLossPct": Decimal128("1.50"),
            },
        }
    )
    assert found.stop_loss_rule == StopLossRule(percentage=Decimal(3))
    assert found.risk_config == RiskConfig(
        position_size_pct=Decimal("33.3333333333333"),
        max_positions=4,
        take_profit_pct=Decimal(7),
        max_daily_loss_pct=Decimal("1.5"),
    )
    assert found.version == 1


def test_a_strategy_of_jts_with_nothing_but_a_name() -> None:
    found = strategy_of({"_id": IDENTITY, "name": "s", "riskConfig": None})
    assert found == Strategy(id=str(IDENTITY), name="s")


BACKTEST: dict[str, Any] = {
    "_id": IDENTITY,
    "strategyId": ObjectId(),
    "runAt": datetime(2024, 1, 2, tzinfo=UTC),
    "config": {
        "startDate": datetime(2020, 1, 1, tzinfo=UTC),
        "endDate": datetime(2021, 1, 1, tzinfo=UTC),
        "symbols": ["005930"],
        "initialCapital": 10_000_000,
    },
}
TRADE: dict[str, Any] = {
    "symbol": "005930",
    "side": "buy",
    "entryTime": datetime(2020, 1, 1, tzinfo=UTC),
    "entryPrice": 70_000,
    "exitPrice": 0.1,
    "quantity": 10,
}


def test_a_backtest_of_jts_with_numbers_of_other_kinds() -> None:
    metrics = {"sharpeRatio": float("nan"), "profitFactor": float("inf"), "winRate": 55}
    found = backtest_of(BACKTEST | {"metrics": metrics, "trades": [TRADE]})
    assert found.config.initial_capital == 10_000_000
    assert found.metrics == BacktestMetrics(win_rate=55.0)
    assert found.trades[0].entry_price == 70_000
    assert found.trades[0].exit_price == Decimal("0.1")
    assert backtest_of(BACKTEST).trades == ()


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (strategy_of, {"name": "s", "stopLossRule": {"type": "guess"}}),
        (strategy_of, {"name": "s", "stopLossRule": {"type": "formula"}}),
        (strategy_of, {"name": "s", "entryFormulaId": 5}),
        (strategy_of, {"name": "s", "riskConfig": "high"}),
        (strategy_of, {"name": "s", "riskConfig": {"maxPositions": 1.5}}),
        (strategy_of, {"name": "s", "riskConfig": {"maxPositions": True}}),
        (strategy_of, {}),
        (backtest_of, BACKTEST | {"config": None}),
        (backtest_of, BACKTEST | {"trades": [TRADE | {"side": "hold"}]}),
        (backtest_of, BACKTEST | {"trades": [TRADE | {"entryPrice": "1"}]}),
        (backtest_of, BACKTEST | {"trades": [{}]}),
        (backtest_of, BACKTEST | {"metrics": {"winRate": "half"}}),
        (backtest_of, BACKTEST | {"metrics": {"totalTrades": float("nan")}}),
        (
            backtest_of,
            BACKTEST | {"trades": [TRADE | {"pnl": Decimal128("NaN")}]},
        ),
    ],
)
def test_what_is_broken_is_invalid_data_with_the_id(read: Any, document: dict[str, Any]) -> None:
    with pytest.raises(InvalidData) as caught:
        read({"_id": IDENTITY} | document)
    assert caught.value.document == str(IDENTITY)
    assert str(caught.value).count(str(IDENTITY)) == 1


def test_fields_that_are_not_stored_have_defaults_of_their_own() -> None:
    stored = {"_id": IDENTITY, "name": "f", "expression": "close", "category": "scan"}
    found, other = FormulaDocument.from_stored(stored), FormulaDocument.from_stored(stored)
    assert (found.tags, found.parameters, found.version, found.description) == ([], [], 1, None)
    assert found.tags is not other.tags
