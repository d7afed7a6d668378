"""Entities to rows of plain values and back, field by field.

A row shares nothing that can change with the entity it was made of.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.domain.symbol import Symbol
from jts_storage.memory.tables import Row


def symbol_to_row(symbol: Symbol) -> Row:
    return _row(
        code=symbol.code,
        name=symbol.name,
        market=symbol.market.value,
        sector=symbol.sector,
        is_active=symbol.is_active,
        updated_at=symbol.updated_at,
    )


def symbol_from_row(row: Row) -> Symbol:
    return Symbol(
        code=row["code"],
        name=row["name"],
        market=row["market"],
        sector=row["sector"],
        is_active=row["is_active"],
        updated_at=row["updated_at"],
    )


def formula_to_row(formula: Formula) -> Row:
    return _row(
        id=formula.id,
        name=formula.name,
        expression=formula.expression,
        category=formula.category.value,
        description=formula.description,
        tags=formula.tags,
        parameters=tuple(
            _row(
                name=parameter.name,
                data_type=parameter.data_type.value,
                default_value=parameter.default_value,
                min_value=parameter.min_value,
                max_value=parameter.max_value,
            )
            for parameter in formula.parameters
        ),
        version=formula.version,
        created_at=formula.created_at,
        updated_at=formula.updated_at,
    )


def formula_from_row(row: Row) -> Formula:
    return Formula(
        id=row["id"],
        name=row["name"],
        expression=row["expression"],
        category=row["category"],
        description=row["description"],
        tags=row["tags"],
        parameters=tuple(
            FormulaParameter(
                name=parameter["name"],
                data_type=parameter["data_type"],
                default_value=parameter["default_value"],
                min_value=parameter["min_value"],
                max_value=parameter["max_value"],
            )
            for parameter in row["parameters"]
        ),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def strategy_to_row(strategy: Strategy) -> Row:
    stop, risk = strategy.stop_loss_rule, strategy.risk_config
    return _row(
        id=strategy.id,
        name=strategy.name,
        description=strategy.description,
        entry_formula_id=strategy.entry_formula_id,
        exit_formula_id=strategy.exit_formula_id,
        stop_loss_rule=stop and _row(formula_id=stop.formula_id, percentage=stop.percentage),
        risk_config=_row(
            position_size_pct=risk.position_size_pct,
            max_positions=risk.max_positions,
            take_profit_pct=risk.take_profit_pct,
            max_daily_loss_pct=risk.max_daily_loss_pct,
        ),
        version=strategy.version,
        created_at=strategy.created_at,
        updated_at=strategy.updated_at,
    )


def strategy_from_row(row: Row) -> Strategy:
    stop, risk = row["stop_loss_rule"], row["risk_config"]
    return Strategy(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        entry_formula_id=row["entry_formula_id"],
        exit_formula_id=row["exit_formula_id"],
        stop_loss_rule=stop
        and StopLossRule(formula_id=stop["formula_id"], percentage=stop["percentage"]),
        risk_config=RiskConfig(
            position_size_pct=risk["position_size_pct"],
            max_positions=risk["max_positions"],
            take_profit_pct=risk["take_profit_pct"],
            max_daily_loss_pct=risk["max_daily_loss_pct"],
        ),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def backtest_to_row(result: BacktestResult) -> Row:
    config, metrics = result.config, result.metrics
    return _row(
        id=result.id,
        strategy_id=result.strategy_id,
        run_at=result.run_at,
        config=_row(
            start_date=config.start_date,
            end_date=config.end_date,
            symbols=config.symbols,
            initial_capital=config.initial_capital,
            data_fingerprint=config.data_fingerprint,
        ),
        metrics=_row(
            total_return_pct=metrics.total_return_pct,
            sharpe_ratio=metrics.sharpe_ratio,
            max_drawdown_pct=metrics.max_drawdown_pct,
            win_rate=metrics.win_rate,
            profit_factor=metrics.profit_factor,
            total_trades=metrics.total_trades,
        ),
        trades=tuple(_trade_to_row(trade) for trade in result.trades),
    )


def backtest_from_row(row: Row) -> BacktestResult:
    config, metrics = row["config"], row["metrics"]
    return BacktestResult(
        id=row["id"],
        strategy_id=row["strategy_id"],
        run_at=row["run_at"],
        config=BacktestConfig(
            start_date=config["start_date"],
            end_date=config["end_date"],
            symbols=config["symbols"],
            initial_capital=config["initial_capital"],
            data_fingerprint=config["data_fingerprint"],
        ),
        metrics=BacktestMetrics(
            total_return_pct=metrics["total_return_pct"],
            sharpe_ratio=metrics["sharpe_ratio"],
            max_drawdown_pct=metrics["max_drawdown_pct"],
            win_rate=metrics["win_rate"],
            profit_factor=metrics["profit_factor"],
            total_trades=metrics["total_trades"],
        ),
        trades=tuple(trade_from_row(trade) for trade in row["trades"]),
    )


def _trade_to_row(trade: Trade) -> Row:
    return _row(
        symbol=trade.symbol,
        side=trade.side.value,
        entry_time=trade.entry_time,
        entry_price=trade.entry_price,
        quantity=trade.quantity,
        exit_time=trade.exit_time,
        exit_price=trade.exit_price,
        pnl=trade.pnl,
        exit_reason=trade.exit_reason,
    )


def trade_from_row(row: Row) -> Trade:
    return Trade(
        symbol=row["symbol"],
        side=row["side"],
        entry_time=row["entry_time"],
        entry_price=row["entry_price"],
        quantity=row["quantity"],
        exit_time=row["exit_time"],
        exit_price=row["exit_price"],
        pnl=row["pnl"],
        exit_reason=row["exit_reason"],
    )


def symbol_bars_to_row(bars: SymbolBars) -> Row:
    return _row(
        symbol=bars.symbol,
        trading_day=bars.trading_day,
        version=bars.version,
        collection_started=bars.collection_started,
        is_complete=bars.is_complete,
        bar_count=bars.bar_count,
        created_at=bars.created_at,
        updated_at=bars.updated_at,
    )


def symbol_bars_from_row(row: Row) -> SymbolBars:
    return SymbolBars(
        symbol=row["symbol"],
        trading_day=row["trading_day"],
        version=row["version"],
        collection_started=row["collection_started"],
        is_complete=row["is_complete"],
        bar_count=row["bar_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def checkpoint_to_row(checkpoint: Checkpoint) -> Row:
    data = checks.json_value(checkpoint.data, "data")  # a copy: the entity is in others' hands
    return _row(name=checkpoint.name, data=data, updated_at=checkpoint.updated_at)


def checkpoint_from_row(row: Row) -> Checkpoint:
    return Checkpoint(name=row["name"], data=row["data"], updated_at=row["updated_at"])


def _row(**values: Any) -> Row:
    return MappingProxyType(values)
