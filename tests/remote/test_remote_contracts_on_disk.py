"""The same over the embedded stores: documents are in MongoDB's own transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.testing.contracts import (
    DataSetContract,
    HistoryContract,
    OutcomeContract,
    PurgeContract,
    SideBySideContract,
    SubscriptionContract,
    UnitOfWorkContract,
)
from tests.contract.test_storage_contracts import emptied
from tests.prepared import Prepared
from tests.remote.gateways import remote


@pytest.fixture(scope="module")
def embedded(
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[StorageSettings]:
    engine_used("chDB")
    engine_used("SQLite")
    with prepared.shared_stores(tmp_path_factory.mktemp("jts"), migrate=None) as settings:
        yield settings


@pytest.fixture
async def storage(embedded: StorageSettings, tmp_path: Path) -> AsyncIterator[Storage]:
    direct = await emptied(embedded)
    try:
        async with remote(direct._backend, tmp_path) as storage:  # type: ignore[arg-type]
            yield storage
    finally:
        await direct.close()


class TestUnitOfWork(UnitOfWorkContract, OutcomeContract, SideBySideContract):
    """What is written."""


class TestSubscriptions(SubscriptionContract):
    """What is told."""


class TestHistory(HistoryContract, PurgeContract, DataSetContract):
    """What was."""
