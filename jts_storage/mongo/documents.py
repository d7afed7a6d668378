"""The collections of the kit as document models: the only place where their fields have names.

Every query, index, projection, validator and mapper asks a model for the stored name of a field.
A service may subclass a model, add fields and indexes, and register it with its manager.

Beanie binds a document class to one database for good. So each manager gets classes of its own,
made from these models by `binding.bind_documents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, Self

from beanie import DecimalAnnotation, PydanticObjectId
from pydantic import Field
from pymongo import ASCENDING, DESCENDING, TEXT, IndexModel

from jts_storage.domain.enums import FormulaCategory, ParameterType, StopLossType, TradeSide
from jts_storage.errors import InvalidConfiguration
from jts_storage.mongo.held import as_held, object_id_of
from jts_storage.mongo.stored import Stored, StoredDocument, check_stored_names, ids_at

FORMULAS: Final = "formulas"
STRATEGIES: Final = "strategies"
BACKTEST_RESULTS: Final = "backtest_results"
BACKTEST_TRADES: Final = "backtest_trades"


class VersionedDocument(StoredDocument):
    """A document under an optimistic lock: a save looks at version and times."""

    version: int | None = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def holding(cls, **values: Any) -> Self:
        """A document of values as an entity has them.

        Money becomes Decimal128, the text of an id an ObjectId, a member of an enum its value.

        :raises InvalidData: an id is no id, money has more digits than a document keeps, or a
            time has no zone, or more than milliseconds.
        """
        ids = cls.id_fields()
        return cls.of(
            **{
                name: object_id_of(value, name) if name in ids else as_held(value, name)
                for name, value in values.items()
            }
        )


class NamedDocument(VersionedDocument):
    """What formulas and strategies have in common."""

    name: str
    description: str | None = None


class ParameterFields(Stored):
    name: str
    data_type: ParameterType | None = None
    default_value: Any = None
    min_value: int | float | DecimalAnnotation | None = None
    max_value: int | float | DecimalAnnotation | None = None


class FormulaDocument(NamedDocument):
    collection: ClassVar[str] = FORMULAS

    expression: str
    category: FormulaCategory
    tags: list[str] | None = Field(default_factory=list)
    parameters: list[ParameterFields] | None = Field(default_factory=list)

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        """None of them is unique: JTS lets formulas share a name."""
        path = cls.path
        weights = {path("name"): 10, path("tags"): 5, path("description"): 1}
        by_id = (path("id"), ASCENDING)
        return [
            IndexModel(
                [(field, TEXT) for field in weights],
                name="formulas_text",
                weights=weights,
                # No stemming and no stop words: a word is found as it is written. The override
                # names a field that nobody has: a field "language" would otherwise be read as one
                # of the index, and a value it does not know would fail the write.
                default_language="none",
                language_override="_textSearchLanguage",
            ),
            IndexModel([(path("category"), ASCENDING), by_id], name="formulas_category"),
            IndexModel([(path("tags"), ASCENDING), by_id], name="formulas_tags"),
        ]


class StopLossFields(Stored):
    type: StopLossType | None = None
    formula_id: PydanticObjectId | None = None
    percentage: float | None = None


class RiskFields(Stored):
    position_size_pct: float | None = None
    max_positions: int | None = None
    take_profit_pct: float | None = None
    max_daily_loss_pct: float | None = None


class StrategyDocument(NamedDocument):
    collection: ClassVar[str] = STRATEGIES

    entry_formula_id: PydanticObjectId | None = None
    exit_formula_id: PydanticObjectId | None = None
    stop_loss_rule: StopLossFields | None = None
    risk_config: RiskFields | None = None

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        entered, left, stopped = cls.references()
        return [
            IndexModel([(entered, ASCENDING)], name="strategies_entry_formula"),
            IndexModel([(left, ASCENDING)], name="strategies_exit_formula"),
            IndexModel([(stopped, ASCENDING)], name="strategies_stop_formula"),
        ]

    @classmethod
    def references(cls) -> Mapping[str, str]:
        """The formulas that a strategy enters, leaves and stops by."""
        fields = ("entry_formula_id", "exit_formula_id", "stop_loss_rule.formula_id")
        return dict.fromkeys(map(cls.path, fields), FORMULAS)

    @classmethod
    def formulas_of(cls, stored: Mapping[str, Any] | None) -> frozenset[str]:
        """The formulas that a stored strategy uses, also where their ids were stored as strings."""
        return ids_at(stored, cls.references())


class SeriesFields(Stored):
    symbol: str
    exchange: str


class DataSetFields(Stored):
    """`commit` is the version that it is as of."""

    timeframe: str
    start: datetime
    end: datetime
    series: list[SeriesFields]
    commit: int


class ConfigFields(Stored):
    left_out_if_none: ClassVar[frozenset[str]] = frozenset({"data_fingerprint", "data_set"})

    start_date: datetime
    end_date: datetime
    symbols: list[str] | None = Field(default_factory=list)
    initial_capital: DecimalAnnotation
    data_fingerprint: str | None = None
    data_set: DataSetFields | None = None


class MetricsFields(Stored):
    """Named as the members of `Metric`, by which results are ranked."""

    total_return_pct: float | None = None
    sharpe_ratio: float | None = None
    max_drawdown_pct: float | None = None
    win_rate: float | None = None
    profit_factor: float | None = None
    total_trades: int | None = None


class TradeFields(Stored):
    symbol: str
    side: TradeSide
    entry_time: datetime
    entry_price: DecimalAnnotation
    exit_time: datetime | None = None
    exit_price: DecimalAnnotation | None = None
    quantity: float
    pnl: DecimalAnnotation | None = None
    exit_reason: str | None = None


class FormulaVersionFields(Stored):
    formula_id: PydanticObjectId
    version: int


class BacktestDocument(StoredDocument):
    """`trade_set` and `trade_count` are there when the trades lie in `backtest_trades`."""

    collection: ClassVar[str] = BACKTEST_RESULTS
    left_out_if_none: ClassVar[frozenset[str]] = frozenset(
        {"trade_set", "trade_count", "strategy_version", "formula_versions"}
    )

    strategy_id: PydanticObjectId
    run_at: datetime
    config: ConfigFields
    metrics: MetricsFields | None = None
    trades: list[TradeFields] | None = Field(default_factory=list)
    trade_set: PydanticObjectId | None = None
    trade_count: int | None = None
    strategy_version: int | None = None
    formula_versions: list[FormulaVersionFields] | None = None

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        newest_first = [(cls.path("run_at"), DESCENDING), (cls.path("id"), DESCENDING)]
        return [
            IndexModel(
                [(cls.path("strategy_id"), ASCENDING), *newest_first],
                name="backtest_results_strategy_run",
            ),
        ]


class TradeChunkDocument(StoredDocument):
    """A part of the trades of a result that has more than one document should hold."""

    collection: ClassVar[str] = BACKTEST_TRADES

    trade_set: PydanticObjectId
    number: int
    trades: list[TradeFields]

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        return [
            IndexModel(
                [(cls.path("trade_set"), ASCENDING), (cls.path("number"), ASCENDING)],
                name="backtest_trades_set",
                unique=True,
            ),
        ]


@dataclass(frozen=True, slots=True)
class Models:
    """The model of each collection: the kit's own, or what a service registered in its place.

    Attributes are named as the collections.

    :param declared: the documents of a service's own collections.
    :param referring: where these name documents of other collections.
    """

    formulas: type[FormulaDocument] = FormulaDocument
    strategies: type[StrategyDocument] = StrategyDocument
    backtest_results: type[BacktestDocument] = BacktestDocument
    backtest_trades: type[TradeChunkDocument] = TradeChunkDocument
    declared: Mapping[str, type[VersionedDocument]] = field(default_factory=dict)
    referring: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Worked out once: each document that is read or saved asks for its model.
    by_collection: Mapping[str, type[StoredDocument]] = field(init=False, repr=False)
    _references: dict[str, Mapping[str, str]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        kits = (getattr(self, name) for name in _KITS_OWN)
        found = {model.collection: model for model in kits} | dict(self.declared)
        object.__setattr__(self, "by_collection", found)

    def of(self, collection: str) -> type[Any]:
        model: type[Any] = self.by_collection[collection]
        return model

    def references_of(self, collection: str) -> Mapping[str, str]:
        """Return where its documents name others by their id, each with the collection of these."""
        known = self._references.get(collection)
        if known is None:
            own: Mapping[str, str] = self.of(collection).references()
            known = self._references[collection] = {**own, **self.referring.get(collection, {})}
        return known

    def users_of(self, collection: str) -> dict[str, list[str]]:
        """The collections whose documents name ones of this, and where they do."""
        found = {
            name: [path for path, of in self.references_of(name).items() if of == collection]
            for name in self.by_collection
        }
        return {name: paths for name, paths in found.items() if paths}

    def replaced_by(self, model: type[StoredDocument]) -> Models:
        """The models with `model` in the place of the one that it is a subclass of.

        :raises InvalidConfiguration: it is a subclass of none, or adds a field without a default.
        """
        own = Models().by_collection  # without the declared ones
        for name, replaced in own.items():
            if issubclass(model, replaced):
                _check_added(model, replaced)
                check_stored_names(model)
                changed: dict[str, Any] = {name: model}
                return replace(self, **changed)
        raise InvalidConfiguration(
            f"{model.__name__} is no document of a collection of the kit",
            remedy="Make it a subclass of one of"
            f" {', '.join(each.__name__ for each in own.values())}.",
        )


_KITS_OWN: Final = (FORMULAS, STRATEGIES, BACKTEST_RESULTS, BACKTEST_TRADES)


def _check_added(model: type[StoredDocument], replaced: type[StoredDocument]) -> None:
    added = model.model_fields.keys() - replaced.model_fields.keys()
    needed = sorted(field for field in added if model.model_fields[field].is_required())
    if needed:
        raise InvalidConfiguration(
            f"{model.__name__} adds {', '.join(needed)} without a default",
            remedy="Give it one: entities do not know the field, and are saved without it.",
        )
