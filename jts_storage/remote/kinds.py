"""The classes whose objects travel, by the names that the wire has for them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from jts_storage.domain import enums
from jts_storage.domain.backtest import (
    BacktestConfig,
    BacktestMetrics,
    BacktestResult,
    BacktestSummary,
    Trade,
)
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.correction import Correction
from jts_storage.domain.data_sets import DataSet, SeriesDifference, Verification
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.moments import Commit
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.results import CommitResult, Coverage, SaveResult
from jts_storage.domain.revision import Revision
from jts_storage.domain.snapshot import Snapshot
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.domain.subscriptions import SubscriptionState
from jts_storage.domain.symbol import Symbol

ENTITIES: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        BacktestConfig,
        BacktestMetrics,
        BacktestResult,
        BacktestSummary,
        Candle,
        Checkpoint,
        Commit,
        CommitResult,
        Correction,
        Coverage,
        DataSet,
        Formula,
        FormulaParameter,
        Outcome,
        PanelQuery,
        Revision,
        RiskConfig,
        SaveResult,
        SeriesDifference,
        SeriesKey,
        Snapshot,
        StopLossRule,
        Strategy,
        SubscriptionState,
        Symbol,
        SymbolBars,
        Trade,
        Verification,
    )
}
MEMBERS: Final[dict[str, type[Enum]]] = {
    kind.__name__: kind
    for kind in vars(enums).values()
    if isinstance(kind, type) and issubclass(kind, Enum) and kind is not Enum
}


@cache
def names_of(name: str) -> tuple[str, ...]:
    """The fields of a kind of entity, which are the arguments of its class."""
    kind: Any = ENTITIES[name]
    if is_dataclass(kind):
        return tuple(each.name for each in fields(kind) if each.init)
    return tuple(kind._fields)
