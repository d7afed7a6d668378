"""The blocking twins keep the contracts of the ports they were generated from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jts_storage import ports
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.sync import Storage
from jts_storage.sync import repositories as sync
from jts_storage.sync.portal import Portal
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    CandleRepositoryContract,
    CheckpointRepositoryContract,
    FormulaRepositoryContract,
    OHLCVRepositoryContract,
    StrategyRepositoryContract,
    SubscriptionContract,
    SymbolBarsRepositoryContract,
    SymbolRepositoryContract,
)
from tests.contract.blocking import Awaitable, AwaitableStorage
from tests.contract.twin import symbols_at_once


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture
def backend() -> InMemoryBackend:
    return InMemoryBackend()


@pytest.fixture
def candle_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.CandleRepository(portal, backend.candles))


@pytest.fixture
def symbol_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.SymbolRepository(portal, symbols_at_once()))


@pytest.fixture
def formula_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.FormulaRepository(portal, backend.formulas))


@pytest.fixture
def strategy_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.StrategyRepository(portal, backend.strategies))


@pytest.fixture
def backtest_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.BacktestRepository(portal, backend.backtests))


@pytest.fixture
def symbol_bars_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.SymbolBarsRepository(portal, backend.ingestion.symbol_bars))


@pytest.fixture
def checkpoint_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.CheckpointRepository(portal, backend.ingestion.checkpoints))


@pytest.fixture
def ohlcv_repository(portal: Portal, backend: InMemoryBackend) -> Any:
    return Awaitable(sync.OHLCVRepository(portal, backend.ingestion.bars))


class TestCandles(CandleRepositoryContract):
    pass


class TestSymbols(SymbolRepositoryContract):
    pass


class TestFormulas(FormulaRepositoryContract):
    pass


class TestStrategies(StrategyRepositoryContract):
    pass


class TestBacktests(BacktestRepositoryContract):
    pass


class TestSymbolBars(SymbolBarsRepositoryContract):
    pass


class TestCheckpoints(CheckpointRepositoryContract):
    pass


class TestBars(OHLCVRepositoryContract):
    pass


class TestSubscriptions(SubscriptionContract):
    @pytest.fixture
    def storage(self) -> Iterator[Any]:
        with Storage.in_memory() as storage:
            yield AwaitableStorage(storage)


def test_every_port_has_its_twin() -> None:
    without = {"EventPublisher", "EventHandler", "ALL_EVENTS", "Lake", "LakeFile"}
    for name in set(ports.__all__) - without:
        port, twin = getattr(ports, name), getattr(sync, name)
        methods = {member for member in vars(port) if not member.startswith("_")}
        assert methods <= set(vars(twin)), name
