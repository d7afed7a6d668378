"""Entities to documents of the models and back, field by field.

Documents hold values as they are stored. What the collections call a Number is written as a
double, or as an integer where the entity has one; money is Decimal128. Reading takes any kind of
number for either, since JTS wrote many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final, TypeVar

from bson import Decimal128, Int64, ObjectId

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
from jts_storage.mongo.decimals import from_decimal128, to_decimal128
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

D = TypeVar("D", bound=StoredDocument)
E = TypeVar("E")

_DEFAULT_RISK: Final = RiskConfig()
_NO_METRICS: Final = BacktestMetrics()
_KINDS: Final = {kind.value: kind for kind in ParameterType}
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


def formula_to_document(
    formula: Formula, model: type[FormulaDocument] = FormulaDocument
) -> FormulaDocument:
    parameter_fields = model.nested("parameters")
    return model.of(
        id=ObjectId(formula.id),
        name=formula.name,
        expression=formula.expression,
        category=formula.category.value,
        description=formula.description,
        tags=list(formula.tags),
        parameters=[_parameter_to_fields(each, parameter_fields) for each in formula.parameters],
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
        tags=_several(document.tags),
        parameters=tuple(map(_parameter_from_fields, document.parameters or ())),
        version=_whole(document.version, 1),
        created_at=document.created_at,
        updated_at=document.updated_at,
    )


def _parameter_to_fields(
    parameter: FormulaParameter, model: type[ParameterFields]
) -> ParameterFields:
    return model.of(
        name=parameter.name,
        data_type=parameter.data_type.value,
        default_value=_to_bson(parameter.default_value),
        min_value=_to_bson(parameter.min_value),
        max_value=_to_bson(parameter.max_value),
    )


def _parameter_from_fields(fields: ParameterFields) -> FormulaParameter:
    kind = _kind(fields)
    return FormulaParameter(
        name=fields.name,
        data_type=kind,
        default_value=_as_type(fields.default_value, kind),
        min_value=_as_type(fields.min_value, kind),
        max_value=_as_type(fields.max_value, kind),
    )


def _kind(fields: ParameterFields) -> ParameterType:
    stored: Any = fields.data_type
    if stored is None:
        return _TYPE_OF.get(type(_plain(fields.default_value)), ParameterType.FLOAT)
    known = _KINDS.get(stored) if isinstance(stored, str) else None
    return known or member(ParameterType, stored, fields.path("data_type"))


def strategy_to_document(
    strategy: Strategy, model: type[StrategyDocument] = StrategyDocument
) -> StrategyDocument:
    stop, risk = strategy.stop_loss_rule, strategy.risk_config
    return model.of(
        id=ObjectId(strategy.id),
        name=strategy.name,
        description=strategy.description,
        entry_formula_id=_reference(strategy.entry_formula_id),
        exit_formula_id=_reference(strategy.exit_formula_id),
        stop_loss_rule=stop
        and model.nested("stop_loss_rule").of(
            type=stop.type.value,
            formula_id=_reference(stop.formula_id),
            percentage=_double(stop.percentage),
        ),
        risk_config=model.nested("risk_config").of(
            position_size_pct=_double(risk.position_size_pct),
            max_positions=risk.max_positions,
            take_profit_pct=_double(risk.take_profit_pct),
            max_daily_loss_pct=_double(risk.max_daily_loss_pct),
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
        entry_formula_id=_id_text(document.entry_formula_id),
        exit_formula_id=_id_text(document.exit_formula_id),
        stop_loss_rule=_stop_loss(stop) if stop else None,
        risk_config=_risk(risk) if risk else _DEFAULT_RISK,
        description=document.description,
        version=_whole(document.version, 1),
        created_at=document.created_at,
        updated_at=document.updated_at,
    )


def _stop_loss(fields: StopLossFields) -> StopLossRule:
    formula_id: Any = fields.formula_id
    percentage: Any = fields.percentage
    if fields.type is not None:
        # A rule of one type may have kept the other's value from before it was changed.
        if member(StopLossType, fields.type, fields.path("type")) is StopLossType.FORMULA:
            percentage = None
        else:
            formula_id = None
    return StopLossRule(formula_id=_id_text(formula_id), percentage=_percentage(percentage))


def _risk(fields: RiskFields) -> RiskConfig:
    size = _percentage(fields.position_size_pct)
    return RiskConfig(
        position_size_pct=_DEFAULT_RISK.position_size_pct if size is None else size,
        max_positions=_whole(fields.max_positions, _DEFAULT_RISK.max_positions),
        take_profit_pct=_percentage(fields.take_profit_pct),
        max_daily_loss_pct=_percentage(fields.max_daily_loss_pct),
    )


def backtest_to_document(
    result: BacktestSummary,
    trades: list[TradeFields],
    model: type[BacktestDocument] = BacktestDocument,
    *,
    trade_set: ObjectId | None = None,
    trade_count: int | None = None,
) -> BacktestDocument:
    """:param trades: those that lie in the document itself, as `trades_to_fields` made them."""
    config, metrics = result.config, result.metrics
    return model.of(
        id=ObjectId(result.id),
        strategy_id=ObjectId(result.strategy_id),
        run_at=result.run_at,
        config=model.nested("config").of(
            start_date=config.start_date,
            end_date=config.end_date,
            symbols=list(config.symbols),
            initial_capital=to_decimal128(config.initial_capital),
            data_fingerprint=config.data_fingerprint,
        ),
        metrics=model.nested("metrics").of(
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
    )


def backtest_from_document(document: BacktestDocument) -> BacktestResult:
    """Trades that lie elsewhere must have been put into `document` before."""
    return BacktestResult(
        id=str(document.id),
        strategy_id=str(document.strategy_id),
        run_at=document.run_at,
        config=_config(document.config),
        metrics=_metrics(document.metrics) if document.metrics else _NO_METRICS,
        trades=trades_from_document(document),
    )


def summary_from_document(document: BacktestDocument) -> BacktestSummary:
    return BacktestSummary(
        id=str(document.id),
        strategy_id=str(document.strategy_id),
        run_at=document.run_at,
        config=_config(document.config),
        metrics=_metrics(document.metrics) if document.metrics else _NO_METRICS,
    )


def _config(fields: ConfigFields) -> BacktestConfig:
    return BacktestConfig(
        start_date=fields.start_date,
        end_date=fields.end_date,
        symbols=_several(fields.symbols),
        initial_capital=_decimal(fields.initial_capital),
        data_fingerprint=fields.data_fingerprint,
    )


def _metrics(fields: MetricsFields) -> BacktestMetrics:
    return BacktestMetrics(
        total_return_pct=_figure(fields.total_return_pct),
        sharpe_ratio=_figure(fields.sharpe_ratio),
        max_drawdown_pct=_figure(fields.max_drawdown_pct),
        win_rate=_figure(fields.win_rate),
        profit_factor=_figure(fields.profit_factor),
        total_trades=_whole(fields.total_trades, 0),
    )


def trades_to_fields(
    trades: Iterable[Trade], model: type[TradeFields] = TradeFields
) -> list[TradeFields]:
    return [
        model.of(
            symbol=trade.symbol,
            side=trade.side.value,
            entry_time=trade.entry_time,
            entry_price=to_decimal128(trade.entry_price),
            exit_time=trade.exit_time,
            exit_price=_money(trade.exit_price),
            quantity=float(trade.quantity),
            pnl=_money(trade.pnl),
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
        entry_price=_decimal(fields.entry_price),
        quantity=_percentage(fields.quantity),
        exit_time=fields.exit_time,
        exit_price=_decimal(fields.exit_price),
        pnl=_decimal(fields.pnl),
        exit_reason=fields.exit_reason,
    )


def _reference(identity: str | None) -> ObjectId | None:
    return None if identity is None else ObjectId(identity)


def _several(values: Any) -> Any:
    return values or ()


def _id_text(reference: Any) -> str | None:
    return None if reference is None else str(reference)


def _money(value: Decimal | None) -> Decimal128 | None:
    return None if value is None else to_decimal128(value)


def _double(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _to_bson(value: Any) -> Any:
    return to_decimal128(value) if isinstance(value, Decimal) else value


def _plain(value: Any) -> Any:
    """A stored value of any type as Python's own."""
    if isinstance(value, Decimal128):
        return from_decimal128(value)
    return int(value) if isinstance(value, Int64) else value


def _as_type(value: Any, kind: ParameterType) -> Any:
    """A stored value of any type, without what storing a single kind of number did to it."""
    if isinstance(value, float):
        if kind is ParameterType.INT and value.is_integer():
            return int(value)
        if kind is ParameterType.DECIMAL:
            return _decimal(value)
        return value
    return value if value is None else _plain(value)


# These hand on what they cannot convert: the entity refuses it, and names the field.


def _decimal(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return from_decimal128(value)
    if isinstance(value, float):
        return Decimal(repr(value))
    return value


def _percentage(value: Any) -> Any:
    """A double holds 15 digits and gives them back; what it shows beyond is noise."""
    return Decimal(f"{value:.15g}") if isinstance(value, float) else _decimal(value)


def _figure(value: Any) -> Any:
    """A statistic; NaN and infinity are how others wrote one that is not defined."""
    if isinstance(value, Decimal128):
        value = float(from_decimal128(value))
    return None if isinstance(value, float) and not isfinite(value) else value


def _whole(value: Any, default: int) -> Any:
    if value is None:
        return default
    number = _plain(value)
    if isinstance(number, float | Decimal) and number == int(number):
        return int(number)
    return number
