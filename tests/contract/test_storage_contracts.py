"""`Storage` over real stores keeps the contract of the unit of work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.domain.moments import Commit
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.ports import UnitOfWork
from jts_storage.testing.backends import Stack
from jts_storage.testing.clickhouse_server import ServerProcess
from jts_storage.testing.contracts import (
    DataSetContract,
    HistoryContract,
    OutcomeContract,
    PurgeContract,
    SideBySideContract,
    SubscriptionContract,
    UnitOfWorkContract,
)
from jts_storage.testing.factories import make_formula
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.moments import Moments
from tests.integration.unit_of_work.interrupted import abandon
from tests.prepared import emptied, stack_of
from tests.runs import every_test_of


@pytest.fixture(scope="module")
def embedded(
    shared_mongod: LocalMongod,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Stack]:
    engine_used("chDB")
    engine_used("SQLite")
    settings = StorageSettings(
        mongo_url=SecretStr(shared_mongod.uri), mongo_database="contracts_test"
    )
    stack = stack_of(settings, tmp_path_factory.mktemp("jts"))
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def servers(
    shared_mongod: LocalMongod,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Stack]:
    # A process of its own: the embedded stores above have this one's only engine.
    folder = tmp_path_factory.mktemp("clickhouse")
    with ServerProcess(folder, fsync=False) as clickhouse, LocalPostgres.start() as postgres:
        engine_used("PostgreSQL")
        engine_used("ClickHouse endpoint over chDB")
        settings = StorageSettings(
            clickhouse_url=SecretStr(f"clickhouse://127.0.0.1:{clickhouse.port}/default"),
            mongo_url=SecretStr(shared_mongod.uri),
            mongo_database="servers_test",
            database_url=SecretStr(postgres.dsn),
        )
        stack = stack_of(settings, tmp_path_factory.mktemp("unused"))
        yield stack
        stack.close()


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings)) as storage:
        yield storage


class StoredHistory(HistoryContract):
    """The contract of what was, with what only real stores can do."""

    async def interrupt(self, storage: Storage, uow: UnitOfWork) -> Commit:
        # Of a document, too: candles alone would be stored by the insert that decides.
        await uow.formulas.save(make_formula("interrupted"))
        with pytest.MonkeyPatch.context() as patch:
            await abandon(storage, patch, uow)
        # Others have found its process dead, and wait for it no more.
        await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
        latest = await storage.mongo.db[ENTRIES].find_one(sort=[("version", -1)])
        assert latest is not None
        return Commit(latest["version"] + 1)

    async def forget(self, storage: Storage) -> bool:
        await Moments(storage._backend.stores).forget(days=0)  # type: ignore[attr-defined]
        return True


class TestEmbedded(
    UnitOfWorkContract,
    OutcomeContract,
    SideBySideContract,
    StoredHistory,
    PurgeContract,
    DataSetContract,
):
    @pytest.fixture
    def settings(self, embedded: Stack) -> StorageSettings:
        return emptied(embedded)


class TestSubscriptions(SubscriptionContract):
    @pytest.fixture
    def settings(self, embedded: Stack) -> StorageSettings:
        return emptied(embedded)


class TestServers(UnitOfWorkContract, SideBySideContract):
    # The stores keep these contracts one by one, and embedded together: by day comes what servers
    # do together, side by side and in any order.
    BY_DAY = every_test_of(SideBySideContract) | {
        "test_a_commit_stores_everything",
        "test_any_sequence_of_units_agrees_with_a_dict",
        "test_every_timeframe_is_stored_listed_and_made",
        "test_lists_and_searches_see_own_writes",
    }

    @pytest.fixture
    def settings(self, servers: Stack) -> StorageSettings:
        return emptied(servers)


# The past is read by the same statements whatever the way to the engine, and by many of them;
# outcomes and subscriptions are kept by MongoDB alone.
@pytest.mark.slow
class TestServersByNight(
    OutcomeContract, StoredHistory, PurgeContract, DataSetContract, SubscriptionContract
):
    @pytest.fixture
    def settings(self, servers: Stack) -> StorageSettings:
        return emptied(servers)
