"""A storage behind a gateway keeps every contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    CandleRepositoryContract,
    CheckpointRepositoryContract,
    DataSetContract,
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
from tests.remote.gateways import WRITES, AtOnce, remote


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    async with remote(InMemoryBackend(), tmp_path) as storage:
        yield storage


class TestUnitOfWork(
    UnitOfWorkContract,
    OutcomeContract,
    SideBySideContract,
    HistoryContract,
    PurgeContract,
    DataSetContract,
):
    """Those of whole storages."""


class TestSubscriptions(SubscriptionContract):
    """Those of events."""


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "candles", WRITES)


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "symbols", WRITES)


class TestFormulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "formulas", WRITES)

    @pytest.fixture
    def strategy_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "strategies", WRITES)


class TestStrategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "strategies", WRITES)


class TestBacktests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "backtests", WRITES)


class TestSymbolBars(SymbolBarsRepositoryContract):
    @pytest.fixture
    def symbol_bars_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "ingestion.symbol_bars", WRITES)


class TestCheckpoints(CheckpointRepositoryContract):
    @pytest.fixture
    def checkpoint_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "ingestion.checkpoints", WRITES)


class TestBars(OHLCVRepositoryContract):
    @pytest.fixture
    def ohlcv_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "ingestion.bars", WRITES)
