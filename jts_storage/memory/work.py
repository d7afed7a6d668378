"""A unit of work over rows in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.moments import Commit
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.results import CommitResult
from jts_storage.memory.backtests import InMemoryBacktestResultRepository
from jts_storage.memory.bookkeeping import InMemoryIngestionRepository
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.documents import (
    InMemoryDocuments,
    InMemoryFormulaRepository,
    InMemoryStrategyRepository,
)
from jts_storage.memory.tables import (
    FORMULAS,
    REFERENCES,
    STRATEGIES,
    Autocommit,
    MemoryDatabase,
    MemoryTransaction,
)
from jts_storage.models import Models
from jts_storage.mongo.model import with_declared
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.models import Model
from jts_storage.unit_of_work.staged import (
    CollectedEvents,
    StagedCandles,
    StagedIngestion,
)
from jts_storage.unit_of_work.staged.names import written
from jts_storage.unit_of_work.staged.tables import StagedTables
from jts_storage.unit_of_work.staged.taking import take

R = TypeVar("R")

log = logging.getLogger(__name__)


_delivering: set[asyncio.Task[None]] = set()
"""Kept until they are done: a loop alone does not keep its tasks."""


class InMemoryWork:
    """The `Work` of one unit of work, from its first moment to its end."""

    def __init__(
        self,
        database: MemoryDatabase,
        publisher: EventPublisher,
        models: Models | None = None,
        source: str = "",
        unit_id: str | None = None,
    ) -> None:
        self._source, self._unit_id = source, unit_id
        self._models = models or Models()
        self._database = database
        self._publisher = publisher
        self._undelivered: list[DomainEvent] = []
        lifetime = self.lifetime = Lifetime()
        stored = Autocommit(database)
        self.transaction = MemoryTransaction(database, lifetime)
        self._documents = with_declared(self._models)
        self.formulas = InMemoryFormulaRepository(self.transaction, self._documents)
        self.strategies = InMemoryStrategyRepository(self.transaction, self._documents)
        self.backtests = InMemoryBacktestResultRepository(self.transaction)
        bars = InMemoryCandleRepository(database, database.bars)
        self.stored_ingestion = InMemoryIngestionRepository(stored, bars)
        self.ingestion = StagedIngestion(self.stored_ingestion, lifetime)
        self.events = CollectedEvents(lifetime)
        self._tables = StagedTables(partial(InMemoryTable, database), lifetime)
        self.symbols = SYMBOLS.repository(self._tables.of(SYMBOLS))
        candles = InMemoryCandleRepository(database)
        self.candles = StagedCandles(candles, lifetime, self.symbols)

    def repository(self, model: Model[R]) -> R:
        return self._models.repository(
            model,
            documents=lambda model: InMemoryDocuments(self.transaction, model, self._documents),
            tables=self._tables.of,
        )

    def under_way(self) -> AbstractContextManager[None]:
        return nullcontext()

    def take(self, changes: CommitChanges, events: Sequence[DomainEvent]) -> None:
        take(self, self._tables, self._models, changes, events)

    async def commit(self) -> CommitResult:
        database = self._database
        tables = [
            (InMemoryTable(database, model), change) for model, change in self._tables.changes
        ]
        with database.lock:
            if known := database.outcomes.get(self._unit_id or ""):
                return known.result()
            self.transaction.check()
            for table, change in tables:
                table.check(change)
            self.stored_ingestion.check(self.ingestion)
            version = database.next_version()
            self.transaction.apply(version, self._source)
            self.stored_ingestion.apply(self.ingestion)
            candles = InMemoryCandleRepository(database)
            candles.apply(self.candles.changes, version, self._source)
            for table, change in tables:
                table.apply(change)
            bars = InMemoryCandleRepository(database, database.bars)
            bars.apply(self.ingestion.bars.changes, version)
            if self._unit_id is not None:
                database.outcomes[self._unit_id] = Outcome(self._unit_id, Commit(version))
            self._undelivered = self.events.collected
            database.subscriptions.add(self._undelivered, version, self._publisher.hears)
        has_version = (
            self._unit_id is not None
            or self._undelivered
            or self.candles.changes
            or any(change.store == "clickhouse" for _, change in tables)
            or self.transaction.tables & {FORMULAS, STRATEGIES}
        )
        return CommitResult(Commit(version) if has_version else None)

    async def deliver(self) -> None:
        while self._undelivered:
            event = self._undelivered[0]
            try:
                await self._publisher.publish(event)
            except Exception:
                # The commit stands all the same.
                log.exception("An event was not published.", extra={"event_id": event.id})
            del self._undelivered[0]

    def deliver_soon(self) -> None:
        delivering = asyncio.get_running_loop().create_task(self.deliver())
        _delivering.add(delivering)
        delivering.add_done_callback(_delivering.discard)

    def written(self) -> list[str]:
        documents = self.transaction.tables - {REFERENCES}
        return written(self.candles, self._tables, self.ingestion, self.events, documents)

    async def end(self) -> None:
        """Nothing is held."""
