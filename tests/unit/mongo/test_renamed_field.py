"""Fields have their stored names in the models alone: renamed there, every statement follows.

Each field of a copy of the models gets another stored name. What is built with the copy must be
what is built with the models, with every name exchanged and nothing left of the old ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import bson
import pytest
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pydantic import ConfigDict
from pymongo import UpdateOne

from jts_storage.domain.enums import FormulaCategory, Metric
from jts_storage.domain.strategy import StopLossRule
from jts_storage.mongo import mappers, queries
from jts_storage.mongo.documents import (
    BacktestDocument,
    ConfigFields,
    DataSetFields,
    FormulaDocument,
    FormulaVersionFields,
    MetricsFields,
    Models,
    ParameterFields,
    RiskFields,
    SeriesFields,
    StopLossFields,
    StrategyDocument,
    TradeChunkDocument,
    TradeFields,
)
from jts_storage.mongo.saves import Save
from jts_storage.mongo.schema import collection_schemas
from jts_storage.mongo.stored import CODEC, Stored, stored_alias
from jts_storage.testing.factories import make_backtest, make_formula, make_strategy


def renamed(field: str) -> str:
    name = stored_alias(field)
    return name if name.startswith("_") else f"x_{name}"


ANEW = ConfigDict(alias_generator=renamed)


class NewParameter(ParameterFields):
    model_config = ANEW


class NewFormula(FormulaDocument):
    model_config = ANEW
    parameters: list[NewParameter] | None = None  # type: ignore[assignment]


class NewStop(StopLossFields):
    model_config = ANEW


class NewRisk(RiskFields):
    model_config = ANEW


class NewStrategy(StrategyDocument):
    model_config = ANEW
    stop_loss_rule: NewStop | None = None
    risk_config: NewRisk | None = None


class NewSeries(SeriesFields):
    model_config = ANEW


class NewDataSet(DataSetFields):
    model_config = ANEW
    series: list[NewSeries]  # type: ignore[assignment]


class NewConfig(ConfigFields):
    model_config = ANEW
    data_set: NewDataSet | None = None


class NewMetrics(MetricsFields):
    model_config = ANEW


class NewTrade(TradeFields):
    model_config = ANEW


class NewVersion(FormulaVersionFields):
    model_config = ANEW


class NewBacktest(BacktestDocument):
    model_config = ANEW
    config: NewConfig
    metrics: NewMetrics | None = None
    trades: list[NewTrade] | None = None  # type: ignore[assignment]
    formula_versions: list[NewVersion] | None = None  # type: ignore[assignment]


class NewChunk(TradeChunkDocument):
    model_config = ANEW
    trades: list[NewTrade]  # type: ignore[assignment]


OLD = Models()
NEW = Models(NewFormula, NewStrategy, NewBacktest, NewChunk)
NESTED: list[type[Stored]] = [
    *(ParameterFields, StopLossFields, RiskFields, ConfigFields, MetricsFields, TradeFields),
    *(FormulaVersionFields, DataSetFields, SeriesFields),
]
NAMES = {
    stored_alias(field): renamed(field)
    for model in (*OLD.by_collection.values(), *NESTED)
    for field in model.model_fields
}
# In this test no value is spelled as a field, so that every one of these words is a name.
WORD = re.compile(rf"(?<![\w])(?:{'|'.join(sorted(NAMES, key=len, reverse=True))})(?![\w])")
OPERATORS = {"$type"}
IDENTITY, NOW = ObjectId("5" * 24), datetime(2024, 1, 2, tzinfo=UTC)
FORMULA = replace(make_formula("a b c"), id=str(IDENTITY), created_at=NOW, updated_at=NOW)
STRATEGY = make_strategy(
    "d e f",
    id=str(IDENTITY),
    entry_formula_id="a" * 24,
    exit_formula_id="b" * 24,
    stop_loss_rule=StopLossRule(formula_id="c" * 24),
)
BACKTEST = make_backtest(id="d" * 24, strategy_version=2, formula_versions={"a" * 24: 3})


def exchanged(value: Any) -> Any:
    """The same with every stored name exchanged, whole or in a path or an expression."""
    if isinstance(value, dict):
        return {exchanged(name): exchanged(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [exchanged(each) for each in value]
    if isinstance(value, str) and value not in OPERATORS:
        return WORD.sub(lambda name: NAMES[name[0]], value)
    return value


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def of_save(models: Models) -> object:
    document = mappers.formula_to_stored(FORMULA, models.formulas)
    encoded = RawBSONDocument(bson.encode(document))
    save = Save(models.formulas, replace(FORMULA, version=2), document, encoded, FORMULA)
    request = save.request()
    assert isinstance(request, UpdateOne)
    stale = {models.formulas.path("version"): 7}
    assert not save.replaces(stale) and save.version_of(stale) == 7
    assert save.is_stored(document) and save.result(document).created_at == NOW
    return [save.where, save.change, save.times]


BUILT: dict[str, Callable[[Models], object]] = {
    "category": lambda m: queries.in_category(m.formulas, FormulaCategory.ENTRY),
    "tags": lambda m: queries.tagged(m.formulas, ["one", "two"]),
    "search": lambda m: queries.beginnings(m.formulas, ["one"]),
    "guard": lambda m: queries.of_version(m.formulas, IDENTITY, 1),
    "state": lambda m: queries.only(m.formulas, "version", "created_at", "updated_at"),
    "save": of_save,
    "update of a strategy": lambda m: queries.replacement(
        m.strategies, mappers.strategy_to_stored(STRATEGY, m.strategies)
    ),
    "users": lambda m: queries.uses_formula(m.strategies, IDENTITY),
    "of a strategy": lambda m: queries.of_strategy(m.backtest_results, IDENTITY),
    "older": lambda m: queries.older_than(m.backtest_results, NOW, IDENTITY),
    "newest first": lambda m: queries.newest_first(m.backtest_results),
    "summary": lambda m: queries.without(m.backtest_results, "trades"),
    **{
        f"best by {metric.value}": lambda m, metric=metric: queries.best_ids(  # type: ignore[misc]
            m.backtest_results, metric, IDENTITY, 0, 10
        )
        for metric in Metric
    },
    "indexes": lambda m: {
        name: [
            (list(index.document["key"].items()), dict(index.document.get("weights", {})))
            for index in model.indexes()
        ]
        for name, model in m.by_collection.items()
    },
    "validators": lambda m: [each.validator for each in collection_schemas(m)],
    "formula": lambda m: mappers.formula_to_stored(FORMULA, m.formulas),
    "strategy": lambda m: mappers.strategy_to_stored(STRATEGY, m.strategies),
    "backtest": lambda m: stored_backtest(m),
}


def stored_backtest(models: Models) -> dict[str, Any]:
    model = models.backtest_results
    trades = mappers.trades_to_stored(BACKTEST.trades, model.nested("trades"))
    return mappers.backtest_to_stored(BACKTEST, trades, model, trade_set=IDENTITY, trade_count=3)


@pytest.mark.parametrize("built", BUILT)
def test_what_is_built_follows_a_renamed_field(built: str) -> None:
    with_old, with_new = plain(BUILT[built](OLD)), plain(BUILT[built](NEW))
    if built == "indexes":
        with_old = {name: exchanged(indexes) for name, indexes in with_old.items()}
    elif built == "validators":
        with_old = [_exchanged_schema(each) for each in with_old if each]
        with_new = [each for each in with_new if each]
    else:
        with_old = exchanged(with_old)
    assert with_new == with_old
    assert "x_" in str(with_new), "nothing in it has been renamed"


def _exchanged_schema(schema: Any) -> Any:
    """Names are keys of `properties` and items of `required`; the rest is JSON Schema's own."""
    if not isinstance(schema, dict):
        return schema
    found = {name: _exchanged_schema(each) for name, each in schema.items()}
    if "properties" in found:
        found["properties"] = {exchanged(name): each for name, each in found["properties"].items()}
    if "required" in found:
        found["required"] = exchanged(found["required"])
    return found


