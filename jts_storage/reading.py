"""A storage for programs that read candles and symbols once and end, such as commands.

It opens ClickHouse alone, and the bookkeeping if that is asked for, as long as the folder of the
embedded mongod is marked: then the journal there is empty, and no acknowledged commit can be
missing. Otherwise it opens all stores, as `Storage.open` does, which finishes what is unfinished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from jts_storage.backend import StoreBackend
from jts_storage.domain.beginnings import Reach
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.revision import DocumentPurge
from jts_storage.errors import FolderInUse, StorageError
from jts_storage.loading import loaded_clickhouse
from jts_storage.local_servers import at_rest
from jts_storage.local_servers.extras import check_installed
from jts_storage.ports.backtests import BacktestReader
from jts_storage.ports.data_sets import DataSetReader
from jts_storage.ports.events import EventPublisher, Subscriptions
from jts_storage.ports.health import Health
from jts_storage.ports.ingestion import IngestionReader
from jts_storage.ports.models import Model
from jts_storage.ports.snapshots import SnapshotStore
from jts_storage.ports.symbols import SymbolReader
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.readable import Readable, ReadableStores, Readers
from jts_storage.settings import StorageSettings
from jts_storage.sharing.choice import backend_of
from jts_storage.sharing.folder import is_served
from jts_storage.unit_of_work.kept_candles import PastView, Purges
from jts_storage.unit_of_work.publisher import InMemoryEventPublisher
from jts_storage.unit_of_work.timed_candles import Present
from jts_storage.unit_of_work.timed_documents import KeptFormulas, KeptStrategies

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.relational.manager import DatabaseManager
    from jts_storage.remote.backend import GrpcBackend

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _FewReaders:
    """What was opened; all else is refused."""

    candles: Present
    symbols: SymbolReader
    bookkeeping: IngestionReader | None

    @property
    def ingestion(self) -> IngestionReader:
        if self.bookkeeping is None:
            _refuse("bookkeeping")
        return self.bookkeeping

    @property
    def formulas(self) -> KeptFormulas:
        _refuse("formulas")

    @property
    def strategies(self) -> KeptStrategies:
        _refuse("strategies")

    @property
    def backtests(self) -> BacktestReader:
        _refuse("backtests")

    def repository(self, model: Model[T]) -> T:
        _refuse("declared models")


class _NoPurges:
    """The purges of a folder in which none is left to be finished: what it has can be read."""

    async def purge(
        self, keys: Sequence[SeriesKey] | None, before: AsOf | None, *, despite_snapshots: bool
    ) -> int:
        _refuse("purges")

    async def began(self, key: SeriesKey) -> int:
        return 0

    async def reach(self, key: SeriesKey) -> Reach:
        return Reach()

    async def check(self, commit: Commit, is_wanted: Callable[[SeriesKey], bool]) -> None:
        _refuse("moments of the past")


class ReadingBackend:
    """
    :param bookkeeping: whether the SQL database is read, too.
    """

    def __init__(self, settings: StorageSettings, *, bookkeeping: bool = False) -> None:
        self.settings = settings
        self.publisher: EventPublisher = InMemoryEventPublisher()
        self._with_bookkeeping = bookkeeping
        self._readers: Readers | None = None
        self._everything: StoreBackend | GrpcBackend | None = None
        self._stack = AsyncExitStack()

    @property
    def readers(self) -> Readers:
        if self._readers is None:
            raise StorageError("This storage is not open.", remedy="Use it within `async with`.")
        return self._readers

    @property
    def readable(self) -> Readable:
        return ReadableStores(self) if self._everything is None else self._everything.readable

    @property
    def is_partial(self) -> bool:
        """Whether only what is read was opened."""
        return isinstance(self._readers, _FewReaders)

    async def open(self) -> None:
        if self._may_be_partial() and await self._opened_few():
            # Looked at once more: in between, another program may have opened all, and have left
            # a commit unfinished. The embedded engine lets nobody else in from here on.
            if self._may_be_partial():
                return
            await self.close()
        everything = backend_of(self.settings)
        await everything.open()
        self._stack.push_async_callback(everything.close)
        self._everything = everything

    async def close(self) -> None:
        self._readers = self._everything = None
        await self._stack.aclose()

    async def health(self) -> Health:
        _refuse("health")

    async def recover(self) -> int:
        _refuse("recovery")

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork:
        _refuse("units of work")

    async def outcome(self, unit_id: str) -> Outcome:
        _refuse("outcomes")

    @property
    def subscriptions(self) -> Subscriptions:
        _refuse("subscriptions")

    @property
    def snapshots(self) -> SnapshotStore:
        _refuse("snapshots")

    @property
    def data_sets(self) -> DataSetReader:
        _refuse("data sets")

    @property
    def purges(self) -> Purges:
        return _NoPurges()

    async def as_of(self, moment: AsOf) -> PastView:
        _refuse("moments of the past")

    async def purge_documents(self, asked: DocumentPurge) -> int:
        _refuse("history")

    async def _opened_few(self) -> bool:
        """Open what is read; False where another process has begun to serve it."""
        try:
            await self._open_few()
        except FolderInUse:
            if not is_served(self.settings.data_dir):
                raise
            return False
        return True

    def _may_be_partial(self) -> bool:
        settings = self.settings
        if settings.url is not None or is_served(settings.data_dir):
            return False
        # With `check`, opening promises that all schemas were compared.
        if settings.mongo_url is not None or settings.check != "off":
            return False
        return at_rest.is_marked(settings.data_dir.absolute() / "mongo")

    async def _open_few(self) -> None:
        settings = self.settings
        check_installed(
            engine=settings.clickhouse().is_embedded,
            mongod=False,
            postgres=self._with_bookkeeping and not settings.database().is_sqlite,
        )
        try:
            self._readers = await self._opened()
        except BaseException:
            await self.close()
            raise

    async def _opened(self) -> _FewReaders:
        settings = self.settings
        clickhouse = await loaded_clickhouse(settings.clickhouse())
        self._stack.push_async_callback(asyncio.to_thread, clickhouse.close)
        if clickhouse.is_embedded:
            await clickhouse.run(clickhouse.connect)
        database = await self._opened_database() if self._with_bookkeeping else None
        await self._prepare(clickhouse, database)

        from jts_storage.clickhouse.candle_reader import ClickHouseCandleReader
        from jts_storage.clickhouse.corrections import TellsCorrections
        from jts_storage.clickhouse.symbols import ClickHouseSymbolStore

        bookkeeping: IngestionReader | None = None
        if database is not None:
            from jts_storage.relational.repositories import SqlIngestionRepository

            bookkeeping = SqlIngestionRepository(database)

        class CandleReader(TellsCorrections, ClickHouseCandleReader):
            _knows_reach = False  # MongoDB does

        candles = CandleReader(
            clickhouse, cache_bytes=settings.cache_bytes, max_age=settings.cache_max_age
        )
        return _FewReaders(
            candles=cast("Present", candles),  # nothing here imports
            symbols=ClickHouseSymbolStore(clickhouse),
            bookkeeping=bookkeeping,
        )

    async def _opened_database(self) -> DatabaseManager:
        from jts_storage.relational.manager import DatabaseManager

        database = DatabaseManager(self.settings.database())
        self._stack.push_async_callback(database.close)
        return database

    async def _prepare(
        self, clickhouse: ClickHouseManager, database: DatabaseManager | None
    ) -> None:
        """Migrate what is opened, where opening everything would, and tell of broken parts."""
        from jts_storage.migrate.opening import Opening
        from jts_storage.migrate.runner import Databases

        opened = Databases(clickhouse, None, database, service=self.settings.migrations)
        await Opening(self.settings, opened).prepare()


def _refuse(what: str) -> NoReturn:
    raise StorageError(
        f"This storage was opened to read candles and symbols; it has no {what}.",
        remedy="Use Storage.open().",
    )
