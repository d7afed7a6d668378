"""A unit of work over the real stores: ClickHouse, MongoDB and SQL.

Documents are written in a MongoDB transaction as they come; candles, symbols and bookkeeping are
staged. `docs/why.md` lists what each reader sees when something dies in between.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Self, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import CommitResult
from jts_storage.errors import Conflict, ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.declared import DeclaredDocuments
from jts_storage.mongo.errors import translate
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.references import REFERENCES
from jts_storage.mongo.revisions import Revisions
from jts_storage.mongo.transaction import Transaction, commit_alone
from jts_storage.ports.models import Model
from jts_storage.unit_of_work.commit import JournalledCommit, commit_documents
from jts_storage.unit_of_work.outcomes import NotedUnit
from jts_storage.unit_of_work.participants import Look, Overtaking, Stores
from jts_storage.unit_of_work.recovery import Recovery
from jts_storage.unit_of_work.staged import (
    CollectedEvents,
    StagedCandles,
    StagedIngestion,
)
from jts_storage.unit_of_work.staged.names import written
from jts_storage.unit_of_work.staged.tables import StagedTables
from jts_storage.unit_of_work.staged.taking import staged_changes, take

R = TypeVar("R")

log = logging.getLogger(__name__)


class StoredWork:
    """The `Work` of one unit of work, from its first moment to its end."""

    def __init__(
        self,
        stores: Stores,
        session: AsyncClientSession,
        source: str = "",
        unit: NotedUnit | None = None,
    ) -> None:
        """
        :param source: what it says of itself in the history of what it changes.
        :param unit: where its outcome is noted; None if it was given no id.
        """
        self._source, self._unit = source, unit
        lifetime = self.lifetime = Lifetime()
        self._stores = stores
        self._session = session
        self._revisions = Revisions(stores.mongo, session, source) if stores.history else None
        begin = None if unit is None else unit.begin
        self._transaction = transaction = Transaction(session, lifetime, self._revisions, begin)
        self._touches_documents = False
        self._formulas = MongoDBFormulaRepository(stores.mongo, transaction)
        self._strategies = MongoDBStrategyRepository(stores.mongo, transaction)
        self._backtests = MongoDBBacktestResultRepository(stores.mongo, transaction)
        self.ingestion = StagedIngestion(stores.ingestion, lifetime)
        self.events = CollectedEvents(lifetime)
        self._tables = StagedTables(stores.stored, lifetime)
        self.symbols = SYMBOLS.repository(self._tables.of(SYMBOLS))
        self.candles = StagedCandles(stores.candles, lifetime, self.symbols)

    @classmethod
    async def begun(cls, stores: Stores, source: str = "", unit_id: str | None = None) -> Self:
        mongo = stores.mongo
        try:
            session = mongo.client.start_session()
            await session.start_transaction()
        except PyMongoError as exc:
            raise translate(exc, doing="beginning", hosts=mongo.hosts) from exc
        unit = None if unit_id is None else NotedUnit(stores.outcomes, unit_id, session)
        return cls(stores, session, source, unit)

    @property
    def formulas(self) -> MongoDBFormulaRepository:
        self._touches_documents = True
        return self._formulas

    @property
    def strategies(self) -> MongoDBStrategyRepository:
        self._touches_documents = True
        return self._strategies

    @property
    def backtests(self) -> MongoDBBacktestResultRepository:
        self._touches_documents = True
        return self._backtests

    def repository(self, model: Model[R]) -> R:
        return self._stores.models.repository(
            model, documents=self._documents, tables=self._tables.of
        )

    def _documents(self, model: DocumentModel[Any, Any]) -> DeclaredDocuments[Any]:
        self._touches_documents = True
        return DeclaredDocuments(self._stores.mongo, model, self._transaction)

    def under_way(self) -> AbstractContextManager[None]:
        return self._stores.commits.one()

    def take(self, changes: CommitChanges, events: Sequence[DomainEvent]) -> None:
        take(self, self._tables, self._stores.models, changes, events)

    async def commit(self) -> CommitResult:
        try:
            await self._transaction.ended()
            if self._unit is not None and self._unit.known is not None:
                return self._unit.known.result()
            version = await self._write(staged_changes(self, self._tables, self._source))
            return CommitResult(None if version is None else Commit(version))
        except OutcomeUnknown as exc:
            if self._unit is None:
                raise
            return await self._settled(self._unit, exc)
        except Overtaking:
            try:
                await Recovery(self._stores).recover()
            except StorageError:
                log.warning("What comes first could not be finished.", exc_info=True)
            self.deliver_soon()
            raise
        except Conflict:
            # Perhaps with whoever gave it up meanwhile, or with another one of the same id.
            outcome = None if self._unit is None else await self._unit.final()
            if outcome is None:
                raise
            return outcome.result()
        finally:
            await self.end()

    async def _settled(self, unit: NotedUnit, unknown: OutcomeUnknown) -> CommitResult:
        """Ask what became of a commit whose answer was lost; what is not stored never will be."""
        try:
            outcome = await unit.settle()
        except StorageError as exc:
            log.warning(
                "What became of a commit cannot be told now.",
                exc_info=True,
                extra={"unit_id": unit.id},
            )
            unknown.remedy = f"Ask `storage.outcome({unit.id!r})` once the servers answer."
            raise unknown from exc
        if outcome.is_committed:
            try:
                await Recovery(self._stores).recover()
            except StorageError as exc:
                raise StorageError(
                    f"Unit of work {unit.id} is decided, but not every store has it yet: {exc}",
                    remedy="Do not repeat it: `recover` will finish it, as does the next opening.",
                ) from exc
            return outcome.result()
        lost = ConnectionFailed(
            f"Unit of work {unit.id} was given up, and nothing of it is stored: {unknown.args[0]}",
            hosts=unknown.hosts,
            remedy="Repeat its work, in a unit of work with another id.",
        )
        lost.transient = True
        raise lost from unknown

    async def deliver(self) -> None:
        try:
            await self._stores.delivery.deliver_own(self.events.collected)
        except StorageError:
            # The commit stands all the same; the events are stored, and delivered later.
            log.warning("Events of a commit were not delivered yet.", exc_info=True)
            self.deliver_soon()

    def written(self) -> list[str]:
        # Beside each document stands how often others refer to it.
        documents = self._transaction.written - {REFERENCES}
        return written(self.candles, self._tables, self.ingestion, self.events, documents)

    def deliver_soon(self) -> None:
        self._stores.delivery.deliver_soon()

    async def end(self) -> None:
        # With a client that was closed, or a server that is gone, its transaction ends by itself.
        with suppress(PyMongoError):
            await self._session.end_session()

    async def _write(self, changes: CommitChanges) -> int | None:
        """Return the version of the commit; None where nothing of it has one."""
        stores, events = self._stores, self.events.collected
        is_more = self._touches_documents or events or self._unit is not None
        is_alone = changes.are_candles_to_save and not is_more
        if is_alone:
            version = await stores.store_candles(changes, Recovery(stores).finish_earlier)
            if version is not None:
                return version
        look = await stores.look(changes)
        if self._needs_journal(changes, look):
            above, revisions, unit = look.symbols_above, self._revisions, self._unit
            work = JournalledCommit(stores, self._session, changes, events, above, revisions, unit)
            return await work.run()
        if changes.touches_clickhouse:
            return await stores.store_alone(changes, look.symbols_above)
        if changes.touches_database:
            await stores.clock.wait_for_fence()
            async with stores.bookkeeping(changes):
                pass
        elif self._revisions:
            return await commit_documents(stores, self._session, self._revisions)
        elif self._touches_documents:
            await stores.clock.begin_writing(candles=False)
            await stores.clock.wait_for_fence()
            await commit_alone(stores.mongo, self._session, "committing")
        return None

    def _needs_journal(self, changes: CommitChanges, look: Look) -> bool:
        touched = (changes.touches_clickhouse, changes.touches_database, self._touches_documents)
        if sum(touched) > 1 or self.events.collected or self._unit is not None:
            return True
        return changes.touches_clickhouse and not look.is_one_insert
