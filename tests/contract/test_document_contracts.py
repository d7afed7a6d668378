"""Documents in units of work keep their contract, over real stores and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.mongo import MongoDBManager, collection_schemas
from jts_storage.testing.contracts import DocumentsInUnitsOfWorkContract
from tests.prepared import Prepared


class TestInMemory(DocumentsInUnitsOfWorkContract):
    @pytest.fixture
    async def storage(self) -> AsyncIterator[Storage]:
        async with Storage.in_memory() as storage:
            yield storage


@pytest.fixture(scope="module")
def embedded(
    prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StorageSettings]:
    with prepared.shared_stores(tmp_path_factory.mktemp("jts")) as settings:
        yield settings


class TestEmbedded(DocumentsInUnitsOfWorkContract):
    @pytest.fixture
    async def storage(self, embedded: StorageSettings) -> AsyncIterator[Storage]:
        backend = StoreBackend(embedded)
        async with Storage(backend) as storage:
            mongo = backend.stores.mongo
            for schema in collection_schemas():
                await mongo.get_collection(schema.name).delete_many({})
            yield storage

    async def test_health_tells_of_documents_that_lists_left_out(
        self, storage: Storage, embedded: StorageSettings
    ) -> None:
        async with MongoDBManager(embedded.mongo()) as mongo:
            await mongo.get_collection("formulas").insert_one(
                {"name": "n", "expression": "e", "category": "hunch"},
                bypass_document_validation=True,
            )
        assert (await storage.health()).unreadable_documents == 0
        assert list(await storage.formulas.list()) == []
        assert (await storage.health()).unreadable_documents == 1
