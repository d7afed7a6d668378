"""One commit over ClickHouse, MongoDB and SQL.

Documents are written in a MongoDB transaction as they come; candles, symbols and bookkeeping are
staged. `docs/why.md` lists what each reader sees when something dies in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.clickhouse.versions import next_version
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.journal import Entry, Journal
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.outbox import Outbox
from jts_storage.relational import DatabaseManager, SqlIngestionRepository, staged
from jts_storage.staged_work import StagedWork
from jts_storage.staging import CollectedEvents, StagedCandles, StagedIngestion, StagedSymbols

_COMMIT_ATTEMPTS = 3
_SINGLE_INSERT_ROWS = 1_000_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stores:
    """The stores of one `Storage`, and what lies between them."""

    clickhouse: ClickHouseManager
    mongo: MongoDBManager
    database: DatabaseManager
    candles: ClickHouseCandleRepository
    symbols: ClickHouseSymbolRepository
    ingestion: SqlIngestionRepository
    journal: Journal
    outbox: Outbox

    async def store_series(self, work: StagedWork, version: int) -> None:
        """Give ClickHouse its part; doing it twice is doing it once."""
        if work.candles:
            await self.clickhouse.run(self.candles.apply, work.candles, version)
        if work.symbols:
            await self.clickhouse.run(self.symbols.store, work.symbols, version)

    async def finish(self, entry: Entry) -> None:
        """Bring a decided commit, whose process is gone, into every store."""
        work = await self.journal.load(entry)
        await self.store_series(work, entry.version)
        async for series in self.journal.series(entry, "candles"):
            await self.clickhouse.run(self.candles.write, series, entry.version + 1)
        if work.touches_database:
            async with self.database.transaction() as connection:
                await staged.replay(self.database, connection, work, entry.decided_at)
                bars = SqlIngestionRepository(self.database, connection=connection).bars
                async for series in self.journal.series(entry, "bars"):
                    await bars.save_many(series.key, series)
        await self.journal.done(entry.id)


class _Work:
    """What lives between entering a unit of work and its end."""

    def __init__(self, stores: Stores, session: AsyncClientSession) -> None:
        self.session = session
        self.touches_documents = False
        self.candles = StagedCandles(stores.candles)
        self.symbols = StagedSymbols(stores.symbols)
        self.ingestion = StagedIngestion(stores.ingestion)
        self.formulas = MongoDBFormulaRepository(stores.mongo, session)
        self.strategies = MongoDBStrategyRepository(stores.mongo, session)
        self.backtests = MongoDBBacktestResultRepository(stores.mongo, session)
        self.events = CollectedEvents()

    @property
    def staged(self) -> StagedWork:
        return StagedWork(
            candles=self.candles.changes,
            symbols=self.symbols.changes,
            aggregates=self.ingestion.symbol_bars.changes,
            checkpoints=self.ingestion.checkpoints.changes,
            bars=self.ingestion.bars.changes,
        )


class StorageUnitOfWork:
    """A `UnitOfWork` over the real stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._work: _Work | None = None
        self._state = "has not been entered"

    @property
    def candles(self) -> StagedCandles:
        return self._active.candles

    @property
    def symbols(self) -> StagedSymbols:
        return self._active.symbols

    @property
    def formulas(self) -> MongoDBFormulaRepository:
        return self._with_documents.formulas

    @property
    def strategies(self) -> MongoDBStrategyRepository:
        return self._with_documents.strategies

    @property
    def backtests(self) -> MongoDBBacktestResultRepository:
        return self._with_documents.backtests

    @property
    def ingestion(self) -> StagedIngestion:
        return self._active.ingestion

    @property
    def events(self) -> CollectedEvents:
        return self._active.events

    async def commit(self) -> None:
        work = self._active
        self._end("has been rolled back, its commit having failed")
        # Once begun, a commit runs to its end, even if whoever waits for it is cancelled.
        await _undisturbed(self._commit(work))
        self._state = "has been committed"

    async def rollback(self) -> None:
        if self._work is not None:
            session = self._work.session
            self._end("has been rolled back")
            await _undisturbed(session.end_session())

    async def __aenter__(self) -> Self:
        if self._work is not None or self._state != "has not been entered":
            raise StorageError(
                "A unit of work can be entered only once.", remedy="Ask the storage for a new one."
            )
        session = self._stores.mongo.client.start_session()
        await session.start_transaction()
        self._work = _Work(self._stores, session)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        await self.rollback()

    @property
    def _active(self) -> _Work:
        if self._work is None:
            raise StorageError(
                f"This unit of work {self._state}.", remedy="Ask the storage for a new one."
            )
        return self._work

    @property
    def _with_documents(self) -> _Work:
        work = self._active
        work.touches_documents = True
        return work

    def _end(self, state: str) -> None:
        self._work = None
        self._state = state

    async def _commit(self, work: _Work) -> None:
        staged_work = work.staged
        try:
            if _needs_journal(work, staged_work):
                await _JournalledCommit(self._stores, work, staged_work).run()
            elif staged_work.touches_clickhouse:
                await self._stores.store_series(staged_work, next_version(2))
            elif staged_work.touches_database:
                async with self._stores.database.transaction() as connection:
                    await staged.apply(self._stores.database, connection, staged_work)
            elif work.touches_documents:
                await _commit_transaction(self._stores.mongo, work.session)
        finally:
            await work.session.end_session()


