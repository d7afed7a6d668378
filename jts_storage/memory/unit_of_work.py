"""The unit of work over rows in memory."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.errors import StorageError
from jts_storage.memory.backtests import InMemoryBacktestResultRepository
from jts_storage.memory.bookkeeping import InMemoryIngestionRepository, InMemorySymbolRepository
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.documents import InMemoryFormulaRepository, InMemoryStrategyRepository
from jts_storage.memory.tables import Autocommit, MemoryDatabase, Transaction
from jts_storage.ports.events import EventPublisher
from jts_storage.unit_of_work.staged import (
    CollectedEvents,
    StagedCandles,
    StagedIngestion,
    StagedSymbols,
)

log = logging.getLogger(__name__)


class _Work:
    """What lives between entering a unit of work and its end."""

    def __init__(self, database: MemoryDatabase) -> None:
        lifetime = self.lifetime = Lifetime()
        stored = Autocommit(database)
        self.transaction = Transaction(database, lifetime)
        self.candles = StagedCandles(InMemoryCandleRepository(database), lifetime)
        self.symbols = StagedSymbols(InMemorySymbolRepository(stored), lifetime)
        self.formulas = InMemoryFormulaRepository(self.transaction)
        self.strategies = InMemoryStrategyRepository(self.transaction)
        self.backtests = InMemoryBacktestResultRepository(self.transaction)
        bars = InMemoryCandleRepository(database, database.bars)
        self.stored_ingestion = InMemoryIngestionRepository(stored, bars)
        self.ingestion = StagedIngestion(self.stored_ingestion, lifetime)
        self.events = CollectedEvents(lifetime)

    def commit(self, database: MemoryDatabase) -> None:
        with database.lock:
            self.transaction.check()
            self.stored_ingestion.check(self.ingestion)
            self.transaction.apply()
            self.stored_ingestion.apply(self.ingestion)
            InMemorySymbolRepository(Autocommit(database)).store(self.symbols.changes)
            InMemoryCandleRepository(database).apply(self.candles.changes)
            bars = InMemoryCandleRepository(database, database.bars)
            bars.apply(self.ingestion.bars.changes)


class InMemoryUnitOfWork:
    """A `UnitOfWork` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase, publisher: EventPublisher) -> None:
        self._database = database
        self._publisher = publisher
        self._work: _Work | None = None
        self._state = "has not been entered"

    @property
    def candles(self) -> StagedCandles:
        return self._active.candles

    @property
    def symbols(self) -> StagedSymbols:
        return self._active.symbols

    @property
    def formulas(self) -> InMemoryFormulaRepository:
        return self._active.formulas

    @property
    def strategies(self) -> InMemoryStrategyRepository:
        return self._active.strategies

    @property
    def backtests(self) -> InMemoryBacktestResultRepository:
        return self._active.backtests

    @property
    def ingestion(self) -> StagedIngestion:
        return self._active.ingestion

    @property
    def events(self) -> CollectedEvents:
        return self._active.events

    async def commit(self) -> None:
        work = self._active
        self._end("is over, its commit having failed")
        work.commit(self._database)
        self._state = "has been committed"
        for event in work.events.collected:
            try:
                await self._publisher.publish(event)
            except Exception:
                # The commit stands all the same.
                log.exception("An event was not published.", extra={"event_id": event.id})

    async def rollback(self) -> None:
        if self._work is not None:
            self._end("has been rolled back")

    async def __aenter__(self) -> Self:
        if self._work is not None or self._state != "has not been entered":
            raise StorageError(
                "A unit of work can be entered only once.",
                remedy="Ask the storage for a new one.",
            )
        self._work = _Work(self._database)
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

    def _end(self, state: str) -> None:
        if self._work is not None:
            self._work.lifetime.end("is over")
        self._work = None
        self._state = state
