"""The shared contracts on SQLite and PostgreSQL, alone and inside somebody's transaction."""

from __future__ import annotations

import pytest

from jts_storage.relational import (
    CheckpointRepository,
    DatabaseManager,
    OHLCVRepository,
    SymbolBarsRepository,
)
from jts_storage.testing.contracts import (
    CheckpointRepositoryContract,
    OHLCVRepositoryContract,
    SymbolBarsRepositoryContract,
)


class TestSymbolBars(SymbolBarsRepositoryContract):
    @pytest.fixture
    def symbol_bars_repository(self, manager: DatabaseManager) -> SymbolBarsRepository:
        return SymbolBarsRepository(manager)


class TestCheckpoints(CheckpointRepositoryContract):
    @pytest.fixture
    def checkpoint_repository(self, manager: DatabaseManager) -> CheckpointRepository:
        return CheckpointRepository(manager)


class TestBars(OHLCVRepositoryContract):
    @pytest.fixture
    def ohlcv_repository(self, manager: DatabaseManager) -> OHLCVRepository:
        return OHLCVRepository(manager)
