"""A backend whose calls are told to an observer; the stores below know nothing of it."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar, cast

from jts_storage.domain.data_sets import DataSet, DataSetQuery
from jts_storage.domain.moments import AsOf
from jts_storage.domain.outcomes import Outcome
from jts_storage.observe.proxies import Observation, ObservedUnitOfWork
from jts_storage.ports.backtests import BacktestStore
from jts_storage.ports.candles import CandleStore
from jts_storage.ports.events import EventPublisher, Subscriptions
from jts_storage.ports.formulas import FormulaStore
from jts_storage.ports.health import Health
from jts_storage.ports.history import View
from jts_storage.ports.ingestion import IngestionReader
from jts_storage.ports.models import Model
from jts_storage.ports.observation import Observer
from jts_storage.ports.snapshots import SnapshotStore
from jts_storage.ports.strategies import StrategyStore
from jts_storage.ports.symbols import SymbolReader
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.readable import Backend, Readable

R = TypeVar("R")


class ObservedBackend:
    """What a storage is made of, as another backend has it.

    :param store: who answers, where it is one for all: ``memory`` or ``gateway``.
    """

    def __init__(self, backend: Backend, observer: Observer, store: str | None = None) -> None:
        self._backend = backend
        self._observation = self.observation = Observation(observer, store)
        self.readable: Readable = ObservedReadable(backend, self._observation)
        self.observer = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @property
    def publisher(self) -> EventPublisher:
        return self._backend.publisher

    @property
    def subscriptions(self) -> Subscriptions:
        return self._backend.subscriptions

    async def open(self) -> None:
        await self._told("open", self._backend.open)

    async def close(self) -> None:
        await self._told("close", self._backend.close)

    async def health(self) -> Health:
        return cast(Health, await self._told("health", self._backend.health))

    async def recover(self) -> int:
        return cast(int, await self._told("recover", self._backend.recover))

    async def outcome(self, unit_id: str) -> Outcome:
        work = partial(self._backend.outcome, unit_id)
        return cast(Outcome, await self._told("outcome", work))

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork:
        work = self._backend.unit_of_work(source, unit_id)
        return cast(UnitOfWork, ObservedUnitOfWork(work, self._observation))

    async def _told(self, name: str, work: Any) -> Any:
        return await self._observation.told("storage", name, work)


class ObservedReadable:
    """All that a storage gives to read."""

    def __init__(self, backend: Backend, observation: Observation) -> None:
        self._backend, self._observation = backend, observation

    @property
    def candles(self) -> CandleStore:
        return self._observation.of(self._backend.readable.candles, "candles")

    @property
    def symbols(self) -> SymbolReader:
        return self._observation.of(self._backend.readable.symbols, "symbols")

    @property
    def formulas(self) -> FormulaStore:
        return self._observation.of(self._backend.readable.formulas, "formulas")

    @property
    def strategies(self) -> StrategyStore:
        return self._observation.of(self._backend.readable.strategies, "strategies")

    @property
    def backtests(self) -> BacktestStore:
        return self._observation.of(self._backend.readable.backtests, "backtests")

    @property
    def ingestion(self) -> IngestionReader:
        return self._observation.ingestion(self._backend.readable.ingestion)

    @property
    def snapshots(self) -> SnapshotStore:
        return self._observation.of(self._backend.readable.snapshots, "snapshots")

    async def as_of(self, moment: AsOf) -> View:
        view = await self._told("as_of", partial(self._backend.readable.as_of, moment))
        return self._observation.view(view)

    async def data_set(self, asked: DataSetQuery) -> DataSet:
        work = partial(self._backend.readable.data_set, asked)
        return cast(DataSet, await self._told("data_set", work))

    async def fingerprint(self, data_set: DataSet) -> str:
        return cast(
            str,
            await self._told("fingerprint", partial(self._backend.readable.fingerprint, data_set)),
        )

    def repository(self, model: Model[R]) -> R:
        return self._observation.of(
            self._backend.readable.repository(model), model.name, model.store
        )

    async def _told(self, name: str, work: Any) -> Any:
        return await self._observation.told("storage", name, work)
