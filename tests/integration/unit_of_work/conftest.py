"""A storage on stores that are empty, for each test that has no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.local_servers.mongod import LocalMongod


@pytest.fixture(scope="module")
def mongod(shared_mongod: LocalMongod) -> LocalMongod:
    return shared_mongod


@pytest.fixture
def settings(emptied_settings: StorageSettings) -> StorageSettings:
    return emptied_settings


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage
