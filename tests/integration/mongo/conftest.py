"""One local mongod for all tests of this folder, and a database that each finds empty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    collection_schemas,
    ensure_schema,
)
from tests import servers

DATABASE = "jts_test"


mongod = pytest.fixture(scope="session")(servers.mongod)


@pytest.fixture(scope="session")
def _schema(mongod: LocalMongod) -> None:
    async def create() -> None:
        async with MongoDBManager(uri=mongod.uri, database=DATABASE) as manager:
            await ensure_schema(manager.db)

    asyncio.run(create())


@pytest.fixture
async def manager(mongod: LocalMongod, _schema: None) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database=DATABASE) as manager:
        for schema in collection_schemas():
            await manager.get_collection(schema.name).delete_many({})
        yield manager


@pytest.fixture
def formulas(manager: MongoDBManager) -> MongoDBFormulaRepository:
    return MongoDBFormulaRepository(manager)


@pytest.fixture
def strategies(manager: MongoDBManager) -> MongoDBStrategyRepository:
    return MongoDBStrategyRepository(manager)


@pytest.fixture
def backtests(manager: MongoDBManager) -> MongoDBBacktestResultRepository:
    return MongoDBBacktestResultRepository(manager)


@pytest.fixture
def own_mongod(tmp_path: Path) -> Iterator[LocalMongod]:
    """One that a test may kill."""
    with LocalMongod.acquire(tmp_path / "own") as server:
        yield server
