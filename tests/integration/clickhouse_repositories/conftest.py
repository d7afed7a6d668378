"""Both ways to the engine: in process, and over TCP. One store in memory serves both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.testing.clickhouse_server import ClickHouseServer

ManagerFactory = Callable[..., ClickHouseManager]


@pytest.fixture(scope="module")
def server(engine_used: Callable[[str], None]) -> Iterator[ClickHouseServer]:
    with ClickHouseServer() as server:
        engine_used(f"ClickHouse over TCP (chDB {server.version})")
        engine_used(f"chDB {server.version}")
        yield server


@pytest.fixture
def over_tcp(server: ClickHouseServer) -> Iterator[ManagerFactory]:
    """Makes managers of the server; faults are cleared and managers closed at the end."""
    made: list[ClickHouseManager] = []

    def make(**fields: Any) -> ClickHouseManager:
        usual: dict[str, Any] = {"host": server.host, "port": server.port, "max_retries": 1}
        manager = ClickHouseManager(**usual | {"retry_base_delay": 0.01} | fields)
        made.append(manager)
        return manager

    yield make
    server.faults.clear()
    for manager in made:
        manager.close()


@pytest.fixture
def tcp(over_tcp: ManagerFactory) -> ClickHouseManager:
    """A manager of the server, its tables fresh."""
    manager = over_tcp()
    drop_tables(manager)
    tables.build().metadata.create_all(manager.engine)
    return manager


@pytest.fixture(params=["embedded", "tcp"])
def bare_manager(
    request: pytest.FixtureRequest, over_tcp: ManagerFactory
) -> Iterator[ClickHouseManager]:
    """A manager without tables."""
    yield from without_tables(request.param, over_tcp)


def without_tables(way: str, over_tcp: ManagerFactory) -> Iterator[ClickHouseManager]:
    """A manager, for fixtures; the server, whose engine both ways use, is there already."""
    if way == "tcp":
        manager = over_tcp()
        drop_tables(manager)
        yield manager
        return
    with ClickHouseManager(embedded_path=":memory:", database="repositories") as manager:
        drop_tables(manager)
        yield manager


@pytest.fixture
def manager(bare_manager: ClickHouseManager) -> ClickHouseManager:
    """A manager, its tables fresh."""
    tables.build().metadata.create_all(bare_manager.engine)
    return bare_manager


@pytest.fixture
def candles(manager: ClickHouseManager) -> ClickHouseCandleRepository:
    return ClickHouseCandleRepository(manager)


def drop_tables(manager: ClickHouseManager) -> None:
    for table in ("candles", "symbols", "other"):
        manager.execute(f"DROP TABLE IF EXISTS {table} SYNC")
