"""The contracts, over Distributed tables of two shards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.testing.backends import Stack
from jts_storage.testing.contracts import (
    CandleRepositoryContract,
    DataSetContract,
    PurgeContract,
    SubscriptionContract,
    SymbolRepositoryContract,
    UnitOfWorkContract,
)
from tests.contract.test_storage_contracts import StoredHistory
from tests.prepared import emptied

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(sharded: Stack) -> StorageSettings:
    return emptied(sharded)


@pytest.fixture
def manager(settings: StorageSettings) -> Iterator[ClickHouseManager]:
    with ClickHouseManager(settings.clickhouse()) as manager:
        yield manager


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, manager: ClickHouseManager) -> ClickHouseCandleRepository:
        return ClickHouseCandleRepository(manager)


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, manager: ClickHouseManager) -> ClickHouseSymbolRepository:
        return ClickHouseSymbolRepository(manager)


class TestStorage(
    UnitOfWorkContract, StoredHistory, PurgeContract, DataSetContract, SubscriptionContract
):
    pass
