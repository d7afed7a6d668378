"""The in-memory stores keep every contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.memory.backtests import InMemoryBacktestResultRepository
from jts_storage.memory.bookkeeping import (
    InMemoryCheckpointRepository,
    InMemorySymbolBarsRepository,
)
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.documents import InMemoryFormulaRepository, InMemoryStrategyRepository
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.ports import OHLCVRepository, SymbolRepository
from jts_storage.storage import Storage
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    CandleRepositoryContract,
    CheckpointRepositoryContract,
    DataSetContract,
    EventPublisherContract,
    FormulaRepositoryContract,
    HistoryContract,
    OHLCVRepositoryContract,
    OutcomeContract,
    PurgeContract,
    SideBySideContract,
    StrategyRepositoryContract,
    SubscriptionContract,
    SymbolBarsRepositoryContract,
    SymbolRepositoryContract,
    UnitOfWorkContract,
)
from jts_storage.unit_of_work.publisher import InMemoryEventPublisher
from jts_storage.unit_of_work.staged import (
    StagedCandles,
    StagedCheckpoints,
    StagedSymbolBars,
)
from jts_storage.unit_of_work.staged.tables import StagedTable
from tests.contract.twin import symbols_at_once


@pytest.fixture
def backend() -> InMemoryBackend:
    return InMemoryBackend()


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, backend: InMemoryBackend) -> InMemoryCandleRepository:
        return backend.candles


class TestStagedCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, backend: InMemoryBackend) -> StagedCandles:
        return StagedCandles(backend.candles)


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self) -> SymbolRepository:
        return symbols_at_once()


class TestStagedSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self) -> SymbolRepository:
        return SYMBOLS.repository(StagedTable(SYMBOLS, InMemoryTable(MemoryDatabase(), SYMBOLS)))


class TestFormulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(self, backend: InMemoryBackend) -> InMemoryFormulaRepository:
        return backend.formulas

    @pytest.fixture
    def strategy_repository(self, backend: InMemoryBackend) -> InMemoryStrategyRepository:
        return backend.strategies


class TestStrategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(self, backend: InMemoryBackend) -> InMemoryStrategyRepository:
        return backend.strategies


class TestBacktests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(self, backend: InMemoryBackend) -> InMemoryBacktestResultRepository:
        return backend.backtests


class TestSymbolBars(SymbolBarsRepositoryContract):
    @pytest.fixture
    def symbol_bars_repository(self, backend: InMemoryBackend) -> InMemorySymbolBarsRepository:
        return backend.ingestion.symbol_bars


class TestStagedSymbolBars(SymbolBarsRepositoryContract):
    @pytest.fixture
    def symbol_bars_repository(self, backend: InMemoryBackend) -> StagedSymbolBars:
        return StagedSymbolBars(backend.ingestion.symbol_bars)


class TestStagedCheckpoints(CheckpointRepositoryContract):
    @pytest.fixture
    def checkpoint_repository(self, backend: InMemoryBackend) -> StagedCheckpoints:
        return StagedCheckpoints(backend.ingestion.checkpoints)


class TestCheckpoints(CheckpointRepositoryContract):
    @pytest.fixture
    def checkpoint_repository(self, backend: InMemoryBackend) -> InMemoryCheckpointRepository:
        return backend.ingestion.checkpoints


class TestBars(OHLCVRepositoryContract):
    @pytest.fixture
    def ohlcv_repository(self, backend: InMemoryBackend) -> OHLCVRepository:
        return backend.ingestion.bars


class TestEvents(EventPublisherContract):
    @pytest.fixture
    def publisher(self) -> InMemoryEventPublisher:
        return InMemoryEventPublisher()


class TestUnitOfWork(
    UnitOfWorkContract,
    OutcomeContract,
    SideBySideContract,
    HistoryContract,
    PurgeContract,
    DataSetContract,
):
    @pytest.fixture
    async def storage(self) -> AsyncIterator[Storage]:
        async with Storage.in_memory() as storage:
            yield storage


class TestSubscriptions(SubscriptionContract):
    @pytest.fixture
    async def storage(self) -> AsyncIterator[Storage]:
        async with Storage.in_memory() as storage:
            yield storage
