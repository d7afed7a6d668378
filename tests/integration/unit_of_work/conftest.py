"""A storage on engines of its own, for each test that has no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from bson import ObjectId
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.local_servers.mongod import LocalMongod


@pytest.fixture(scope="module")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("order")) as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield mongod


@pytest.fixture
def settings(mongod: LocalMongod, tmp_path: Path) -> StorageSettings:
    return StorageSettings(
        data_dir=tmp_path,
        mongo_url=SecretStr(mongod.uri),
        mongo_database=f"order{ObjectId()}",
        migrate=True,
    )


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage
