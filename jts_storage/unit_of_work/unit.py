"""One commit over ClickHouse, MongoDB and SQL.

Documents are written in a MongoDB transaction as they come; candles, symbols and bookkeeping are
staged. `docs/why.md` lists what each reader sees when something dies in between.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Self

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from jts_storage._runtime.lifetime import Lifetime
from jts_storage._runtime.tasks import undisturbed
from jts_storage.domain.changes import Changes
from jts_storage.errors import StorageError
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.errors import translate
from jts_storage.mongo.transaction import Transaction, commit_alone
from jts_storage.unit_of_work.commit import JournalledCommit
from jts_storage.unit_of_work.participants import Overtaking, Stores
from jts_storage.unit_of_work.staged import (
    CollectedEvents,
    StagedCandles,
    StagedIngestion,
    StagedSymbols,
)

log = logging.getLogger(__name__)


class _Work:
    """What lives between entering a unit of work and its end."""

    def __init__(self, stores: Stores, session: AsyncClientSession) -> None:
        lifetime = self.lifetime = Lifetime()
        self.session = session
        self.touches_documents = False
        self.candles = StagedCandles(stores.candles, lifetime)
        self.symbols = StagedSymbols(stores.symbols, lifetime)
        self.ingestion = StagedIngestion(stores.ingestion, lifetime)
        transaction = self.transaction = Transaction(session, lifetime)
        self.formulas = MongoDBFormulaRepository(stores.mongo, transaction)
        self.strategies = MongoDBStrategyRepository(stores.mongo, transaction)
        self.backtests = MongoDBBacktestResultRepository(stores.mongo, transaction)
        self.events = CollectedEvents(lifetime)

    @property
    def staged(self) -> Changes:
        return Changes(
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
        try:
            with self._stores.commits.one():
                self._end("is being committed")
                # Once begun, a commit runs to its end, even if whoever waits for it is cancelled.
                await undisturbed(self._commit(work))
                self._state = "has been committed"
                await self._deliver(work)
        except asyncio.CancelledError:
            self._state = "was cancelled during its commit, which may be stored all the same"
            self._stores.delivery.deliver_soon()  # what the commit has stored all the same
            raise
        except BaseException:
            self._state = "is over, its commit having failed"
            raise

    async def rollback(self) -> None:
        if self._work is not None:
            session = self._work.session
            self._end("has been rolled back")
            await undisturbed(_ended(session))

    async def __aenter__(self) -> Self:
        if self._work is not None or self._state != "has not been entered":
            raise StorageError(
                "A unit of work can be entered only once.", remedy="Ask the storage for a new one."
            )
        session = await self._begun()
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

    async def _begun(self) -> AsyncClientSession:
        mongo = self._stores.mongo
        try:
            session = mongo.client.start_session()
            await session.start_transaction()
        except PyMongoError as exc:
            raise translate(exc, doing="beginning", hosts=mongo.hosts) from exc
        return session

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
        if self._work is not None:
            self._work.lifetime.end("is over")
        self._work = None
        self._state = state

    async def _commit(self, work: _Work) -> None:
        try:
            await work.transaction.ended()
            await self._write(work, work.staged)
        except Overtaking:
            try:
                await self._stores.recover()
            except StorageError:
                log.warning("What comes first could not be finished.", exc_info=True)
            self._stores.delivery.deliver_soon()
            raise
        finally:
            await _ended(work.session)

    async def _write(self, work: _Work, staged: Changes) -> None:
        stores = self._stores
        if await self._needs_journal(work, staged):
            await JournalledCommit(stores, work.session, staged, work.events.collected).run()
        elif staged.touches_clickhouse:
            await stores.store_alone(staged)
        elif staged.touches_database:
            async with stores.bookkeeping(staged):
                pass
        elif work.touches_documents:
            await commit_alone(stores.mongo, work.session, "committing")

    async def _needs_journal(self, work: _Work, staged: Changes) -> bool:
        touched = (staged.touches_clickhouse, staged.touches_database, work.touches_documents)
        if sum(touched) > 1 or work.events.collected:
            return True
        return staged.touches_clickhouse and not await self._is_single_insert(staged)

    async def _is_single_insert(self, staged: Changes) -> bool:
        """Whether ClickHouse takes it as one part, which is there in whole or not at all."""
        if staged.symbols:
            return not staged.candles
        stores = self._stores
        return await stores.clickhouse.run(stores.candles.is_one_part, staged.candles)

    async def _deliver(self, work: _Work) -> None:
        try:
            await self._stores.delivery.deliver_own(work.events.collected)
        except StorageError:
            # The commit stands all the same; the events are stored, and delivered later.
            log.warning("Events of a commit were not delivered yet.", exc_info=True)
            self._stores.delivery.deliver_soon()


async def _ended(session: AsyncClientSession) -> None:
    # With a client that was closed, or a server that is gone, its transaction ends by itself.
    with suppress(PyMongoError):
        await session.end_session()