class _JournalledCommit:
    """A commit that more than one store takes part in, or that has events."""

    def __init__(self, stores: Stores, work: _Work, staged_work: StagedWork) -> None:
        self._stores = stores
        self._work = work
        self._staged = staged_work
        self._id = ObjectId()
        self._version = next_version(2)

    async def run(self) -> None:
        async with AsyncExitStack() as undecided:
            reached("before the journal")
            chunks = await self._stores.journal.prepare(self._id, self._staged)
            undecided.push_async_callback(self._stores.journal.discard, self._id)
            reached("chunks written")
            async with self._database_ready() as commit_database:
                reached("database ready")
                await self._write_entry(chunks)
                # From here on the outcome may be unknown to us: what the entry needs must stay.
                undecided.pop_all()
                await self._decide()
                reached("decided")
                await self._finish(commit_database)
        await self._stores.outbox.deliver(event.key for event in self._work.events.collected)

    async def _write_entry(self, chunks: int) -> None:
        session = self._work.session
        await self._stores.journal.decide(self._id, self._version, chunks, session)
        await self._stores.outbox.add(self._work.events.collected, self._version, session)
        reached("entry written")

    async def _decide(self) -> None:
        """The moment of decision: before it nothing of the commit exists, after it all does."""
        try:
            await _commit_transaction(self._stores.mongo, self._work.session)
        except Conflict:
            await self._stores.journal.discard(self._id)
            raise
        except ConnectionFailed:
            if not await self._stores.journal.is_decided(self._id):
                raise

    async def _finish(self, commit_database: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._stores.store_series(self._staged, self._version)
            reached("series stored")
            await commit_database()
            reached("database committed")
            await self._stores.journal.done(self._id)
            reached("journal done")
        except StorageError as exc:
            raise StorageError(
                f"Commit {self._id} is decided, but not every store has it yet: {exc}",
                remedy="Do not repeat it: `recover` will finish it, as does the next opening.",
            ) from exc

    @asynccontextmanager
    async def _database_ready(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """The bookkeeping written and checked, waiting for its commit."""

        async def nothing() -> None:
            return None

        if not self._staged.touches_database:
            yield nothing
            return
        async with self._stores.database.transaction() as connection:
            await staged.apply(self._stores.database, connection, self._staged)
            yield connection.commit


def _needs_journal(work: _Work, staged_work: StagedWork) -> bool:
    touched = (
        staged_work.touches_clickhouse,
        staged_work.touches_database,
        work.touches_documents,
    )
    if sum(touched) > 1 or work.events.collected:
        return True
    return staged_work.touches_clickhouse and not _is_single_insert(staged_work)


def _is_single_insert(work: StagedWork) -> bool:
    """Whether ClickHouse takes it as one part, which is there in whole or not at all."""
    if work.symbols:
        return not work.candles
    change, *others = work.candles
    return not others and not change.deleted and change.upserts.rows <= _SINGLE_INSERT_ROWS


async def _commit_transaction(mongo: MongoDBManager, session: AsyncClientSession) -> None:
    """Commit; where the answer was lost, ask again: the server commits a transaction once."""
    for attempt in range(1, _COMMIT_ATTEMPTS + 1):
        try:
            await session.commit_transaction()
        except PyMongoError as exc:
            unknown = exc.has_error_label("UnknownTransactionCommitResult")
            if unknown and attempt < _COMMIT_ATTEMPTS:
                continue
            raise translate_commit(exc, mongo) from exc
        return


def translate_commit(exc: PyMongoError, mongo: MongoDBManager) -> StorageError:
    from jts_storage.mongo.errors import translate

    return translate(exc, doing="committing", hosts=mongo.hosts)


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work` to its end; a cancellation meanwhile is raised after it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            log.warning("A cancelled commit failed.", exc_info=task.exception())
        raise


def _nothing(_point: str) -> None:
    return None


reached: Callable[[str], None] = _nothing
"""Called with the name of each point of a commit. Tests put something in its place that dies."""
