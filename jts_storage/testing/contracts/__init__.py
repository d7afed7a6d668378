"""What every implementation of a port has to pass.

Subclass a suite and give it the fixture that it names; each test gets a repository over a store
that is empty. The suites need pytest, pytest-asyncio and hypothesis (extra ``[test]``).
"""

from jts_storage.testing.contracts.backtests import BacktestRepositoryContract
from jts_storage.testing.contracts.candles import CandleRepositoryContract
from jts_storage.testing.contracts.data_sets import DataSetContract
from jts_storage.testing.contracts.documents import DocumentsInUnitsOfWorkContract
from jts_storage.testing.contracts.events import EventPublisherContract
from jts_storage.testing.contracts.formulas import FormulaRepositoryContract
from jts_storage.testing.contracts.history import HistoryContract
from jts_storage.testing.contracts.ingestion import (
    CheckpointRepositoryContract,
    OHLCVRepositoryContract,
    SymbolBarsRepositoryContract,
)
from jts_storage.testing.contracts.models import model_contract
from jts_storage.testing.contracts.outcomes import OutcomeContract
from jts_storage.testing.contracts.purges import PurgeContract
from jts_storage.testing.contracts.rate_limiter import RateLimiterContract
from jts_storage.testing.contracts.rate_limits import RateLimitStoreContract
from jts_storage.testing.contracts.revisions import DocumentHistoryContract
from jts_storage.testing.contracts.side_by_side import SideBySideContract
from jts_storage.testing.contracts.strategies import StrategyRepositoryContract
from jts_storage.testing.contracts.subscriptions import SubscriptionContract
from jts_storage.testing.contracts.symbols import SymbolRepositoryContract
from jts_storage.testing.contracts.unit_of_work import UnitOfWorkContract

__all__ = [
    "BacktestRepositoryContract",
    "CandleRepositoryContract",
    "CheckpointRepositoryContract",
    "DataSetContract",
    "DocumentHistoryContract",
    "DocumentsInUnitsOfWorkContract",
    "EventPublisherContract",
    "FormulaRepositoryContract",
    "HistoryContract",
    "OHLCVRepositoryContract",
    "OutcomeContract",
    "PurgeContract",
    "RateLimitStoreContract",
    "RateLimiterContract",
    "SideBySideContract",
    "StrategyRepositoryContract",
    "SubscriptionContract",
    "SymbolBarsRepositoryContract",
    "SymbolRepositoryContract",
    "UnitOfWorkContract",
    "model_contract",
]