def test_the_mappers_read_by_the_new_names() -> None:
    read = mappers.read_stored

    def wired(document: dict[str, Any]) -> dict[str, Any]:
        return bson.decode(bson.encode(document), CODEC)

    formula = wired(mappers.formula_to_stored(FORMULA, NewFormula))
    assert read(NewFormula, mappers.formula_from_document, formula) == FORMULA
    strategy = wired(mappers.strategy_to_stored(STRATEGY, NewStrategy))
    assert read(NewStrategy, mappers.strategy_from_document, strategy) == STRATEGY
    assert NewStrategy.formulas_of(strategy) == STRATEGY.formula_ids
    backtest = bson.decode(bson.encode(stored_backtest(NEW)), CODEC)
    assert read(NewBacktest, mappers.backtest_from_document, backtest) == BACKTEST
    assert read(NewBacktest, mappers.summary_from_document, backtest) == BACKTEST.summary()


def test_a_field_that_a_model_has_not_is_no_name() -> None:
    with pytest.raises(KeyError):
        FormulaDocument.path("categroy")
    with pytest.raises(KeyError):
        StrategyDocument.path("stop_loss_rule.formula")
    with pytest.raises(TypeError, match="categroy"):
        FormulaDocument.of(categroy="entry")
    with pytest.raises(TypeError, match="categroy"):
        FormulaDocument.stored_of(categroy="entry")


class Odd(Stored):
    left_out_if_none: ClassVar[frozenset[str]] = frozenset({"extra"})
    name: str
    extra: int | None = None


def test_what_has_nothing_to_say_is_left_out_and_read_as_none() -> None:
    assert Odd.of(name="n", extra=None).to_stored() == {"name": "n"}
    assert Odd.from_stored({"name": "n"}).extra is None
    assert Odd.of(name="n", extra=1).to_stored() == {"name": "n", "extra": 1}
    assert Odd.of(name="n").to_stored() == {"name": "n"}
    with pytest.raises(TypeError, match="lacks name"):
        Odd.of(extra=1)
    assert Odd.stored_of(name="n", extra=None) == Odd.stored_of(name="n") == {"name": "n"}
    assert Odd.stored_of(name="n", extra=1) == {"name": "n", "extra": 1}
    with pytest.raises(TypeError, match="lacks name"):
        Odd.stored_of(extra=1)
