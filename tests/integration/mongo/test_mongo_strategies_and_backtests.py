"""Strategies and backtest results in a real mongod, beyond what the contracts ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId

from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.enums import Metric, TradeSide
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.strategy import RiskConfig, StopLossRule
from jts_storage.errors import Conflict, InvalidData
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    trade_sets,
)

START = datetime(2024, 1, 2, tzinfo=UTC)
STRATEGY = "a" * 24


def trade(number: int, reason: str | None = "stop") -> Trade:
    return Trade(
        symbol="005930",
        side=TradeSide.BUY,
        entry_time=START + timedelta(minutes=number),
        entry_price=Decimal(70_000 + number),
        quantity=Decimal("1.5"),
        exit_time=START + timedelta(minutes=number + 1),
        exit_price=Decimal("70000.1234"),
        pnl=Decimal(number),
        exit_reason=reason,
    )


def result(trades: int = 1, **fields: Any) -> BacktestResult:
    config = BacktestConfig(
        start_date=START, end_date=START, symbols=("005930",), initial_capital=Decimal("1E+7")
    )
    return BacktestResult(
        strategy_id=STRATEGY,
        run_at=START,
        config=config,
        trades=tuple(map(trade, range(trades))),
        **fields,
    )


async def test_extra_fields_survive_an_update_nested_ones_too(
    manager: MongoDBManager, strategies: MongoDBStrategyRepository
) -> None:
    raw = manager.get_collection("strategies")
    identity = ObjectId()
    await raw.insert_one(
        {
            "_id": identity,
            "name": "legacy",
            "stopLossRule": {"type": "fixed_pct", "percentage": 3, "note": "n"},
            "riskConfig": {"positionSizePct": 5, "leverage": 2},
            "broker": "x",
        }
    )
    found = await strategies.get_by_id(str(identity))
    assert found is not None
    formula_id = new_document_id()
    rule = StopLossRule(formula_id=formula_id)
    risk = RiskConfig(position_size_pct=Decimal("7.5"), take_profit_pct=Decimal("0.1"))
    saved = await strategies.save(replace(found, stop_loss_rule=rule, risk_config=risk))
    stored = await raw.find_one({"_id": identity})
    assert stored is not None
    assert stored["broker"] == "x"
    assert stored["riskConfig"]["leverage"] == 2
    assert stored["riskConfig"]["positionSizePct"] == 7.5
    assert stored["stopLossRule"] == {
        "type": "formula",
        "percentage": None,
        "note": "n",
        "formulaId": ObjectId(formula_id),
    }
    assert await strategies.get_by_formula(formula_id) == [saved]
    without = await strategies.save(replace(saved, stop_loss_rule=None))
    assert await strategies.get_by_id(str(identity)) == without


async def test_risk_that_jts_left_out_or_null_can_be_updated(
    manager: MongoDBManager, strategies: MongoDBStrategyRepository
) -> None:
    raw = manager.get_collection("strategies")
    inserted = await raw.insert_many([{"name": "a"}, {"name": "b", "riskConfig": None}])
    for identity in inserted.inserted_ids:
        found = await strategies.get_by_id(str(identity))
        assert found is not None
        saved = await strategies.save(found)
        assert saved.version == 2
        assert await strategies.get_by_id(str(identity)) == saved


@pytest.fixture
def small_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade_sets, "INLINE_BYTES", 10_000)
    monkeypatch.setattr(trade_sets, "CHUNK_BYTES", 5_000)


@pytest.mark.usefixtures("small_documents")
async def test_many_trades_lie_in_chunks_and_nobody_notices(
    manager: MongoDBManager, backtests: MongoDBBacktestResultRepository
) -> None:
    large = await backtests.save(result(200))
    small = await backtests.save(result(2, metrics=BacktestMetrics(win_rate=1)))
    chunks = manager.get_collection("backtest_trades")
    assert await chunks.count_documents({}) > 5
    raw = await manager.get_collection("backtest_results").find_one({"_id": ObjectId(large.id)})
    assert raw is not None and raw["trades"] == [] and raw["tradeCount"] == 200

    assert await backtests.get_by_id(str(large.id)) == large
    assert [each async for each in backtests.trades(str(large.id))] == list(large.trades)
    everything = {large.id: large, small.id: small}
    for listed in (await backtests.list(), await backtests.get_by_strategy(STRATEGY)):
        found = await backtests.get_many(str(each.id) for each in listed)
        assert {each.id: each for each in found} == everything
        assert list(listed) == [each.summary() for each in found]
    assert list(await backtests.best(Metric.WIN_RATE)) == [small.summary()]

    assert await backtests.save(large) == large
    with pytest.raises(Conflict, match="different"):
        await backtests.save(replace(large, trades=large.trades[:-1]))
    kept = await chunks.distinct("tradeSet")
    assert kept == [raw["tradeSet"]], "chunks of refused results must not stay"

    assert await backtests.delete(str(large.id))
    assert await chunks.count_documents({}) == 0
    assert [each async for each in backtests.trades(str(large.id))] == []


@pytest.mark.usefixtures("small_documents")
async def test_lost_chunks_are_invalid_data(
    manager: MongoDBManager, backtests: MongoDBBacktestResultRepository
) -> None:
    large = await backtests.save(result(200))
    await manager.get_collection("backtest_trades").delete_one({"number": 3})
    with pytest.raises(InvalidData, match=str(large.id)):
        await backtests.get_by_id(str(large.id))
    with pytest.raises(InvalidData, match=str(large.id)):
        [each async for each in backtests.trades(str(large.id))]


async def test_more_trades_than_a_document_can_hold(
    backtests: MongoDBBacktestResultRepository,
) -> None:
    reason = "가" * 300_000
    trades = tuple(trade(number, reason) for number in range(40))
    saved = await backtests.save(replace(result(), trades=trades))
    assert await backtests.get_by_id(str(saved.id)) == saved
    assert [each async for each in backtests.trades(str(saved.id))] == list(trades)


async def test_best_leaves_out_what_is_not_defined(
    manager: MongoDBManager, backtests: MongoDBBacktestResultRepository
) -> None:
    good = await backtests.save(result(metrics=BacktestMetrics(profit_factor=1.5)))
    raw = manager.get_collection("backtest_results")
    document = await raw.find_one({"_id": ObjectId(good.id)})
    assert document is not None
    for odd in (float("nan"), float("inf"), None):
        await raw.insert_one(
            document | {"_id": ObjectId(), "metrics": {"profitFactor": odd, "totalTrades": 1}}
        )
    assert await backtests.best(Metric.PROFIT_FACTOR) == [good.summary()]
    assert len(await backtests.list()) == 4
    with pytest.raises(InvalidData):
        await backtests.best("profit")  # type: ignore[arg-type]
    assert await backtests.best(Metric.WIN_RATE, limit=0) == []


async def test_pages_behind_an_unknown_result_are_empty(
    backtests: MongoDBBacktestResultRepository,
) -> None:
    await backtests.save(result())
    assert await backtests.get_by_strategy(STRATEGY, after="nothing") == []
    assert await backtests.get_by_strategy(STRATEGY, after="f" * 24) == []


async def test_beanie_documents_and_the_repository_read_each_other(
    manager: MongoDBManager, backtests: MongoDBBacktestResultRepository
) -> None:
    documents = await manager.documents()
    saved = await backtests.save(result(2))
    found = await documents.backtest_results.get(saved.id)
    assert found.config.initial_capital == saved.config.initial_capital
    assert [each.pnl for each in found.trades] == [each.pnl for each in saved.trades]
    copied = found.model_copy(update={"id": ObjectId()})
    await copied.insert()
    assert await backtests.get_by_id(str(copied.id)) == replace(saved, id=str(copied.id))
