"""The contracts on current servers in containers, where a Docker engine answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    collection_schemas,
    ensure_schema,
)
from jts_storage.testing.containers import ClickHouseContainer, ContainerServer, MongoContainer
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    CandleRepositoryContract,
    FormulaRepositoryContract,
    StrategyRepositoryContract,
    SymbolRepositoryContract,
)

if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
    pytest.skip("NOT RUN on current servers: no Docker engine here", allow_module_level=True)


def started(server: ContainerServer) -> Iterator[str]:
    url = server.start()
    yield url
    server.stop()


@pytest.fixture(scope="module")
def mongo_url(engine_used: Callable[[str], None]) -> Iterator[str]:
    for url in started(MongoContainer()):
        engine_used("MongoDB in a container")
        asyncio.run(_prepared(url))
        yield url


@pytest.fixture(scope="module")
def clickhouse_url(engine_used: Callable[[str], None]) -> Iterator[str]:
    for url in started(ClickHouseContainer()):
        engine_used("ClickHouse in a container")
        yield url


async def _prepared(url: str) -> None:
    async with MongoDBManager(uri=url, database="contracts_test") as manager:
        await ensure_schema(manager.db)


@pytest.fixture
async def mongo(mongo_url: str) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongo_url, database="contracts_test") as manager:
        for schema in collection_schemas():
            await manager.get_collection(schema.name).delete_many({})
        yield manager


@pytest.fixture
def clickhouse(clickhouse_url: str) -> Iterator[ClickHouseManager]:
    with ClickHouseManager(ClickHouseConfig.from_url(clickhouse_url)) as manager:
        tables.build().metadata.create_all(manager.engine)
        for table in ("candles", "symbols"):
            manager.execute(f"TRUNCATE TABLE {table}")
        yield manager


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, clickhouse: ClickHouseManager) -> ClickHouseCandleRepository:
        return ClickHouseCandleRepository(clickhouse)


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, clickhouse: ClickHouseManager) -> ClickHouseSymbolRepository:
        return ClickHouseSymbolRepository(clickhouse)


class TestFormulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(self, mongo: MongoDBManager) -> MongoDBFormulaRepository:
        return MongoDBFormulaRepository(mongo)

    @pytest.fixture
    def strategy_repository(self, mongo: MongoDBManager) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(mongo)


class TestStrategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(self, mongo: MongoDBManager) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(mongo)


class TestBacktests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(self, mongo: MongoDBManager) -> MongoDBBacktestResultRepository:
        return MongoDBBacktestResultRepository(mongo)
