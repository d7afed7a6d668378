"""All that a storage gives to read, made of the readers of its stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet, DataSetQuery
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.moments import AsOf
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.revision import DocumentPurge
from jts_storage.ports.backtests import BacktestReader, BacktestStore
from jts_storage.ports.candles import CandleStore
from jts_storage.ports.data_sets import DataSetReader
from jts_storage.ports.events import EventPublisher, Subscriptions
from jts_storage.ports.formulas import FormulaStore
from jts_storage.ports.health import Health
from jts_storage.ports.history import View
from jts_storage.ports.ingestion import IngestionReader
from jts_storage.ports.models import Model
from jts_storage.ports.snapshots import SnapshotStore
from jts_storage.ports.strategies import StrategyStore
from jts_storage.ports.symbols import SymbolReader
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.unit_of_work.kept_candles import KeptView, PastView, Purges
from jts_storage.unit_of_work.read_bookkeeping import ReadIngestion
from jts_storage.unit_of_work.timed_candles import Present, TimedCandles
from jts_storage.unit_of_work.timed_documents import (
    KeptFormulas,
    KeptStrategies,
    TimedFormulas,
    TimedStrategies,
)

if TYPE_CHECKING:
    from jts_storage.usecases.data_sets import DataSets

R = TypeVar("R")


class Readable(Protocol):
    """What `Storage` passes on; `Storage` says what each part promises."""

    @property
    def candles(self) -> CandleStore: ...
    @property
    def symbols(self) -> SymbolReader: ...
    @property
    def formulas(self) -> FormulaStore: ...
    @property
    def strategies(self) -> StrategyStore: ...
    @property
    def backtests(self) -> BacktestStore: ...
    @property
    def ingestion(self) -> IngestionReader: ...
    @property
    def snapshots(self) -> SnapshotStore: ...

    async def as_of(self, moment: AsOf) -> View: ...

    async def data_set(self, asked: DataSetQuery) -> DataSet: ...

    async def fingerprint(self, data_set: DataSet) -> str: ...

    def repository(self, model: Model[R]) -> R: ...


class Backend(Protocol):
    """What a storage is made of."""

    @property
    def readable(self) -> Readable: ...
    @property
    def publisher(self) -> EventPublisher: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health: ...

    async def recover(self) -> int: ...

    @property
    def subscriptions(self) -> Subscriptions: ...

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork: ...

    async def outcome(self, unit_id: str) -> Outcome: ...


class Readers(Protocol):
    """What the stores are read with: what is committed, and nothing else."""

    @property
    def candles(self) -> Present: ...
    @property
    def symbols(self) -> SymbolReader: ...
    @property
    def formulas(self) -> KeptFormulas: ...
    @property
    def strategies(self) -> KeptStrategies: ...
    @property
    def backtests(self) -> BacktestReader: ...
    @property
    def ingestion(self) -> IngestionReader: ...

    def repository(self, model: Model[R]) -> R: ...


class ReadStores(Protocol):
    """Stores in reach of this process."""

    @property
    def readers(self) -> Readers: ...
    @property
    def snapshots(self) -> SnapshotStore: ...
    @property
    def purges(self) -> Purges: ...
    @property
    def data_sets(self) -> DataSetReader: ...

    async def as_of(self, moment: AsOf) -> PastView: ...

    async def purge_documents(self, asked: DocumentPurge) -> int: ...


class ReadableStores:
    """`Readable` over stores that know the present and, asked by moment, the past."""

    def __init__(self, stores: ReadStores) -> None:
        self._stores = stores

    @property
    def candles(self) -> CandleStore:
        return TimedCandles(self._stores.readers.candles, self.as_of, self._stores.purges)

    @property
    def symbols(self) -> SymbolReader:
        return self._stores.readers.symbols

    @property
    def formulas(self) -> FormulaStore:
        purge = self._stores.purge_documents
        return TimedFormulas(self._stores.readers.formulas, self.as_of, purge)

    @property
    def strategies(self) -> StrategyStore:
        purge = self._stores.purge_documents
        return TimedStrategies(self._stores.readers.strategies, self.as_of, purge)

    @property
    def backtests(self) -> BacktestStore:
        from jts_storage.usecases.verified_backtests import VerifiedBacktests

        return VerifiedBacktests(self._stores.readers.backtests, self._stores.data_sets)

    @property
    def ingestion(self) -> IngestionReader:
        return ReadIngestion(self._stores.readers.ingestion)

    @property
    def snapshots(self) -> SnapshotStore:
        return self._stores.snapshots

    async def as_of(self, moment: AsOf) -> View:
        return KeptView.of(await self._stores.as_of(moment), self._stores.purges)

    async def data_set(self, asked: DataSetQuery) -> DataSet:
        return await self._data_sets.of(asked)

    async def fingerprint(self, data_set: DataSet) -> str:
        return await self._data_sets.fingerprint(data_set)

    def repository(self, model: Model[R]) -> R:
        return self._stores.readers.repository(model)

    @property
    def _data_sets(self) -> DataSets:
        from jts_storage.usecases.data_sets import DataSets

        return DataSets(self._stores.data_sets)


class ReadableStorage(ABC):
    """What a storage gives to read: all that is committed."""

    @property
    @abstractmethod
    def _opened(self) -> Backend:
        """:raises StorageError: the storage is not open."""

    @property
    def candles(self) -> CandleStore:
        return self._opened.readable.candles

    @property
    def symbols(self) -> SymbolReader:
        return self._opened.readable.symbols

    @property
    def formulas(self) -> FormulaStore:
        return self._opened.readable.formulas

    @property
    def strategies(self) -> StrategyStore:
        return self._opened.readable.strategies

    @property
    def backtests(self) -> BacktestStore:
        return self._opened.readable.backtests

    @property
    def ingestion(self) -> IngestionReader:
        return self._opened.readable.ingestion

    @property
    def snapshots(self) -> SnapshotStore:
        """Names for moments: ``as_of="scan-2026-11"``."""
        return self._opened.readable.snapshots

    async def data_set(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        market: Market | None = None,
        exchange: str | None = None,
        as_of: AsOf | None = None,
    ) -> DataSet:
        """Name the candles from `start` to `end` as they are now, or were at a moment, for good.

        Of the series asked for, all if none are named, it holds those that have candles there: none
        where the name of an exchange is misspelled. Look at its `keys`.

        :param market: asks the symbols as they are now.
        :param as_of: as for `as_of`; the latest commit if None.
        :raises InvalidData: an end has no zone, the range runs backwards, a key is of another
            timeframe, or no history of the moment is kept.
        :raises NotFound: there is no such snapshot.
        """
        asked = DataSetQuery(timeframe, start, end, keys, market, exchange, as_of)
        return await self._opened.readable.data_set(asked)

    async def fingerprint(self, data_set: DataSet) -> str:
        """Return a text that changes with any candle of a data set.

        It is computed where the candles are stored; they are not read. Two data sets of the same
        series and range whose candles are the same have the same text, whatever their commits.

        :raises InvalidData: the history no longer reaches back to its commit.
        """
        known = checks.instance(data_set, DataSet, "data_set")
        return await self._opened.readable.fingerprint(known)

    async def as_of(self, moment: AsOf) -> View:
        """All that was committed up to a moment: a time with its zone, a commit or a snapshot.

        :raises InvalidData: the moment is in the future, or no history of it is kept.
        :raises NotFound: there is no such snapshot.
        """
        return await self._opened.readable.as_of(moment)

    def repository(self, model: Model[R]) -> R:
        """Return what is committed of a declared model, by the repository that it declares.

        :raises StorageError: the storage was opened without the model.
        """
        return self._opened.readable.repository(model)
