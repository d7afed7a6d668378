"""The real stores together, embedded or on servers, as `Storage.open()` opens them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import cached_property
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from jts_storage._runtime.imports import without_collections
from jts_storage._runtime.tasks import acquired, run_to_the_end, side_by_side, stopped
from jts_storage.domain.moments import AsOf
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.revision import DocumentPurge
from jts_storage.errors import StorageError
from jts_storage.loading import loaded_clickhouse
from jts_storage.local_servers.extras import check_installed
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.ports.models import Model
from jts_storage.ports.snapshots import SnapshotStore
from jts_storage.readable import Readable, ReadableStores
from jts_storage.settings import StorageSettings
from jts_storage.unit_of_work.publisher import InMemoryEventPublisher

# What needs a driver is imported while mongod starts: opening takes as long as the slower of both.
if TYPE_CHECKING:
    from jts_storage.cache.backend import Cache
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.models.registry import Models
    from jts_storage.unit_of_work.clock import CommitClock
    from jts_storage.unit_of_work.data_sets import StoredDataSets
    from jts_storage.unit_of_work.first_write import BeforeWriting
    from jts_storage.unit_of_work.moments import StoredView
    from jts_storage.unit_of_work.participants import Stores
    from jts_storage.unit_of_work.purges import StoredPurges
    from jts_storage.unit_of_work.recovery import Recovered
    from jts_storage.unit_of_work.subscriptions import StoredSubscriptions
    from jts_storage.unit_of_work.unit import UnitOfWork

_CLOSE_SECONDS = 30.0
"""How long commits that have begun may take when the stores are to be closed."""

_RECOVERY_SECONDS = 5.0
"""How long opening waits for the commits that a crash left; the rest goes on behind it."""

_COMPOSITION: Final = "jts_storage.composition"

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
        self.settings = settings.of_stores()
        self._given = list(models)
        if self._given:
            _ = self.models  # what is wrong with them is told at once
        self._recovers = recovers
        self.cache = _cache_of(self.settings)
        self.publisher: EventPublisher = publisher or InMemoryEventPublisher()
        self._mongod: LocalMongod | None = None
        self._clickhouse: ClickHouseManager | None = None
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

    @property
    def readable(self) -> Readable:
        stores = ReadableStores(self)
        return stores if self.cache is None else self.cache.over(stores)

    @cached_property
    def models(self) -> Models:
        """Those given and those that installed packages name."""
        from jts_storage.models.registry import Models

        return Models.known(self._given)

    async def open(self) -> None:
        await self._open_all()
        self._begin_delivery()

    async def _open_all(self) -> None:
        begun = perf_counter()
        self._check_installed()
        try:
            await side_by_side(self._start_mongod(), self._open_clickhouse())
            from jts_storage import composition

            self._opened = self._connected()
            if self.cache is not None:
                self.cache.open()
            opening = composition.opening(self.settings, self._opened)
            applied = await opening.prepare(creates_all=self.creates_all_models)
            if self._recovers:
                self._first(self._opened.clock).action = self._note_history  # recovery writes, too
                if await self._begin_recovery():
                    await self._begin_history()
        except BaseException:
            await StoreBackend.close(self)  # itself alone, where it is a part of something else
            raise
        stores, taken = self._opened, perf_counter() - begun
        configs = (stores.clickhouse.config, stores.mongo.config, stores.database.config)
        *first, last = (each.redacted for each in configs)
        values = ", ".join(first), last, taken, len(applied)
        log.info("Opened %s and %s in %.2f s; migrations applied: %d.", *values)

    def _check_installed(self) -> None:
        """Tell at once what is missing, not one part after the other."""
        settings = self.settings
        check_installed(
            engine=settings.clickhouse().is_embedded,
            mongod=settings.mongo_url is None and settings.mongod is None,
            postgres=not settings.database().is_sqlite,
        )

    async def _start_mongod(self) -> None:
        if self.settings.mongo_url is None:
            self._mongod = await acquired(self._acquire_mongod, LocalMongod.release)

    async def _open_clickhouse(self) -> None:
        """Import what the stores are made of, and open the embedded engine meanwhile."""
        with without_collections():
            await self._open_engine_and_import()

    async def _open_engine_and_import(self) -> None:
        config = self.settings.clickhouse()
        if not config.is_embedded:  # a server that is away does not hold up the opening
            await asyncio.to_thread(import_module, _COMPOSITION)
            return
        self._clickhouse = await loaded_clickhouse(config)
        await asyncio.gather(
            self._clickhouse.run(self._clickhouse.connect),
            asyncio.to_thread(import_module, _COMPOSITION),
        )

    async def close(self) -> None:
        try:
            if self._opened is not None:
                await self._opened.commits.ended(_CLOSE_SECONDS)
        finally:
            # Who is cancelled waits for no commit any more, but leaves nothing open.
            await run_to_the_end(self._close())

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.subscribers.wake(for_good=True)
        clickhouse, self._clickhouse = self._clickhouse, None
        mongod, self._mongod = self._mongod, None
        recovering, self._recovering = self._recovering, None
        if recovering is not None:
            await stopped(recovering)
        cache = self.cache if opened is not None else None
        async with AsyncExitStack() as stack:  # each is closed, whatever becomes of the others
            if mongod is not None:
                stack.push_async_callback(asyncio.to_thread, released, mongod)
            if clickhouse is not None:
                stack.push_async_callback(asyncio.to_thread, clickhouse.close)
            if opened is not None:
                stack.push_async_callback(opened.mongo.retire)
                stack.push_async_callback(opened.database.close)
                stack.push_async_callback(opened.delivery.close)
            if cache is not None:
                stack.push_async_callback(cache.close)

    async def health(self) -> Health:
        from jts_storage.unit_of_work.told import tell

        stores = self.stores
        health = Health(clickhouse=False, mongo=False, database=False)
        health.unreadable_documents = stores.mongo.unreadable.count
        health.unreadable_rows = stores.clickhouse.unreadable.count
        health.unreadable_records = stores.database.unreadable.count
        # Side by side, so that one that hangs leaves the others their time.
        clickhouse, health["database"], health["mongo"] = await asyncio.gather(
            asyncio.to_thread(stores.clickhouse.state),
            stores.database.health_check(),
            tell(stores, health, within=self.settings.health_timeout),
        )
        health.cache = None if self.cache is None else self.cache.statistics()
        health["clickhouse"], health.broken_parts = clickhouse.answers, clickhouse.broken_parts
        return health

    async def recover(self, done: Recovered | None = None) -> int:
        """:param done: is told what was done, whatever comes of the rest."""
        from jts_storage.unit_of_work.recovery import Recovered, Recovery

        stores, told = self.stores, Recovered() if done is None else done
        recovery = Recovery(stores)
        try:
            told.finished = await recovery.recover()
        finally:
            await recovery.purge()
            await self._forget_history(done)
            await stores.delivery.deliver()
        return told.finished

    async def _begin_recovery(self) -> bool:
        """Finish what a crash left; what takes longer than a moment, in the background.

        Returns whether MongoDB answers. One that does not is waited for once, not at every step.
        """
        patience = _RECOVERY_SECONDS
        try:
            await self.stores.clock.start()
        except StorageError as exc:
            log.warning("The first commit makes the commit clock: %s", exc)
            patience = 0.0
        self._recovering = asyncio.create_task(self._recover_what_can_be())
        await asyncio.wait([self._recovering], timeout=patience)
        if self._recovering.done():
            self._recovering.result()
        else:
            log.warning("Opened while earlier commits are being finished in the background.")
        return patience > 0

    def _begin_delivery(self) -> None:
        """Deliver the events that wait, in the background: handlers take whatever time they like.

        The last step of opening, with nothing awaited after it: handlers may use the storage, which
        is open by the time that they are called.
        """
        if self._recovers:
            self.stores.delivery.deliver_now()

    async def _begin_history(self) -> None:
        """Note since when history is kept: if it fails, before this process writes candles."""
        try:
            await self._first(self.stores.clock).begin()
        except StorageError as exc:
            log.warning("What is written next will note since when history is kept: %s", exc)

    def _first(self, clock: CommitClock) -> BeforeWriting:
        """What waits until it is noted: candles, or whatever is written without a history."""
        return clock.before_candles if self.settings.history else clock.before_writing

    async def _note_history(self) -> None:
        from jts_storage import composition
        from jts_storage.unit_of_work.moments import Moments

        applied = None
        if self.settings.history:  # or nothing is asked of a store that may be away
            applied = await composition.opening(self.settings, self.stores).history_applied()
        await Moments(self.stores, applied).begin(is_kept=self.settings.history)

    async def _forget_history(self, done: Recovered | None = None) -> None:
        """Delete what is older than the settings want; what cannot be is deleted another time.

        A purge that was interrupted is finished, too.

        :param done: is told of it; the log is if it is None.
        """
        from jts_storage.unit_of_work.moments import Moments

        try:
            await self.purges.finish()
        except StorageError as exc:
            log.warning("A purge of former candles could not be finished: %s", exc)
        days = self.settings.history_days
        if days is None or not self.settings.history:
            return
        try:
            count = await Moments(self.stores).forget(days)
        except StorageError as exc:
            if done is None:
                log.warning("What is older than history_days could not be deleted.", exc_info=True)
            else:
                done.not_forgotten = exc
        else:
            log.info("Deleted %d former candles and revisions of over %d days ago.", count, days)
            if done is not None:
                done.forgotten = count

    async def _recover_what_can_be(self) -> None:
        from jts_storage.unit_of_work.recovery import Recovery, Unfinished

        recovery = Recovery(self.stores)
        try:
            await recovery.recover()
        except Unfinished as exc:
            # `health` tells of it, too; a service that does not open would mend nothing.
            log.error("Opened although an earlier commit is unfinished: %s", exc)
        except StorageError as exc:
            log.error("Opened without a look at earlier commits: %s", exc)
        await recovery.purge()
        await self._forget_history()

    @property
    def subscriptions(self) -> StoredSubscriptions:
        from jts_storage.unit_of_work.subscriptions import StoredSubscriptions

        return StoredSubscriptions(self.stores)

    @property
    def snapshots(self) -> SnapshotStore:
        from jts_storage.unit_of_work.moments import Moments

        return Moments(self.stores).snapshots

    @property
    def purges(self) -> StoredPurges:
        from jts_storage.unit_of_work.purges import StoredPurges

        return StoredPurges(self.stores)

    async def as_of(self, moment: AsOf) -> StoredView:
        from jts_storage.unit_of_work.moments import Moments

        return await Moments(self.stores).view(moment)

    async def purge_documents(self, asked: DocumentPurge) -> int:
        from jts_storage.unit_of_work.moments import Moments

        return await Moments(self.stores).purge_documents(asked)

    @property
    def data_sets(self) -> StoredDataSets:
        from jts_storage.unit_of_work.data_sets import StoredDataSets

        return StoredDataSets(self.stores)

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork:
        from jts_storage import composition

        return composition.unit_of_work(self.stores, source, unit_id)

    async def outcome(self, unit_id: str) -> Outcome:
        return await self.stores.outcomes.settle(unit_id)

    def _acquire_mongod(self) -> LocalMongod:
        folder = Path(self.settings.data_dir).absolute() / "mongo"
        return LocalMongod.acquire(folder, self.settings.mongod)

    def _connected(self) -> Stores:
        from jts_storage import composition
        from jts_storage.clickhouse.manager import ClickHouseManager

        Path(self.settings.data_dir).mkdir(parents=True, exist_ok=True)
        if self._clickhouse is None:
            self._clickhouse = ClickHouseManager(self.settings.clickhouse())
        return composition.stores_of(
            self.settings,
            clickhouse=self._clickhouse,
            mongod=self._mongod,
            models=self.models,
            publisher=self.publisher,
            cache=self.cache,
        )


def _cache_of(settings: StorageSettings) -> Cache | None:
    if settings.cache == "off" or (settings.cache == "auto" and settings.redis_url is None):
        return None
    from jts_storage.cache.backend import cache_of

    return cache_of(settings)


def released(mongod: LocalMongod) -> None:
    """Give a share in the embedded mongod back; the last one leaves a mark if nothing is left."""
    from jts_storage.unit_of_work.at_rest import is_at_rest

    mongod.release(is_at_rest=is_at_rest)
