"""What stores promise, as Protocols. The docstrings are the contract; the contract suites in
`jts_storage.testing.contracts` hold every implementation to it."""

from jts_storage.ports.backtests import BacktestReader, BacktestRepository, BacktestStore
from jts_storage.ports.candles import CandleReader, CandleRepository, CandleStore
from jts_storage.ports.entered import EnteredOnce
from jts_storage.ports.events import (
    ALL_EVENTS,
    EventCollector,
    EventHandler,
    EventPublisher,
    Subscription,
)
from jts_storage.ports.formulas import FormulaReader, FormulaRepository, FormulaStore
from jts_storage.ports.history import View
from jts_storage.ports.ingest import LiveIngest
from jts_storage.ports.ingestion import (
    CheckpointReader,
    CheckpointRepository,
    IngestionReader,
    IngestionRepository,
    OHLCVReader,
    OHLCVRepository,
    SymbolBarsReader,
    SymbolBarsRepository,
)
from jts_storage.ports.lake import Lake, LakeFile
from jts_storage.ports.rate_limits import AcquiredSlot, RateLimiter
from jts_storage.ports.snapshots import SnapshotStore
from jts_storage.ports.strategies import StrategyReader, StrategyRepository, StrategyStore
from jts_storage.ports.symbols import SymbolReader, SymbolRepository
from jts_storage.ports.unit_of_work import Repositories, UnitOfWork

__all__ = [
    "ALL_EVENTS",
    "AcquiredSlot",
    "BacktestReader",
    "BacktestRepository",
    "BacktestStore",
    "CandleReader",
    "CandleRepository",
    "CandleStore",
    "CheckpointReader",
    "CheckpointRepository",
    "EnteredOnce",
    "EventCollector",
    "EventHandler",
    "EventPublisher",
    "FormulaReader",
    "FormulaRepository",
    "FormulaStore",
    "IngestionReader",
    "IngestionRepository",
    "Lake",
    "LakeFile",
    "LiveIngest",
    "OHLCVReader",
    "OHLCVRepository",
    "RateLimiter",
    "Repositories",
    "SnapshotStore",
    "StrategyReader",
    "StrategyRepository",
    "StrategyStore",
    "Subscription",
    "SymbolBarsReader",
    "SymbolBarsRepository",
    "SymbolReader",
    "SymbolRepository",
    "UnitOfWork",
    "View",
]
