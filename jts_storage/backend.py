"""The real stores together, embedded or on servers, as `Storage.open()` opens them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jts_storage import migrate
from jts_storage._runtime.tasks import acquired, run_to_the_end, stopped
from jts_storage.clickhouse.candles import ClickHouseCandleStore
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolStore
from jts_storage.errors import StorageError
from jts_storage.migrate.opening import Opening
from jts_storage.models.registry import Models, installed_documents
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.leases import Leases
from jts_storage.mongo.model import with_declared
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.ports.models import Model
from jts_storage.relational import DatabaseManager, SqlIngestionRepository
from jts_storage.settings import StorageSettings
from jts_storage.unit_of_work.clock import CommitClock
from jts_storage.unit_of_work.delivery import Delivery
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.outbox import Outbox
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.publisher import InMemoryEventPublisher
from jts_storage.unit_of_work.recovery import Recovery, Unfinished
from jts_storage.unit_of_work.stored import StoredWork
from jts_storage.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from jts_storage.local_servers.mongod import LocalMongod

_CLOSE_SECONDS = 30.0
"""How long commits that have begun may take when the stores are to be closed."""

_RECOVERY_SECONDS = 5.0
"""How long opening waits for the commits that a crash left; the rest goes on behind it."""

log = logging.getLogger(__name__)


class StoreBackend:
    """ClickHouse, MongoDB and a SQL database, opened by settings.

    :cvar creates_all_models: whether opening creates what is missing of declared models also in
        stores that it does not migrate.
    """

    creates_all_models = False

    def __init__(
        self,
        settings: StorageSettings,
        *,
        publisher: EventPublisher | None = None,
        models: Iterable[Model[Any]] = (),
        recovers: bool = True,
    ) -> None:
        """:param recovers: whether opening finishes what a crash left."""
        self.models = Models.known(models)
        self.settings = settings
        self._recovers = recovers
        self.publisher: EventPublisher = publisher or InMemoryEventPublisher()
        self._mongod: LocalMongod | None = None
        self._opened: Stores | None = None
        self._recovering: asyncio.Task[None] | None = None

    @property
    def stores(self) -> Stores:
        if self._opened is None:
            raise StorageError("This storage is not open.", remedy="Use it within `async with`.")
        return self._opened

    @property
    def readers(self) -> Stores:
        return self.stores

    async def open(self) -> None:
        from jts_storage.local_servers.mongod import LocalMongod

        settings = self.settings
        try:
            if settings.mongo_url is None:
                self._mongod = await acquired(self._start_mongod, LocalMongod.release)
            self._opened = self._connected()
            await self._opening().prepare(creates_all=self.creates_all_models)
            if self._recovers:
                await self._begin_recovery()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        try:
            if self._opened is not None:
                await self._opened.commits.ended(_CLOSE_SECONDS)
        finally:
            # Who is cancelled waits for no commit any more, but leaves nothing open.
            await run_to_the_end(self._close())

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        mongod, self._mongod = self._mongod, None
        recovering, self._recovering = self._recovering, None
        if recovering is not None:
            await stopped(recovering)
        async with AsyncExitStack() as stack:  # each is closed, whatever becomes of the others
            if mongod is not None:
                stack.push_async_callback(asyncio.to_thread, mongod.release)
            if opened is not None:
                stack.push_async_callback(asyncio.to_thread, opened.clickhouse.close)
                stack.push_async_callback(opened.mongo.retire)
                stack.push_async_callback(opened.database.close)
                stack.push_async_callback(opened.delivery.close)

    async def health(self) -> Health:
        stores = self.stores
        health = Health(clickhouse=False, mongo=False, database=False)
        health.unreadable_documents = stores.mongo.unreadable.count
        # Side by side, so that one that hangs leaves the others their time.
        clickhouse, health["database"], health["mongo"] = await asyncio.gather(
            asyncio.to_thread(stores.clickhouse.state),
            stores.database.health_check(),
            self._mongo_health(health),
        )
        health["clickhouse"], health.broken_parts = clickhouse.answers, clickhouse.broken_parts
        return health

    async def _mongo_health(self, health: Health) -> bool:
        """Whether MongoDB answers, also for the journal and the events it keeps."""
        stores = self.stores
        try:
            async with asyncio.timeout(self.settings.health_timeout):
                if not await stores.mongo.health_check():
                    return False
                pending = await stores.journal.pending()
                health.waiting_events, health.parked_events = await stores.outbox.counts()
        except (TimeoutError, StorageError):
            return False
        health.unfinished = len(pending)
        named = {name for entry in pending for name in entry.models}
        health.unknown_models = tuple(sorted(name for name in named if name not in self.models))
        if pending:
            health.oldest = max(entry.age for entry in pending)
        return True

    async def recover(self) -> int:
        stores = self.stores
        recovery = Recovery(stores)
        try:
            return await recovery.recover()
        finally:
            await recovery.purge()
            await stores.delivery.deliver()

    async def _begin_recovery(self) -> None:
        """Finish what a crash left; what takes longer than a moment, in the background.

        Events are delivered in the background, too: their handlers take whatever time they like,
        and may use the storage, which is open by then.
        """
        try:
            await self.stores.clock.start()
        except StorageError:
            log.warning("The first commit will make the commit clock.", exc_info=True)
        self._recovering = asyncio.create_task(self._recover_what_can_be())
        await asyncio.wait([self._recovering], timeout=_RECOVERY_SECONDS)
        if self._recovering.done():
            self._recovering.result()
        else:
            log.warning("Opened while earlier commits are being finished in the background.")
        self.stores.delivery.deliver_now()

    async def _recover_what_can_be(self) -> None:
        recovery = Recovery(self.stores)
        try:
            await recovery.recover()
        except Unfinished as exc:
            # `health` tells of it, too; a service that does not open would mend nothing.
            log.error("Opened although an earlier commit is unfinished: %s", exc)
        except StorageError as exc:
            log.error("Opened without a look at earlier commits: %s", exc)
        await recovery.purge()

    def unit_of_work(self) -> UnitOfWork:
        stores = self.stores
        return UnitOfWork(lambda: StoredWork.begun(stores))

    def _start_mongod(self) -> LocalMongod:
        from jts_storage.local_servers.mongod import LocalMongod

        folder = Path(self.settings.data_dir).absolute() / "mongo"
        return LocalMongod.acquire(folder, self.settings.mongod)

    def _connected(self) -> Stores:
        settings = self.settings
        Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
        clickhouse = ClickHouseManager(settings.clickhouse())
        mongo = MongoDBManager(settings.mongo(self._mongod.uri if self._mongod else None))
        database = DatabaseManager(settings.database())
        mongo.register(*installed_documents())
        mongo.models = with_declared(self.models, mongo.models)
        journal, outbox = Journal(mongo), Outbox(mongo)
        clock = CommitClock(
            mongo, lambda: self.stores.latest_version(), journal.latest_symbols_version
        )
        return Stores(
            clickhouse=clickhouse,
            mongo=mongo,
            database=database,
            candles=ClickHouseCandleStore(
                clickhouse,
                clock,
                cache_bytes=settings.cache_bytes,
                max_age=settings.cache_max_age,
            ),
            symbols=ClickHouseSymbolStore(clickhouse),
            formulas=MongoDBFormulaRepository(mongo),
            strategies=MongoDBStrategyRepository(mongo),
            backtests=MongoDBBacktestResultRepository(mongo),
            ingestion=SqlIngestionRepository(database),
            clock=clock,
            journal=journal,
            outbox=outbox,
            models=self.models,
            delivery=Delivery(outbox, journal, clock, Leases(mongo), self.publisher),
        )

    def _opening(self) -> Opening:
        stores, settings = self.stores, self.settings
        everything = migrate.Databases(
            stores.clickhouse,
            stores.mongo,
            stores.database,
            models=self.models,
            service=settings.migrations,
        )
        return Opening(settings, everything)
