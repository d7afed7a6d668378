"""The in-memory stores together, as `Storage.in_memory()` opens them."""

from __future__ import annotations

from typing import Self

from jts_storage.memory.backtests import InMemoryBacktestResultRepository
from jts_storage.memory.bookkeeping import InMemoryIngestionRepository, InMemorySymbolRepository
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.documents import InMemoryFormulaRepository, InMemoryStrategyRepository
from jts_storage.memory.events import InMemoryEventPublisher
from jts_storage.memory.tables import Autocommit, MemoryDatabase
from jts_storage.memory.work import InMemoryWork
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.unit_of_work.unit import UnitOfWork


class InMemoryBackend:
    """Every repository over one `MemoryDatabase`, each write taking effect at once."""

    def __init__(self, publisher: EventPublisher | None = None) -> None:
        self._database = MemoryDatabase()
        session = Autocommit(self._database)
        self.publisher: EventPublisher = publisher or InMemoryEventPublisher()
        self.candles = InMemoryCandleRepository(self._database)
        self.symbols = InMemorySymbolRepository(session)
        self.formulas = InMemoryFormulaRepository(session)
        self.strategies = InMemoryStrategyRepository(session)
        self.backtests = InMemoryBacktestResultRepository(session)
        self.ingestion = InMemoryIngestionRepository(
            session, InMemoryCandleRepository(self._database, self._database.bars)
        )

    @property
    def readers(self) -> Self:
        return self

    async def open(self) -> None:
        """Nothing has to be opened."""

    async def close(self) -> None:
        """Nothing has to be closed; what was stored stays until the object goes."""

    async def health(self) -> Health:
        return Health(memory=True)

    async def recover(self) -> int:
        """A commit in memory cannot be interrupted: there is nothing to finish."""
        return 0

    def unit_of_work(self) -> UnitOfWork:
        return UnitOfWork(self._work)

    async def _work(self) -> InMemoryWork:
        return InMemoryWork(self._database, self.publisher)
