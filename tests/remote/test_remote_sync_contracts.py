"""The blocking twins keep the contracts over a gateway, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.sync import repositories as sync
from jts_storage.sync.portal import Portal
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    CandleRepositoryContract,
    CheckpointRepositoryContract,
    FormulaRepositoryContract,
    OHLCVRepositoryContract,
    StrategyRepositoryContract,
    SymbolBarsRepositoryContract,
    SymbolRepositoryContract,
)
from tests.contract.blocking import Awaitable
from tests.remote.gateways import WRITES, AtOnce, remote

# The twins are generated, and every call of theirs goes the way that the others test by day.
pytestmark = pytest.mark.slow


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture
def storage(portal: Portal, tmp_path: Path) -> Iterator[Storage]:
    opened: Any = remote(InMemoryBackend(), tmp_path)
    yield portal.call(opened.__aenter__())
    portal.call(opened.__aexit__(None, None, None))


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "candles", WRITES)
        return Awaitable(sync.CandleRepository(portal, found))


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "symbols", WRITES)
        return Awaitable(sync.SymbolRepository(portal, found))


class TestFormulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "formulas", WRITES)
        return Awaitable(sync.FormulaRepository(portal, found))

    @pytest.fixture
    def strategy_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "strategies", WRITES)
        return Awaitable(sync.StrategyRepository(portal, found))


class TestStrategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "strategies", WRITES)
        return Awaitable(sync.StrategyRepository(portal, found))


class TestBacktests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "backtests", WRITES)
        return Awaitable(sync.BacktestRepository(portal, found))


class TestSymbolBars(SymbolBarsRepositoryContract):
    @pytest.fixture
    def symbol_bars_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "ingestion.symbol_bars", WRITES)
        return Awaitable(sync.SymbolBarsRepository(portal, found))


class TestCheckpoints(CheckpointRepositoryContract):
    @pytest.fixture
    def checkpoint_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "ingestion.checkpoints", WRITES)
        return Awaitable(sync.CheckpointRepository(portal, found))


class TestBars(OHLCVRepositoryContract):
    @pytest.fixture
    def ohlcv_repository(self, portal: Portal, storage: Storage) -> Any:
        found: Any = AtOnce(storage, "ingestion.bars", WRITES)
        return Awaitable(sync.OHLCVRepository(portal, found))
