"""ClickHouse keeps the contracts: the embedded engine, and a server over TCP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.contracts import CandleRepositoryContract, SymbolRepositoryContract
from jts_storage.unit_of_work.staged import StagedCandles


@pytest.fixture(scope="module", params=["embedded", "tcp"])
def manager(
    request: pytest.FixtureRequest, engine_used: Callable[[str], None]
) -> Iterator[ClickHouseManager]:
    engine_used("chDB" if request.param == "embedded" else "ClickHouse endpoint over chDB")
    if request.param == "embedded":
        opened = ClickHouseManager(embedded_path=":memory:", database="jts_test")
        tables.build().metadata.create_all(opened.engine)
        yield opened
        opened.close()
        return
    with ClickHouseServer() as server:
        opened = ClickHouseManager(host="127.0.0.1", port=server.port, database="default")
        tables.build().metadata.create_all(opened.engine)
        yield opened
        opened.close()


@pytest.fixture
def clean(manager: ClickHouseManager) -> ClickHouseManager:
    for table in ("candles", "symbols"):
        manager.execute(f"TRUNCATE TABLE {table}")
    return manager


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, clean: ClickHouseManager) -> ClickHouseCandleRepository:
        return ClickHouseCandleRepository(clean)


# What is staged over reads is the same whatever the way to the engine.
@pytest.mark.parametrize(
    "manager", ["embedded", pytest.param("tcp", marks=pytest.mark.slow)], indirect=True
)
class TestStagedCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, clean: ClickHouseManager) -> StagedCandles:
        return StagedCandles(ClickHouseCandleRepository(clean))


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, clean: ClickHouseManager) -> ClickHouseSymbolRepository:
        return ClickHouseSymbolRepository(clean)
