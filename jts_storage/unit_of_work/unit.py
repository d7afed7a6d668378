"""What a service holds: changes in every store that become visible together, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self, TypeVar

from jts_storage._runtime.lifetime import Lifetime
from jts_storage._runtime.tasks import run_to_the_end
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.results import CommitResult
from jts_storage.errors import StorageError
from jts_storage.ports.backtests import BacktestRepository
from jts_storage.ports.candles import CandleRepository
from jts_storage.ports.events import EventCollector
from jts_storage.ports.formulas import FormulaRepository
from jts_storage.ports.ingestion import IngestionRepository
from jts_storage.ports.models import Model
from jts_storage.ports.strategies import StrategyRepository
from jts_storage.ports.symbols import SymbolRepository
from jts_storage.ports.unit_of_work import Repositories

R = TypeVar("R")

log = logging.getLogger(__name__)


class Work(Repositories, Protocol):
    """One unit of work as the stores carry it out, the real ones or those in memory."""

    lifetime: Lifetime

    def repository(self, model: Model[R]) -> R:
        """The repository of a declared model.

        :raises StorageError: it is not known.
        """
        ...

    def under_way(self) -> AbstractContextManager[None]:
        """Count as a running commit within the block: closing the stores waits for those.

        :raises StorageError: the stores are being closed.
        """
        ...

    def take(self, changes: CommitChanges, events: Sequence[DomainEvent]) -> None:
        """Take over what another process has staged.

        :raises InvalidData: something of it is not as this process would have staged it.
        """
        ...

    async def commit(self) -> CommitResult:
        """Store all changes, or none of them."""
        ...

    async def deliver(self) -> None:
        """Deliver the events of what is committed, as far as that is possible now."""
        ...

    def deliver_soon(self) -> None:
        """Deliver them in the background."""
        ...

    def written(self) -> list[str]:
        """Name what was written, for people."""
        ...

    async def end(self) -> None:
        """Release what is held, and drop what is not committed."""
        ...


class UnitOfWork:
    """The `UnitOfWork` of the ports: sees that it is used once, and passes on to its `Work`.

    :param begin: begins the `Work` of one unit of work.
    """

    def __init__(self, begin: Callable[[], Awaitable[Work]]) -> None:
        self._begin = begin
        self._work: Work | None = None
        self._state = "has not been entered"

    @property
    def candles(self) -> CandleRepository:
        return self._active.candles

    @property
    def symbols(self) -> SymbolRepository:
        return self._active.symbols

    @property
    def formulas(self) -> FormulaRepository:
        return self._active.formulas

    @property
    def strategies(self) -> StrategyRepository:
        return self._active.strategies

    @property
    def backtests(self) -> BacktestRepository:
        return self._active.backtests

    @property
    def ingestion(self) -> IngestionRepository:
        return self._active.ingestion

    @property
    def events(self) -> EventCollector:
        return self._active.events

    def repository(self, model: Model[R]) -> R:
        return self._active.repository(model)

    def take(self, changes: CommitChanges, events: Sequence[DomainEvent]) -> None:
        """Take over what a client has staged; nothing may be staged here."""
        self._active.take(changes, events)

    async def commit(self) -> CommitResult:
        work = self._active
        try:
            with work.under_way():
                # First: a save that comes while the commit runs is refused rather than lost.
                self._end("is being committed")
                # Once begun, a commit runs to its end, even if whoever waits for it is cancelled.
                result = await run_to_the_end(work.commit())
                self._state = "has been committed"
                await work.deliver()
                return result
        except asyncio.CancelledError:
            self._state = "was cancelled during its commit, which may be stored all the same"
            work.deliver_soon()
            raise
        except BaseException:
            self._state = "is over, its commit having failed"
            raise

    async def rollback(self) -> None:
        if (work := self._work) is not None:
            self._end("has been rolled back")
            await run_to_the_end(work.end())

    async def __aenter__(self) -> Self:
        if self._work is not None or self._state != "has not been entered":
            raise StorageError(
                "A unit of work can be entered only once.", remedy="Ask the storage for a new one."
            )
        self._work = await self._begin()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._work is not None and (written := self._work.written()):
                log.warning(
                    "A unit of work was left without commit; dropped: %s. Call `commit`, or "
                    "`rollback` if that is meant.",
                    ", ".join(written),
                )
        finally:
            await self.rollback()

    @property
    def _active(self) -> Work:
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
