"""Entities to stored documents by the names of their models, and back, field by field.

Documents hold values as they are stored. What the collections call a Number is written as a
double, or as an integer where the entity has one; money is Decimal128. Reading takes any kind of
number for either, since JTS wrote many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeVar

from bson import ObjectId

from jts_storage.domain.backtest import (
    BacktestConfig,
    BacktestMetrics,
    BacktestResult,
    BacktestSummary,
    Trade,
)
from jts_storage.domain.enums import ParameterType, StopLossType, member
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.errors import InvalidData
from jts_storage.mongo.data_sets import data_set_from_fields, data_set_to_stored
from jts_storage.mongo.decimals import to_decimal128
from jts_storage.mongo.documents import (
    BacktestDocument,
    ConfigFields,
    FormulaDocument,
    MetricsFields,
    ParameterFields,
    RiskFields,
    StopLossFields,
    StrategyDocument,
    TradeChunkDocument,
    TradeFields,
)
from jts_storage.mongo.stored import ID, StoredDocument
from jts_storage.mongo.values import (
    as_type,
    decimal,
    double,
    figure,
    id_text,
    money,
    percentage,
    plain_value,
    reference,
    several,
    to_bson,
    whole,
)

D = TypeVar("D", bound=StoredDocument)
Bson = dict[str, Any]
E = TypeVar("E")

_DEFAULT_RISK: Final = RiskConfig()
_NO_METRICS: Final = BacktestMetrics()
_TYPE_OF: Final = {
    bool: ParameterType.BOOL,
    int: ParameterType.INT,
    str: ParameterType.STRING,
    Decimal: ParameterType.DECIMAL,
}


def read_stored(
    model: type[D],
    from_document: Callable[[D], E],
    stored: Mapping[str, Any],
    *,
    is_part: bool = False,
) -> E:
    """The entity of a stored document, or of a part of one.

    :raises InvalidData: naming the document, and the field at fault.
    """
    identity = stored.get(ID)
    try:
        if not isinstance(identity, ObjectId):
            # Taken for an ObjectId, it could neither be found by its id nor be updated.
            raise InvalidData("must be an ObjectId", field=ID, value=identity)
        return from_document(model.from_stored(stored, is_part=is_part))
    except InvalidData as exc:
        error = InvalidData(str(exc.args[0]), document=str(identity))
        error.field, error.value = exc.field, exc.value
        raise error from exc
    except KeyError as exc:
        raise InvalidData(f"lacks the field {exc}", document=str(identity)) from exc
    except (TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise InvalidData(
            f"has a field of another type than expected ({exc})", document=str(identity)
        ) from exc


def formula_to_stored(formula: Formula, model: type[FormulaDocument] = FormulaDocument) -> Bson:
    parameter_fields = model.nested("parameters")
    return model.stored_of(
        id=ObjectId(formula.id),
        name=formula.name,
        expression=formula.expression,
        category=formula.category.value,
        description=formula.description,
        tags=list(formula.tags),
        parameters=[_parameter_to_stored(each, parameter_fields) for each in formula.parameters],
        version=formula.version,
        created_at=formula.created_at,
        updated_at=formula.updated_at,
    )


def formula_from_document(document: FormulaDocument) -> Formula:
    return Formula(
        id=str(document.id),
        name=document.name,
        expression=document.expression,
        category=document.category,
        description=document.description,
        tags=several(document.tags),
        parameters=tuple(map(_parameter_from_fields, document.parameters or ())),
        version=whole(document.version, 1),
        created_at=document.created_at,
        updated_at=document.updated_at,
    )


def _parameter_to_stored(parameter: FormulaParameter, model: type[ParameterFields]) -> Bson:
    values = (parameter.default_value, parameter.min_value, parameter.max_value)
    return _stored_parameter(model, parameter.name, parameter.data_type.value, *values)


@lru_cache(maxsize=4_096, typed=True)
def _stored_parameter(
    model: type[ParameterFields], name: str, data_type: str, default: Any, least: Any, most: Any
) -> Bson:
    """Kept as `_parameter` is; documents that share it are encoded, and never changed."""
    return model.stored_of(
        name=name,
        data_type=data_type,
        default_value=to_bson(default),
        min_value=to_bson(least),
        max_value=to_bson(most),
    )


def _parameter_from_fields(fields: ParameterFields) -> FormulaParameter:
    values = (fields.default_value, fields.min_value, fields.max_value)
    try:
        return _parameter(fields.name, fields.data_type, *values)
    except TypeError:
        # A value without a hash, as no parameter of the kit has.
        return _parameter.__wrapped__(fields.name, fields.data_type, *values)


@lru_cache(maxsize=4_096, typed=True)
def _parameter(name: str, data_type: Any, default: Any, least: Any, most: Any) -> FormulaParameter:
    """Kept, since formulas share parameters: many have a period of 14 between 1 and 200."""
    if data_type is None:
        kind = _TYPE_OF.get(type(plain_value(default)), ParameterType.FLOAT)
    else:
        kind = member(ParameterType, data_type, ParameterFields.path("data_type"))
    return FormulaParameter(
        name=name,
        data_type=kind,
        default_value=as_type(default, kind),
        min_value=as_type(least, kind),
        max_value=as_type(most, kind),
    )


def strategy_to_stored(
    strategy: Strategy, model: type[StrategyDocument] = StrategyDocument
) -> Bson:
    stop, risk = strategy.stop_loss_rule, strategy.risk_config
    return model.stored_of(
        id=ObjectId(strategy.id),
        name=strategy.name,
        description=strategy.description,
        entry_formula_id=reference(strategy.entry_formula_id),
        exit_formula_id=reference(strategy.exit_formula_id),
        stop_loss_rule=stop
        and model.nested("stop_loss_rule").stored_of(
            type=stop.type.value,
            formula_id=reference(stop.formula_id),
            percentage=double(stop.percentage),
        ),
        risk_config=model.nested("risk_config").stored_of(
            position_size_pct=double(risk.position_size_pct),
            max_positions=risk.max_positions,
            take_profit_pct=double(risk.take_profit_pct),
            max_daily_loss_pct=double(risk.max_daily_loss_pct),
        ),
        version=strategy.version,
        created_at=strategy.created_at,
        updated_at=strategy.updated_at,
    )


def strategy_from_document(document: StrategyDocument) -> Strategy:
    stop, risk = document.stop_loss_rule, document.risk_config
    return Strategy(
        id=str(document.id),
        name=document.name,
        entry_formula_id=id_text(document.entry_formula_id),
        exit_formula_id=id_text(document.exit_formula_id),
        stop_loss_rule=_stop_loss(stop) if stop else None,
        risk_config=_risk(risk) if risk else _DEFAULT_RISK,
        description=document.description,
        version=whole(document.version, 1),
        created_at=document.created_at,
        updated_at=document.updated_at,
    )


def _stop_loss(fields: StopLossFields) -> StopLossRule:
    formula_id: Any = fields.formula_id
    pct: Any = fields.percentage
    if fields.type is not None:
        # A rule of one type may have kept the other's value from before it was changed.
        if member(StopLossType, fields.type, fields.path("type")) is StopLossType.FORMULA:
            pct = None
        else:
            formula_id = None
    return StopLossRule(formula_id=id_text(formula_id), percentage=percentage(pct))


def _risk(fields: RiskFields) -> RiskConfig:
    values = (fields.position_size_pct, fields.max_positions)
    limits = (fields.take_profit_pct, fields.max_daily_loss_pct)
    try:
        return _risk_of(*values, *limits)
    except TypeError:  # as for parameters
        return _risk_of.__wrapped__(*values, *limits)


@lru_cache(maxsize=4_096, typed=True)
def _risk_of(size: Any, positions: Any, profit: Any, loss: Any) -> RiskConfig:
    """Kept, since strategies share their limits."""
    size = percentage(size)
    return RiskConfig(
        position_size_pct=_DEFAULT_RISK.position_size_pct if size is None else size,
        max_positions=whole(positions, _DEFAULT_RISK.max_positions),
        take_profit_pct=percentage(profit),
        max_daily_loss_pct=percentage(loss),
    )


def backtest_to_stored(
    result: BacktestSummary,
    trades: list[Bson],
    model: type[BacktestDocument] = BacktestDocument,
    *,
    trade_set: ObjectId | None = None,
    trade_count: int | None = None,
) -> Bson:
    """:param trades: those that lie in the document itself, as `trades_to_stored` made them."""
    config, metrics = result.config, result.metrics
    return model.stored_of(
        id=ObjectId(result.id),
        strategy_id=ObjectId(result.strategy_id),
        run_at=result.run_at,
        config=model.nested("config").stored_of(
            start_date=config.start_date,
            end_date=config.end_date,
            symbols=list(config.symbols),
            initial_capital=to_decimal128(config.initial_capital),
            data_fingerprint=config.data_fingerprint,
            data_set=config.data_set
            and data_set_to_stored(config.data_set, model.nested("config").nested("data_set")),
        ),
        metrics=model.nested("metrics").stored_of(
            total_return_pct=metrics.total_return_pct,
            sharpe_ratio=metrics.sharpe_ratio,
            max_drawdown_pct=metrics.max_drawdown_pct,
            win_rate=metrics.win_rate,
            profit_factor=metrics.profit_factor,
            total_trades=metrics.total_trades,
        ),
        trades=trades,
        trade_set=trade_set,
        trade_count=trade_count,
        strategy_version=result.strategy_version,
        formula_versions=[
            model.nested("formula_versions").stored_of(formula_id=ObjectId(each), version=version)
            for each, version in sorted(result.formula_versions.items())
        ]
        or None,
    )


def backtest_from_document(
    document: BacktestDocument, trades: tuple[Trade, ...] | None = None
) -> BacktestResult:
    """:param trades: what was read of it already, if anything."""
    return BacktestResult(
        id=str(document.id),
        strategy_id=str(document.strategy_id),
        run_at=document.run_at,
        config=_config(document.config),
        metrics=_metrics(document.metrics) if document.metrics else _NO_METRICS,
        trades=trades_from_document(document) if trades is None else trades,
        strategy_version=_version_run(document),
        formula_versions=_formula_versions(document),
    )


def summary_from_document(document: BacktestDocument) -> BacktestSummary:
    return BacktestSummary(
        id=str(document.id),
        strategy_id=str(document.strategy_id),
        run_at=document.run_at,
        config=_config(document.config),
        metrics=_metrics(document.metrics) if document.metrics else _NO_METRICS,
        strategy_version=_version_run(document),
        formula_versions=_formula_versions(document),
    )


def _version_run(document: BacktestDocument) -> int | None:
    return None if document.strategy_version is None else whole(document.strategy_version, 1)


def _formula_versions(document: BacktestDocument) -> dict[str, int]:
    named = document.formula_versions or ()
    return {str(each.formula_id): whole(each.version, 1) for each in named}


def _config(fields: ConfigFields) -> BacktestConfig:
    return BacktestConfig(
        start_date=fields.start_date,
        end_date=fields.end_date,
        symbols=several(fields.symbols),
        initial_capital=decimal(fields.initial_capital),
        data_fingerprint=fields.data_fingerprint,
        data_set=data_set_from_fields(fields.data_set) if fields.data_set else None,
    )


def _metrics(fields: MetricsFields) -> BacktestMetrics:
    return BacktestMetrics(
        total_return_pct=figure(fields.total_return_pct),
        sharpe_ratio=figure(fields.sharpe_ratio),
        max_drawdown_pct=figure(fields.max_drawdown_pct),
        win_rate=figure(fields.win_rate),
        profit_factor=figure(fields.profit_factor),
        total_trades=whole(fields.total_trades, 0),
    )


def trades_to_stored(trades: Iterable[Trade], model: type[TradeFields] = TradeFields) -> list[Bson]:
    stored_of = model.stored_of
    return [
        stored_of(
            symbol=trade.symbol,
            side=trade.side.value,
            entry_time=trade.entry_time,
            entry_price=to_decimal128(trade.entry_price),
            exit_time=trade.exit_time,
            exit_price=money(trade.exit_price),
            quantity=float(trade.quantity),
            pnl=money(trade.pnl),
            exit_reason=trade.exit_reason,
        )
        for trade in trades
    ]


def trades_from_document(document: BacktestDocument | TradeChunkDocument) -> tuple[Trade, ...]:
    """The trades of a result, or of a part of one."""
    return tuple(map(_trade, document.trades or ()))


def _trade(fields: TradeFields) -> Trade:
    return Trade(
        symbol=fields.symbol,
        side=fields.side,
        entry_time=fields.entry_time,
        entry_price=decimal(fields.entry_price),
        quantity=percentage(fields.quantity),
        exit_time=fields.exit_time,
        exit_price=decimal(fields.exit_price),
        pnl=decimal(fields.pnl),
        exit_reason=fields.exit_reason,
    )
