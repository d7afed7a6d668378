"""Storage for JTS services: time series, documents, bookkeeping and files behind one unit of work.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from jts_storage._runtime.imports import without_collections
from jts_storage._version import __version__

if TYPE_CHECKING:
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
    from jts_storage.domain.data_sets import DataSet, Verification
    from jts_storage.domain.enums import (
        FormulaCategory,
        Market,
        Metric,
        ParameterType,
        StopLossType,
        Timeframe,
        TradeSide,
    )
    from jts_storage.domain.events import DomainEvent
    from jts_storage.domain.formula import Formula, FormulaParameter
    from jts_storage.domain.gaps import Gap
    from jts_storage.domain.moments import Commit
    from jts_storage.domain.outcomes import Outcome, new_unit_id
    from jts_storage.domain.panel import CandlePanel
    from jts_storage.domain.rate_limits import PerDay, PerMinute, PerSecond, RateLimits, Slot
    from jts_storage.domain.results import CommitResult, Coverage, Page, SaveResult
    from jts_storage.domain.revision import Revision
    from jts_storage.domain.series import CandleSeries
    from jts_storage.domain.snapshot import Snapshot
    from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
    from jts_storage.domain.subscriptions import PlainEvent, SubscriptionState
    from jts_storage.domain.symbol import Symbol
    from jts_storage.errors import (
        Conflict,
        ConnectionFailed,
        InvalidData,
        NotFound,
        OutcomeUnknown,
        QuotaExhausted,
        RateLimited,
        StorageError,
    )
    from jts_storage.models import (
        DocumentRepository,
        Exact,
        Mapper,
        Moment,
        RecordModel,
        RecordRepository,
        TableModel,
        TableRepository,
        has_text,
    )
    from jts_storage.mongo.documents import VersionedDocument
    from jts_storage.mongo.model import DocumentModel
    from jts_storage.ports.models import Model
    from jts_storage.settings import StorageSettings
    from jts_storage.storage import Storage
    from jts_storage.unit_of_work.publisher import InMemoryEventPublisher

_HOMES = {
    "domain.backtest": (
        "BacktestConfig",
        "BacktestMetrics",
        "BacktestResult",
        "BacktestSummary",
        "Trade",
    ),
    "domain.bookkeeping": ("Checkpoint", "SymbolBars"),
    "domain.candle": ("Candle", "SeriesKey"),
    "domain.correction": ("Correction",),
    "domain.moments": ("Commit",),
    "domain.outcomes": ("Outcome", "new_unit_id"),
    "domain.snapshot": ("Snapshot",),
    "domain.data_sets": ("DataSet", "Verification"),
    "domain.enums": (
        "FormulaCategory",
        "Market",
        "Metric",
        "ParameterType",
        "StopLossType",
        "Timeframe",
        "TradeSide",
    ),
    "domain.events": ("DomainEvent",),
    "domain.formula": ("Formula", "FormulaParameter"),
    "domain.gaps": ("Gap",),
    "domain.panel": ("CandlePanel",),
    "domain.rate_limits": ("PerDay", "PerMinute", "PerSecond", "RateLimits", "Slot"),
    "domain.results": ("CommitResult", "Coverage", "Page", "SaveResult"),
    "domain.revision": ("Revision",),
    "domain.series": ("CandleSeries",),
    "domain.strategy": ("RiskConfig", "StopLossRule", "Strategy"),
    "domain.subscriptions": ("PlainEvent", "SubscriptionState"),
    "domain.symbol": ("Symbol",),
    "errors": (
        "Conflict",
        "ConnectionFailed",
        "InvalidData",
        "NotFound",
        "OutcomeUnknown",
        "QuotaExhausted",
        "RateLimited",
        "StorageError",
    ),
    "unit_of_work.publisher": ("InMemoryEventPublisher",),
    "models": (
        "DocumentRepository",
        "Exact",
        "Mapper",
        "Moment",
        "RecordModel",
        "RecordRepository",
        "TableModel",
        "TableRepository",
        "has_text",
    ),
    "mongo.documents": ("VersionedDocument",),
    "mongo.model": ("DocumentModel",),
    "ports.models": ("Model",),
    "settings": ("StorageSettings",),
    "storage": ("Storage",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BacktestConfig",
    "BacktestMetrics",
    "BacktestResult",
    "BacktestSummary",
    "Candle",
    "CandlePanel",
    "CandleSeries",
    "Checkpoint",
    "Commit",
    "CommitResult",
    "Conflict",
    "ConnectionFailed",
    "Correction",
    "Coverage",
    "DataSet",
    "DocumentModel",
    "DocumentRepository",
    "DomainEvent",
    "Exact",
    "Formula",
    "FormulaCategory",
    "FormulaParameter",
    "Gap",
    "InMemoryEventPublisher",
    "InvalidData",
    "Mapper",
    "Market",
    "Metric",
    "Model",
    "Moment",
    "NotFound",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "ParameterType",
    "PerDay",
    "PerMinute",
    "PerSecond",
    "PlainEvent",
    "QuotaExhausted",
    "RateLimited",
    "RateLimits",
    "RecordModel",
    "RecordRepository",
    "Revision",
    "RiskConfig",
    "SaveResult",
    "SeriesKey",
    "Slot",
    "Snapshot",
    "StopLossRule",
    "StopLossType",
    "Storage",
    "StorageError",
    "StorageSettings",
    "Strategy",
    "SubscriptionState",
    "Symbol",
    "SymbolBars",
    "TableModel",
    "TableRepository",
    "Timeframe",
    "Trade",
    "TradeSide",
    "Verification",
    "VersionedDocument",
    "__version__",
    "has_text",
    "new_unit_id",
]


if not TYPE_CHECKING:  # a checker would take every misspelt name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with without_collections():
            value: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
