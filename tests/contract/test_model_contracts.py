"""Declared models keep their contract on real stores and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.ports.models import Model
from jts_storage.testing.contracts import model_contract
from tests.declared import balances, fill_records, fills, fundamentals, orders, quotes, ticks


@pytest.fixture(scope="module")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("models")) as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield mongod


@pytest.fixture
async def jts_storage(
    mongod: LocalMongod, tmp_path: Path, jts_models: Iterable[Model[Any]]
) -> AsyncIterator[Storage]:
    """In place of the plugin's, whose engine would be the only one of this process."""
    settings = StorageSettings(
        data_dir=tmp_path,
        mongo_url=SecretStr(mongod.uri),
        mongo_database=f"models{ObjectId()}",
        migrate=True,
    )
    async with Storage(StoreBackend(settings, models=jts_models)) as storage:
        yield storage


TestTicks = model_contract(ticks)
TestFundamentals = model_contract(fundamentals)
TestQuotes = model_contract(quotes)
TestFills = model_contract(fills)
TestFillRecords = model_contract(fill_records)
TestBalances = model_contract(balances)
TestOrders = model_contract(orders)
