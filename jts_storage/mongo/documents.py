"""The three collections as Beanie documents: field names and types, nothing else.

Beanie binds a document class to one database for good. So each manager gets classes of its own,
made by `bind_documents` from the field models below. The repositories do without them, through
mappers and the collection; they serve whoever wants Beanie's own queries, and the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

import beanie
from beanie import DecimalAnnotation, Document, PydanticObjectId
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pymongo import ASCENDING, DESCENDING, TEXT, IndexModel

from jts_storage.domain.enums import FormulaCategory, ParameterType, StopLossType, TradeSide

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

FORMULAS: Final = "formulas"
STRATEGIES: Final = "strategies"
BACKTEST_RESULTS: Final = "backtest_results"
BACKTEST_TRADES: Final = "backtest_trades"


def _alias(name: str) -> str:
    """camelCase; the two names that Beanie itself looks for stay what it expects."""
    return {"id": "_id", "revision_id": "revision_id"}.get(name) or to_camel(name)


class Fields(BaseModel):
    """Fields under camelCase names; what JTS stored beside them is kept."""

    model_config = ConfigDict(alias_generator=_alias, populate_by_name=True, extra="allow")


class ParameterFields(Fields):
    name: str
    data_type: ParameterType | None = None
    default_value: Any = None
    min_value: int | float | DecimalAnnotation | None = None
    max_value: int | float | DecimalAnnotation | None = None


class FormulaFields(Fields):
    name: str
    expression: str
    category: FormulaCategory
    description: str | None = None
    tags: list[str] | None = Field(default_factory=list)
    parameters: list[ParameterFields] | None = Field(default_factory=list)
    version: int | None = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None


class StopLossFields(Fields):
    type: StopLossType | None = None
    formula_id: PydanticObjectId | None = None
    percentage: float | None = None


class RiskFields(Fields):
    position_size_pct: float | None = None
    max_positions: int | None = None
    take_profit_pct: float | None = None
    max_daily_loss_pct: float | None = None


class StrategyFields(Fields):
    name: str
    description: str | None = None
    entry_formula_id: PydanticObjectId | None = None
    exit_formula_id: PydanticObjectId | None = None
    stop_loss_rule: StopLossFields | None = None
    risk_config: RiskFields | None = None
    version: int | None = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None


class ConfigFields(Fields):
    start_date: datetime
    end_date: datetime
    symbols: list[str] | None = Field(default_factory=list)
    initial_capital: DecimalAnnotation
    data_fingerprint: str | None = None


class MetricsFields(Fields):
    total_return_pct: float | None = None
    sharpe_ratio: float | None = None
    max_drawdown_pct: float | None = None
    win_rate: float | None = None
    profit_factor: float | None = None
    total_trades: int | None = None


class TradeFields(Fields):
    symbol: str
    side: TradeSide
    entry_time: datetime
    entry_price: DecimalAnnotation
    exit_time: datetime | None = None
    exit_price: DecimalAnnotation | None = None
    quantity: float
    pnl: DecimalAnnotation | None = None
    exit_reason: str | None = None


class BacktestFields(Fields):
    """`trade_set` and `trade_count` are there when the trades lie in `backtest_trades`."""

    strategy_id: PydanticObjectId
    run_at: datetime
    config: ConfigFields
    metrics: MetricsFields | None = None
    trades: list[TradeFields] | None = Field(default_factory=list)
    trade_set: PydanticObjectId | None = None
    trade_count: int | None = None


class TradeChunkFields(Fields):
    """A part of the trades of a result that has more than one document should hold."""

    trade_set: PydanticObjectId
    number: int
    trades: list[TradeFields]


MODELS: Final[dict[str, type[Fields]]] = {
    FORMULAS: FormulaFields,
    STRATEGIES: StrategyFields,
    BACKTEST_RESULTS: BacktestFields,
    BACKTEST_TRADES: TradeChunkFields,
}


def indexes() -> dict[str, list[IndexModel]]:
    """The indexes of each collection. Names are unique nowhere: JTS never promised it."""
    return {
        FORMULAS: [
            IndexModel(
                [("name", TEXT), ("tags", TEXT), ("description", TEXT)],
                name="formulas_text",
                weights={"name": 10, "tags": 5, "description": 1},
                # No stemming and no stop words: a word is found as it is written. The override
                # names a field that nobody has, lest an extra field "language" fail the write.
                default_language="none",
                language_override="_textSearchLanguage",
            ),
            IndexModel([("category", ASCENDING), ("_id", ASCENDING)], name="formulas_category"),
            IndexModel([("tags", ASCENDING), ("_id", ASCENDING)], name="formulas_tags"),
        ],
        STRATEGIES: [
            IndexModel([("entryFormulaId", ASCENDING)], name="strategies_entry_formula"),
            IndexModel([("exitFormulaId", ASCENDING)], name="strategies_exit_formula"),
            IndexModel([("stopLossRule.formulaId", ASCENDING)], name="strategies_stop_formula"),
        ],
        BACKTEST_RESULTS: [
            IndexModel(
                [("strategyId", ASCENDING), ("runAt", DESCENDING), ("_id", DESCENDING)],
                name="backtest_results_strategy_run",
            ),
        ],
        BACKTEST_TRADES: [
            IndexModel(
                [("tradeSet", ASCENDING), ("number", ASCENDING)],
                name="backtest_trades_set",
                unique=True,
            ),
        ],
    }


@dataclass(frozen=True, slots=True)
class Documents:
    """The Beanie document classes of one database."""

    formulas: type[Any]
    strategies: type[Any]
    backtest_results: type[Any]
    backtest_trades: type[Any]


async def bind_documents(db: AsyncDatabase[dict[str, Any]]) -> Documents:
    """Fresh document classes bound to `db`. Creates no index, drops none."""
    fresh = {name: _document_class(name, model) for name, model in MODELS.items()}
    await beanie.init_beanie(database=db, document_models=list(fresh.values()), skip_indexes=True)
    return Documents(**fresh)


def _document_class(collection: str, model: type[Fields]) -> type[Document]:
    settings = type(
        "Settings",
        (),
        {
            "name": collection,
            "indexes": indexes()[collection],
            "bson_encoders": {Decimal: _decimal128},
        },
    )
    title = model.__name__.replace("Fields", "Document")
    # Of two bases the later one's configuration would win, and that is Beanie's.
    body = {"__module__": __name__, "model_config": model.model_config}
    made: Any = type(title, (model, Document), body)
    # Set afterwards: in the body, pydantic would take it for a field without a type.
    made.Settings = settings
    return cast("type[Document]", made)


def _decimal128(value: Decimal) -> Any:
    from bson import Decimal128

    return Decimal128(value)
