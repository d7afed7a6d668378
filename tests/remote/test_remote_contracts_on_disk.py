"""The same over the embedded stores: documents are in MongoDB's own transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.testing.backends import Stack
from jts_storage.testing.contracts import (
    DataSetContract,
    HistoryContract,
    OutcomeContract,
    PurgeContract,
    SideBySideContract,
    SubscriptionContract,
    UnitOfWorkContract,
)
from tests.prepared import emptied, stack_of
from tests.remote.gateways import remote
from tests.runs import every_test_of


@pytest.fixture(scope="module")
def embedded(
    shared_mongod: LocalMongod,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Stack]:
    engine_used("chDB")
    engine_used("SQLite")
    settings = StorageSettings(mongo_url=SecretStr(shared_mongod.uri), mongo_database="remote_test")
    stack = stack_of(settings, tmp_path_factory.mktemp("jts"))
    yield stack
    stack.close()


@pytest.fixture
def settings(embedded: Stack) -> StorageSettings:
    return emptied(embedded)


@pytest.fixture
async def storage(settings: StorageSettings, tmp_path: Path) -> AsyncIterator[Storage]:
    backend = StoreBackend(settings)
    async with Storage(backend), remote(backend, tmp_path) as storage:
        yield storage


class TestUnitOfWork(UnitOfWorkContract, SideBySideContract):
    """What is written."""

    BY_DAY = every_test_of(SideBySideContract) | {
        "test_a_commit_stores_everything",
        "test_any_sequence_of_units_agrees_with_a_dict",
        "test_documents_are_read_as_they_were_at_the_first_look",
        "test_lists_and_searches_see_own_writes",
    }


# The rest is asked for by the same calls whatever the stores are: by day a gateway to stores in
# memory keeps these contracts, and the stores on disk without a gateway.
@pytest.mark.slow
class TestHistory(HistoryContract, PurgeContract, DataSetContract):
    """What was."""


@pytest.mark.slow
class TestOutcomes(OutcomeContract):
    """What became of a unit of work."""


@pytest.mark.slow
class TestSubscriptions(SubscriptionContract):
    """What is told."""
