"""A storage on an engine of its own, and a database of its own of the mongod of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from bson import ObjectId
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.local_servers.mongod import LocalMongod


@pytest.fixture(scope="session")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("history")) as mongod:
        engine_used("mongod")
        yield mongod


@pytest.fixture
async def storage(
    mongod: LocalMongod, tmp_path: Path, engine_used: Callable[[str], None]
) -> AsyncIterator[Storage]:
    engine_used("chDB")
    settings = StorageSettings(
        data_dir=tmp_path,
        mongo_url=SecretStr(mongod.uri),
        mongo_database=f"history{ObjectId()}",
        migrate=True,
    )
    async with Storage.open(settings) as storage:
        yield storage
