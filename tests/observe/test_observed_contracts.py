"""An observed storage keeps every contract, and every call of it is told once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from jts_storage import Storage
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
from tests.observe.recording import Recorder
from tests.remote.gateways import WRITES, AtOnce

# A proxy is made from the class that it stands for, so most suites see the same code: by night.


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    observer = Recorder()
    async with Storage.in_memory(observer=observer) as storage:
        yield storage
    assert observer.calls
    assert {each.call.store for each in observer.calls} == {"memory"}
    unended = [each.call for each in observer.calls if each.ends != 1]
    assert not unended, f"begun and not ended once: {unended}"


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


@pytest.mark.slow
class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "candles", WRITES)


@pytest.mark.slow
class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "symbols", WRITES)


@pytest.mark.slow
class TestFormulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "formulas", WRITES)

    @pytest.fixture
    def strategy_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "strategies", WRITES)


@pytest.mark.slow
class TestStrategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "strategies", WRITES)


@pytest.mark.slow
class TestBacktests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "backtests", WRITES)


@pytest.mark.slow
class TestSymbolBars(SymbolBarsRepositoryContract):
    @pytest.fixture
    def symbol_bars_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "ingestion.symbol_bars", WRITES)


@pytest.mark.slow
class TestCheckpoints(CheckpointRepositoryContract):
    @pytest.fixture
    def checkpoint_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "ingestion.checkpoints", WRITES)


@pytest.mark.slow
class TestBars(OHLCVRepositoryContract):
    @pytest.fixture
    def ohlcv_repository(self, storage: Storage) -> Any:
        return AtOnce(storage, "ingestion.bars", WRITES)
