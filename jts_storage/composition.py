"""How the stores of a storage are put together from its settings: all that needs their drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from jts_storage import migrate
from jts_storage.clickhouse.candles import ClickHouseCandleStore
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolStore
from jts_storage.migrate.opening import Opening
from jts_storage.models.registry import Models, installed_documents
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.leases import Leases
from jts_storage.mongo.manager import manager_of
from jts_storage.mongo.model import with_declared
from jts_storage.ports.events import EventPublisher
from jts_storage.relational import DatabaseManager, SqlIngestionRepository
from jts_storage.settings import StorageSettings
from jts_storage.unit_of_work.announced_clock import AnnouncedClock, StoredNotes
from jts_storage.unit_of_work.announcing import NOBODY
from jts_storage.unit_of_work.clock import CommitClock
from jts_storage.unit_of_work.damage import Inspection
from jts_storage.unit_of_work.deliveries import Deliveries
from jts_storage.unit_of_work.delivery import Delivery
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.outbox import Outbox
from jts_storage.unit_of_work.outcomes import StoredOutcomes
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.stored import StoredWork
from jts_storage.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from jts_storage.cache.backend import Cache
    from jts_storage.local_servers.mongod import LocalMongod


def stores_of(
    settings: StorageSettings,
    *,
    clickhouse: ClickHouseManager,
    mongod: LocalMongod | None,
    models: Models,
    publisher: EventPublisher,
    cache: Cache | None = None,
) -> Stores:
    """
    :param mongod: the embedded one, if there is one.
    :param cache: told of what is written to candles and symbols, if there is one.
    """
    mongo = manager_of(settings, mongod)
    database = DatabaseManager(settings.database())
    mongo.register(*installed_documents())
    mongo.models = with_declared(models, mongo.models)
    journal, outbox = Journal(mongo), Outbox(mongo)
    clock = _clock(mongo, lambda: stores.latest_version(), journal, cache)
    stores = Stores(
        clickhouse=clickhouse,
        mongo=mongo,
        database=database,
        candles=ClickHouseCandleStore(
            clickhouse,
            clock,
            cache_bytes=settings.cache_bytes,
            max_age=settings.cache_max_age,
            history=settings.history,
        ),
        symbols=ClickHouseSymbolStore(clickhouse),
        formulas=MongoDBFormulaRepository(mongo),
        strategies=MongoDBStrategyRepository(mongo),
        backtests=MongoDBBacktestResultRepository(mongo),
        ingestion=SqlIngestionRepository(database),
        clock=clock,
        journal=journal,
        outbox=outbox,
        deliveries=Deliveries(mongo),
        outcomes=StoredOutcomes(mongo),
        models=models,
        history=settings.history,
        delivery=Delivery(outbox, journal, clock, Leases(mongo), publisher),
        inspection=Inspection(journal),
        announcer=cache or NOBODY,
    )
    return stores


def _clock(
    mongo: MongoDBManager,
    stored: Callable[[], Awaitable[int]],
    journal: Journal,
    cache: Cache | None,
) -> CommitClock:
    if cache is None:
        return CommitClock(mongo, stored, journal.latest_symbols_version)
    cache.belongs_to(StoredNotes(mongo))
    return AnnouncedClock(mongo, stored, journal.latest_symbols_version, cache)


def opening(settings: StorageSettings, stores: Stores) -> Opening:
    everything = migrate.Databases(
        stores.clickhouse,
        stores.mongo,
        stores.database,
        models=stores.models,
        service=settings.migrations,
    )
    return Opening(settings, everything)


def unit_of_work(stores: Stores, source: str, unit_id: str | None) -> UnitOfWork:
    return UnitOfWork(lambda: StoredWork.begun(stores, source, unit_id))
