"""The contract of the unit of work."""

from __future__ import annotations

from typing import Protocol, TypeVar

from jts_storage.domain.results import CommitResult
from jts_storage.ports.backtests import BacktestRepository
from jts_storage.ports.candles import CandleRepository
from jts_storage.ports.entered import EnteredOnce
from jts_storage.ports.events import EventCollector
from jts_storage.ports.formulas import FormulaRepository
from jts_storage.ports.ingestion import IngestionRepository
from jts_storage.ports.models import Model
from jts_storage.ports.strategies import StrategyRepository
from jts_storage.ports.symbols import SymbolRepository


class Repositories(Protocol):
    """What a unit of work reads and writes with."""

    @property
    def candles(self) -> CandleRepository: ...
    @property
    def symbols(self) -> SymbolRepository: ...
    @property
    def formulas(self) -> FormulaRepository: ...
    @property
    def strategies(self) -> StrategyRepository: ...
    @property
    def backtests(self) -> BacktestRepository: ...
    @property
    def ingestion(self) -> IngestionRepository: ...
    @property
    def events(self) -> EventCollector: ...


R = TypeVar("R")


class UnitOfWork(EnteredOnce, Repositories, Protocol):
    """Changes in every store that become visible together, or not at all.

    Use it once, as an asynchronous context manager. Leaving without `commit` rolls back. Reads
    through it see its own changes; nobody else sees them before the commit. Afterwards every use
    raises `StorageError`.
    """

    def repository(self, model: Model[R]) -> R:
        """The repository of a declared model, within this unit of work.

        :raises StorageError: the storage was opened without it.
        """
        ...

    async def commit(self) -> CommitResult:
        """Make the changes visible, then deliver the events.

        Return which commit it was, to read ``as_of`` it later.

        :raises Conflict: another unit of work changed the same document or aggregate first;
            nothing of this one is stored.
        """
        ...

    async def rollback(self) -> None:
        """Forget the changes. Harmless when there are none, or when it is over already.

        Who leaves the block without it and without `commit` finds in the log what was dropped.
        """
        ...
