"""The history of documents keeps its contract: over real stores, in memory, and blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings, sync
from jts_storage.backend import StoreBackend
from jts_storage.mongo import collection_schemas
from jts_storage.testing.contracts import DocumentHistoryContract, PurgeContract
from jts_storage.testing.contracts.corrections import CorrectionContract
from tests.contract.blocking import Awaitable
from tests.prepared import Prepared


class TestInMemory(DocumentHistoryContract):
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


class TestEmbedded(DocumentHistoryContract):
    @pytest.fixture
    async def storage(self, embedded: StorageSettings) -> AsyncIterator[Storage]:
        backend = StoreBackend(embedded)
        async with Storage(backend) as storage:
            mongo = backend.stores.mongo
            for schema in collection_schemas():
                if schema.name not in ("uow_clock", "uow_history"):
                    await mongo.get_collection(schema.name).delete_many({})
            yield storage


class _BlockingStorage:
    """A blocking storage behind the asynchronous interface."""

    def __init__(self, storage: sync.Storage) -> None:
        self._storage = storage
        self.formulas = Awaitable(storage.formulas)
        self.strategies = Awaitable(storage.strategies)
        self.backtests = Awaitable(storage.backtests)
        self.candles = Awaitable(storage.candles)
        self.snapshots = Awaitable(storage.snapshots)

    async def as_of(self, moment: Any) -> Any:
        return _Parts(await asyncio.to_thread(self._storage.as_of, moment))

    async def data_set(self, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(self._storage.data_set, *args, **kwargs)

    async def fingerprint(self, data_set: Any) -> str:
        return await asyncio.to_thread(self._storage.fingerprint, data_set)

    def unit_of_work(self, *, source: str = "") -> Any:
        return _Parts(self._storage.unit_of_work(source=source))

    async def run(self, work: Any) -> Any:
        async with self.unit_of_work() as uow:
            outcome = await work(uow)
            await uow.commit()
        return outcome


class _Parts(Awaitable):
    """A view or a unit of work: repositories, and methods of its own."""

    def __getattr__(self, name: str) -> Any:
        if name in {"candles", "formulas", "strategies", "backtests"}:
            return Awaitable(getattr(self._blocking, name))
        return super().__getattr__(name)

    async def __aenter__(self) -> Any:
        await self.__getattr__("__enter__")()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self.__getattr__("__exit__")(*raised)


class TestBlocking(DocumentHistoryContract, PurgeContract, CorrectionContract):
    @pytest.fixture
    def storage(self) -> Iterator[Any]:
        with sync.Storage.in_memory() as storage:
            yield _BlockingStorage(storage)
