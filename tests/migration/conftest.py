"""Real engines for migrations: one of each for all tests, and databases that each finds empty."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pymongo
import pytest

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.mongo import MongoDBManager
from jts_storage.relational.manager import DatabaseManager
from tests import servers
from tests.migration.service import MODELS, Service


def fresh_name(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:10]}"


def quiet(_: object) -> None:
    """A report that nobody reads."""


mongod = pytest.fixture(scope="session")(servers.mongod)


@pytest.fixture(scope="session")
def postgres(engine_used: Callable[[str], None]) -> Iterator[LocalPostgres]:
    with LocalPostgres.start() as server:
        engine_used("PostgreSQL")
        yield server


@pytest.fixture
def clickhouse(engine_used: Callable[[str], None]) -> Iterator[ClickHouseManager]:
    """An empty database of the embedded engine."""
    manager = ClickHouseManager(embedded_path=":memory:", database=fresh_name("migrated"))
    manager.connect()
    engine_used("chDB")
    yield manager
    manager.execute(f"DROP DATABASE IF EXISTS {manager.config.database}")
    manager.close()


@contextmanager
def cloned(source: ClickHouseManager) -> Iterator[ClickHouseManager]:
    """A database with the tables of another one and their rows, quicker than to make them."""
    with ClickHouseManager(source.config, database=fresh_name("cloned")) as manager:
        for (table,) in source.execute("SHOW TABLES"):
            manager.execute(f"CREATE TABLE {table} CLONE AS {source.config.database}.{table}")
        yield manager
        manager.execute(f"DROP DATABASE {manager.config.database}")


@pytest.fixture
async def mongo(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database=fresh_name("migrated")) as manager:
        yield manager
        with pymongo.timeout(60):  # a busy disk drops many collections slowly
            await manager.client.drop_database(manager.db.name)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[DatabaseManager]:
    if request.param == "sqlite":
        async with DatabaseManager(tmp_path / "bookkeeping.db") as manager:
            yield manager
        return
    server: LocalPostgres = request.getfixturevalue("postgres")
    name = fresh_name("migrated")
    dsn = await asyncio.to_thread(server.create_database, name)
    async with DatabaseManager(dsn) as manager:
        yield manager
    await asyncio.to_thread(server.drop_database, name)


@pytest.fixture
async def sqlite() -> AsyncIterator[DatabaseManager]:
    async with DatabaseManager(":memory:") as manager:
        yield manager


@pytest.fixture
def databases(
    clickhouse: ClickHouseManager, mongo: MongoDBManager, sqlite: DatabaseManager
) -> migrate.Databases:
    """All three, empty."""
    return migrate.Databases(clickhouse, mongo, sqlite)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A service whose first migrations make its declared models."""
    return Service(tmp_path / "own migrations")


@pytest.fixture
def both(databases: migrate.Databases, service: Service) -> migrate.Databases:
    """All three stores, with the service's folder."""
    return replace(databases, service=service.folder, models=MODELS)
