"""The in-memory stores together, as `Storage.in_memory()` opens them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Self, TypeVar

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.moments import AsOf
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.revision import DocumentPurge
from jts_storage.memory.backtests import InMemoryBacktestResultRepository
from jts_storage.memory.bookkeeping import InMemoryIngestionRepository
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.data_sets import InMemoryDataSets
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.documents import (
    InMemoryDocuments,
    InMemoryFormulaRepository,
    InMemoryStrategyRepository,
)
from jts_storage.memory.moments import (
    InMemorySnapshots,
    InMemoryView,
    purge_documents,
    view,
)
from jts_storage.memory.purges import InMemoryPurges
from jts_storage.memory.subscriptions import InMemorySubscriptions
from jts_storage.memory.tables import Autocommit, MemoryDatabase
from jts_storage.memory.work import InMemoryWork
from jts_storage.models import Models
from jts_storage.models.document_repository import ReadOnlyDocuments
from jts_storage.models.table_repository import ReadOnly
from jts_storage.mongo.model import with_declared
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.ports.models import Model
from jts_storage.readable import Readable, ReadableStores
from jts_storage.unit_of_work.publisher import InMemoryEventPublisher
from jts_storage.unit_of_work.unit import UnitOfWork

R = TypeVar("R")


class InMemoryBackend:
    """Every repository over one `MemoryDatabase`, each write taking effect at once."""

    def __init__(
        self, publisher: EventPublisher | None = None, models: Iterable[Model[Any]] = ()
    ) -> None:
        self._database = MemoryDatabase()
        self._models = Models.known(models)
        session = Autocommit(self._database)
        self.publisher: EventPublisher = publisher or InMemoryEventPublisher()
        self.candles = InMemoryCandleRepository(self._database)
        self.symbols = SYMBOLS.repository(ReadOnly(InMemoryTable(self._database, SYMBOLS)))
        self._documents = with_declared(self._models)
        self.formulas = InMemoryFormulaRepository(session, self._documents)
        self.strategies = InMemoryStrategyRepository(session, self._documents)
        self.backtests = InMemoryBacktestResultRepository(session)
        self.ingestion = InMemoryIngestionRepository(
            session, InMemoryCandleRepository(self._database, self._database.bars)
        )

    @property
    def readers(self) -> Self:
        return self

    @property
    def models(self) -> Models:
        """Those given and those that installed packages name."""
        return self._models

    @property
    def readable(self) -> Readable:
        return ReadableStores(self)

    def repository(self, model: Model[R]) -> R:
        return self._models.repository(
            model,
            documents=lambda model: ReadOnlyDocuments(
                InMemoryDocuments(Autocommit(self._database), model, self._documents)
            ),
            tables=lambda model: ReadOnly(InMemoryTable(self._database, model)),
        )

    async def open(self) -> None:
        """Nothing has to be opened."""

    async def close(self) -> None:
        """What was stored stays until the object goes; nobody waits for more."""
        self._database.subscriptions.consumers.wake(for_good=True)

    async def health(self) -> Health:
        health = Health(memory=True)
        waiting, parked = self._database.subscriptions.totals()
        health.waiting_for_subscriptions, health.parked_for_subscriptions = waiting, parked
        return health

    async def recover(self) -> int:
        """A commit in memory cannot be interrupted: there is nothing to finish."""
        return 0

    @property
    def subscriptions(self) -> InMemorySubscriptions:
        return InMemorySubscriptions(self._database.subscriptions)

    @property
    def snapshots(self) -> InMemorySnapshots:
        return InMemorySnapshots(self._database)

    @property
    def purges(self) -> InMemoryPurges:
        return InMemoryPurges(self._database)

    async def as_of(self, moment: AsOf) -> InMemoryView:
        return view(self._database, moment)

    async def purge_documents(self, asked: DocumentPurge) -> int:
        return purge_documents(self._database, asked)

    @property
    def data_sets(self) -> InMemoryDataSets:
        return InMemoryDataSets(self._database)

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork:
        return UnitOfWork(partial(self._work, source, unit_id))

    async def _work(self, source: str, unit_id: str | None) -> InMemoryWork:
        return InMemoryWork(self._database, self.publisher, self._models, source, unit_id)

    async def outcome(self, unit_id: str) -> Outcome:
        return self._database.outcomes.setdefault(unit_id, Outcome(unit_id))
