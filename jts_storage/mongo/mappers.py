"""Entities to documents of BSON values and back, field by field.

What the collections call a Number is written as a double, or as an integer where the entity has
one; money is Decimal128. Reading takes any kind of number for either, since JTS wrote many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import wraps
from math import isfinite
from typing import Any, Final, TypeVar

from bson import Decimal128, ObjectId

from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.enums import ParameterType, StopLossType, member
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.errors import InvalidData

E = TypeVar("E")
Stored = Mapping[str, Any]
Bson = dict[str, Any]

_NO_FIELDS: Final[Stored] = {}
_DEFAULT_RISK: Final = RiskConfig()
_TYPE_OF: Final = {
    bool: ParameterType.BOOL,
    int: ParameterType.INT,
    str: ParameterType.STRING,
    Decimal: ParameterType.DECIMAL,
}


def _naming_document(read: Callable[[Stored], E]) -> Callable[[Stored], E]:
    """Let every complaint about a stored value name the document it was found in."""

    @wraps(read)
    def reading(document: Stored) -> E:
        try:
            _check_id(document)
            return read(document)
        except InvalidData as exc:
            error = InvalidData(str(exc.args[0]), document=_id_of(document))
            error.field, error.value = exc.field, exc.value
            raise error from exc
        except KeyError as exc:
            raise InvalidData(f"lacks the field {exc}", document=_id_of(document)) from exc
        except (TypeError, ValueError, AttributeError, ArithmeticError) as exc:
            raise InvalidData(
                f"has a field of another type than expected ({exc})", document=_id_of(document)
            ) from exc

    return reading


def formula_to_document(formula: Formula) -> Bson:
    return {
        "_id": ObjectId(formula.id),
        "name": formula.name,
        "expression": formula.expression,
        "category": formula.category.value,
        "description": formula.description,
        "tags": list(formula.tags),
        "parameters": [_parameter_to_document(parameter) for parameter in formula.parameters],
        "version": formula.version,
        "createdAt": formula.created_at,
        "updatedAt": formula.updated_at,
    }


@_naming_document
def formula_from_document(document: Stored) -> Formula:
    get = document.get
    return Formula(
        id=str(document["_id"]),
        name=document["name"],
        expression=document["expression"],
        category=document["category"],
        description=get("description"),
        tags=get("tags") or (),
        parameters=tuple(map(_parameter_from_document, get("parameters") or ())),
        version=_whole(get("version"), 1),
        created_at=get("createdAt"),
        updated_at=get("updatedAt"),
    )


def _parameter_to_document(parameter: FormulaParameter) -> Bson:
    return {
        "name": parameter.name,
        "dataType": parameter.data_type.value,
        "defaultValue": _to_bson(parameter.default_value),
        "minValue": _to_bson(parameter.min_value),
        "maxValue": _to_bson(parameter.max_value),
    }


def _parameter_from_document(stored: Stored) -> FormulaParameter:
    default = _plain(stored.get("defaultValue"))
    given = stored.get("dataType")
    if given is None:
        kind = _TYPE_OF.get(type(default), ParameterType.FLOAT)
    else:
        kind = member(ParameterType, given, "dataType")
    return FormulaParameter(
        name=stored["name"],
        data_type=kind,
        default_value=_as_type(default, kind),
        min_value=_as_type(_plain(stored.get("minValue")), kind),
        max_value=_as_type(_plain(stored.get("maxValue")), kind),
    )


def strategy_to_document(strategy: Strategy) -> Bson:
    stop, risk = strategy.stop_loss_rule, strategy.risk_config
    return {
        "_id": ObjectId(strategy.id),
        "name": strategy.name,
        "description": strategy.description,
        "entryFormulaId": _reference(strategy.entry_formula_id),
        "exitFormulaId": _reference(strategy.exit_formula_id),
        "stopLossRule": stop
        and {
            "type": stop.type.value,
            "formulaId": _reference(stop.formula_id),
            "percentage": _double(stop.percentage),
        },
        "riskConfig": {
            "positionSizePct": _double(risk.position_size_pct),
            "maxPositions": risk.max_positions,
            "takeProfitPct": _double(risk.take_profit_pct),
            "maxDailyLossPct": _double(risk.max_daily_loss_pct),
        },
        "version": strategy.version,
        "createdAt": strategy.created_at,
        "updatedAt": strategy.updated_at,
    }


@_naming_document
def strategy_from_document(document: Stored) -> Strategy:
    get = document.get
    stop = get("stopLossRule")
    risk = get("riskConfig")
    return Strategy(
        id=str(document["_id"]),
        name=document["name"],
        entry_formula_id=_id_text(get("entryFormulaId")),
        exit_formula_id=_id_text(get("exitFormulaId")),
        stop_loss_rule=_stop_loss(stop) if stop else None,
        risk_config=_risk(risk) if risk else _DEFAULT_RISK,
        description=get("description"),
        version=_whole(get("version"), 1),
        created_at=get("createdAt"),
        updated_at=get("updatedAt"),
    )


def _stop_loss(stored: Stored) -> StopLossRule:
    formula_id, percentage = stored.get("formulaId"), stored.get("percentage")
    if stored.get("type") is not None:
        # A rule of one type may have kept the other's value from before it was changed.
        if member(StopLossType, stored["type"], "type") is StopLossType.FORMULA:
            percentage = None
        else:
            formula_id = None
    return StopLossRule(formula_id=_id_text(formula_id), percentage=_percentage(percentage))


def _risk(stored: Stored) -> RiskConfig:
    size = _percentage(stored.get("positionSizePct"))
    return RiskConfig(
        position_size_pct=_DEFAULT_RISK.position_size_pct if size is None else size,
        max_positions=_whole(stored.get("maxPositions"), _DEFAULT_RISK.max_positions),
        take_profit_pct=_percentage(stored.get("takeProfitPct")),
        max_daily_loss_pct=_percentage(stored.get("maxDailyLossPct")),
    )


def backtest_to_document(result: BacktestResult, trades: Sequence[Bson]) -> Bson:
    """:param trades: those that lie in the document itself, as `trades_to_documents` made them."""
    config, metrics = result.config, result.metrics
    return {
        "_id": ObjectId(result.id),
        "strategyId": ObjectId(result.strategy_id),
        "runAt": result.run_at,
        "config": {
            "startDate": config.start_date,
            "endDate": config.end_date,
            "symbols": list(config.symbols),
            "initialCapital": Decimal128(config.initial_capital),
            # A field of ours, which JTS does not know: only where there is something to say.
            **({"dataFingerprint": config.data_fingerprint} if config.data_fingerprint else {}),
        },
        "metrics": {
            "totalReturnPct": metrics.total_return_pct,
            "sharpeRatio": metrics.sharpe_ratio,
            "maxDrawdownPct": metrics.max_drawdown_pct,
            "winRate": metrics.win_rate,
            "profitFactor": metrics.profit_factor,
            "totalTrades": metrics.total_trades,
        },
        "trades": list(trades),
    }


@_naming_document
def backtest_from_document(document: Stored) -> BacktestResult:
    """Trades that lie elsewhere must have been put into `document` before."""
    config = document["config"]
    metrics = document.get("metrics") or _NO_FIELDS
    return BacktestResult(
        id=str(document["_id"]),
        strategy_id=str(document["strategyId"]),
        run_at=document["runAt"],
        config=BacktestConfig(
            start_date=config["startDate"],
            end_date=config["endDate"],
            symbols=config.get("symbols") or (),
            initial_capital=_decimal(config["initialCapital"]),
            data_fingerprint=config.get("dataFingerprint"),
        ),
        metrics=BacktestMetrics(
            total_return_pct=_figure(metrics.get("totalReturnPct")),
            sharpe_ratio=_figure(metrics.get("sharpeRatio")),
            max_drawdown_pct=_figure(metrics.get("maxDrawdownPct")),
            win_rate=_figure(metrics.get("winRate")),
            profit_factor=_figure(metrics.get("profitFactor")),
            total_trades=_whole(metrics.get("totalTrades"), 0),
        ),
        trades=tuple(map(_trade, document.get("trades") or ())),
    )


def trades_to_documents(trades: Iterable[Trade]) -> list[Bson]:
    return [
        {
            "symbol": trade.symbol,
            "side": trade.side.value,
            "entryTime": trade.entry_time,
            "entryPrice": Decimal128(trade.entry_price),
            "exitTime": trade.exit_time,
            "exitPrice": _money(trade.exit_price),
            "quantity": float(trade.quantity),
            "pnl": _money(trade.pnl),
            "exitReason": trade.exit_reason,
        }
        for trade in trades
    ]


@_naming_document
def trades_from_document(document: Stored) -> tuple[Trade, ...]:
    """The trades of a result, or of a part of one."""
    return tuple(map(_trade, document.get("trades") or ()))


def _trade(stored: Stored) -> Trade:
    get = stored.get
    return Trade(
        symbol=stored["symbol"],
        side=stored["side"],
        entry_time=stored["entryTime"],
        entry_price=_decimal(stored["entryPrice"]),
        quantity=_percentage(stored["quantity"]),
        exit_time=get("exitTime"),
        exit_price=_decimal(get("exitPrice")),
        pnl=_decimal(get("pnl")),
        exit_reason=get("exitReason"),
    )


def _check_id(document: Stored) -> None:
    # Read as if it were an ObjectId, it could neither be found by its id again nor be updated.
    identity = document.get("_id")
    if not isinstance(identity, ObjectId):
        raise InvalidData("must be an ObjectId", field="_id", value=identity)


def _id_of(document: Stored) -> str:
    return str(document.get("_id"))


def _reference(identity: str | None) -> ObjectId | None:
    return None if identity is None else ObjectId(identity)


def _id_text(reference: Any) -> str | None:
    return None if reference is None else str(reference)


def _money(value: Decimal | None) -> Decimal128 | None:
    return None if value is None else Decimal128(value)


def _double(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _to_bson(value: Any) -> Any:
    return Decimal128(value) if isinstance(value, Decimal) else value


def _plain(value: Any) -> Any:
    """A stored value of any type as Python's own."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def _as_type(value: Any, kind: ParameterType) -> Any:
    """Undo what stores with a single kind of number did to a value."""
    if isinstance(value, float):
        if kind is ParameterType.INT and value.is_integer():
            return int(value)
        if kind is ParameterType.DECIMAL:
            return _decimal(value)
    return value


# These hand on what they cannot convert: the entity refuses it, and names the field.


def _decimal(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, float):
        return Decimal(repr(value))
    return value


def _percentage(value: Any) -> Any:
    """A double holds 15 digits and gives them back; what it shows beyond is noise."""
    return Decimal(f"{value:.15g}") if isinstance(value, float) else _decimal(value)


def _figure(value: Any) -> Any:
    """A statistic; NaN and infinity are how others wrote one that is not defined."""
    if isinstance(value, Decimal128):
        value = float(value.to_decimal())
    return None if isinstance(value, float) and not isfinite(value) else value


def _whole(value: Any, default: int) -> Any:
    if value is None:
        return default
    number = _plain(value)
    if isinstance(number, float | Decimal) and number == int(number):
        return int(number)
    return number
