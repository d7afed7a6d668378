"""Databases to test against: a SQLite file, and a real PostgreSQL with a fresh database a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.relational import DatabaseConfig, DatabaseManager, create_all, metadata

_numbers = count()


@pytest.fixture(scope="session")
def postgres(engine_used: Callable[[str], None]) -> Iterator[LocalPostgres]:
    with LocalPostgres.start() as server:
        engine_used("PostgreSQL")
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: LocalPostgres) -> str:
    """A database with the tables, to copy: quicker than to create them."""
    import asyncio

    async def create(url: str) -> None:
        manager = DatabaseManager(url)
        await create_all(manager.engine)
        await manager.engine.dispose()

    postgres.create_database("bookkeeping")
    asyncio.run(create(postgres.dsn_of("bookkeeping")))
    return "bookkeeping"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database of either kind is, its tables made."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/bookkeeping.db"
        return
    server: LocalPostgres = request.getfixturevalue("postgres")
    template: str = request.getfixturevalue("postgres_template")
    name = f"test_{next(_numbers)}"
    yield server.create_database(name, template)
    server.drop_database(name)


@pytest.fixture
async def make_manager(database_url: str) -> AsyncIterator[Callable[..., DatabaseManager]]:
    """Managers of that database with other settings; closed at the end."""
    made: list[DatabaseManager] = []

    def make(**settings: Any) -> DatabaseManager:
        made.append(DatabaseManager(DatabaseConfig(database_url, **settings)))
        return made[-1]

    setup = make()
    async with setup.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield make
    for manager in made:
        await manager.close()


@pytest.fixture
async def manager(make_manager: Callable[..., DatabaseManager]) -> DatabaseManager:
    return make_manager()
