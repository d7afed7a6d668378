"""The real stores together, embedded or on servers, as `Storage.open()` opens them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.errors import StorageError
from jts_storage.journal import Journal
from jts_storage.memory.events import InMemoryEventPublisher
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    collection_schemas,
    ensure_schema,
)
from jts_storage.outbox import Outbox
from jts_storage.ports.events import EventPublisher
from jts_storage.relational import DatabaseManager, SqlIngestionRepository, create_all
from jts_storage.settings import StorageSettings
from jts_storage.unit_of_work import StorageUnitOfWork, Stores

if TYPE_CHECKING:
    from jts_storage.embedded.mongod import LocalMongod

log = logging.getLogger(__name__)


class StoreBackend:
    """ClickHouse, MongoDB and a SQL database, opened by settings."""

    def __init__(
        self, settings: StorageSettings, *, publisher: EventPublisher | None = None
    ) -> None:
        self.settings = settings
        self.publisher: EventPublisher = publisher or InMemoryEventPublisher()
        self._mongod: LocalMongod | None = None
        self._opened: Stores | None = None

    @property
    def stores(self) -> Stores:
        if self._opened is None:
            raise StorageError("This storage is not open.", remedy="Use it within `async with`.")
        return self._opened

    @property
    def candles(self) -> ClickHouseCandleRepository:
        return self.stores.candles

    @property
    def symbols(self) -> ClickHouseSymbolRepository:
        return self.stores.symbols

    @property
    def formulas(self) -> MongoDBFormulaRepository:
        return MongoDBFormulaRepository(self.stores.mongo)

    @property
    def strategies(self) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(self.stores.mongo)

    @property
    def backtests(self) -> MongoDBBacktestResultRepository:
        return MongoDBBacktestResultRepository(self.stores.mongo)

    @property
    def ingestion(self) -> SqlIngestionRepository:
        return self.stores.ingestion

    async def open(self) -> None:
        settings = self.settings
        try:
            if settings.mongo_url is None:
                self._mongod = await asyncio.to_thread(self._start_mongod)
            self._opened = self._connected()
            await self._prepare_schemas()
            await self.recover()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        mongod, self._mongod = self._mongod, None
        try:
            if opened is not None:
                await opened.database.close()
                await opened.mongo.close()
                await asyncio.to_thread(opened.clickhouse.close)
        finally:
            if mongod is not None:
                await asyncio.to_thread(mongod.release)

    async def health(self) -> dict[str, bool]:
        stores = self.stores
        clickhouse, mongo, database = await asyncio.gather(
            asyncio.to_thread(stores.clickhouse.health_check),
            stores.mongo.health_check(),
            stores.database.health_check(),
        )
        return {"clickhouse": clickhouse, "mongo": mongo, "database": database}

    async def recover(self) -> int:
        stores = self.stores
        finished = 0
        while (entry := await stores.journal.claim()) is not None:
            await stores.finish(entry)
            finished += 1
            log.warning("Finished an interrupted commit.", extra={"commit": str(entry.id)})
        await stores.journal.purge()
        await stores.outbox.deliver()
        return finished

    def unit_of_work(self) -> StorageUnitOfWork:
        return StorageUnitOfWork(self.stores)

    def _start_mongod(self) -> LocalMongod:
        from jts_storage.embedded.mongod import LocalMongod

        folder = Path(self.settings.data_dir).absolute() / "mongo"
        return LocalMongod.acquire(folder, self.settings.mongod)

    def _connected(self) -> Stores:
        settings = self.settings
        Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
        clickhouse = ClickHouseManager(settings.clickhouse())
        mongo = MongoDBManager(settings.mongo(self._mongod.uri if self._mongod else None))
        database = DatabaseManager(settings.database())
        return Stores(
            clickhouse=clickhouse,
            mongo=mongo,
            database=database,
            candles=ClickHouseCandleRepository(clickhouse, cache_bytes=settings.cache_bytes),
            symbols=ClickHouseSymbolRepository(clickhouse),
            ingestion=SqlIngestionRepository(database),
            journal=Journal(mongo),
            outbox=Outbox(mongo, self.publisher),
        )

    async def _prepare_schemas(self) -> None:
        """Create what stores lack, if asked; by default embedded ones only."""
        settings, stores = self.settings, self.stores
        if settings.migrate or (settings.migrate is None and settings.clickhouse_url is None):
            models = tables.build().metadata
            await stores.clickhouse.run(models.create_all, stores.clickhouse.engine)
        if settings.migrate or (settings.migrate is None and settings.mongo_url is None):
            # Changing a collection waits for every transaction on it, those of the dead included.
            names = set(await stores.mongo.db.list_collection_names())
            if not names.issuperset(schema.name for schema in collection_schemas()):
                await ensure_schema(stores.mongo.db)
        if settings.migrate or (settings.migrate is None and settings.database_url is None):
            await create_all(stores.database.engine)
