"""The blocking twin of `jts_storage.Storage`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from jts_storage import storage as asynchronous
from jts_storage.domain.cache_statistics import CacheStatistics
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.moments import AsOf
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.rate_limits import RateLimits
from jts_storage.domain.subscriptions import From, SubscriptionState
from jts_storage.errors import InvalidData
from jts_storage.ports import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.ports.models import Model
from jts_storage.ports.observation import Observation, Observer
from jts_storage.sync.declared import Blocking
from jts_storage.sync.portal import Portal
from jts_storage.sync.repositories import (
    BacktestStore,
    CandleStore,
    FormulaStore,
    IngestionReader,
    LiveIngest,
    RateLimiter,
    SnapshotStore,
    StrategyStore,
    Subscription,
    SymbolReader,
    UnitOfWork,
    View,
)
from jts_storage.unit_of_work.repeating import retry_policy

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.mongo.manager import MongoDBManager
    from jts_storage.observe.diagnosis import Diagnosis
    from jts_storage.relational.manager import DatabaseManager
    from jts_storage.settings import StorageSettings

E = TypeVar("E", bound=DomainEvent)
F = TypeVar("F", bound=DomainEvent)
R = TypeVar("R")
T = TypeVar("T")

_USE_ASYNC = "With a coroutine function, use the asynchronous Storage."


class Storage:
    """Blocking: as `jts_storage.Storage`, for threads and desktop programs.

    Any thread may use it; one event loop in a background thread does the work. Handlers of events
    are called in that thread.
    """

    def __init__(self, storage: asynchronous.Storage) -> None:
        self._storage = storage
        self._portal = Portal()
        self._is_open = False
        self._opening = threading.Lock()

    @classmethod
    def open(
        cls,
        settings: StorageSettings | None = None,
        *,
        check: asynchronous.SchemaCheck | None = None,
        publisher: EventPublisher | None = None,
        models: Iterable[Model[Any]] = (),
        observer: Observer | None = None,
    ) -> Self:
        """A storage over the stores that `settings` name, or else ``JTS_*`` variables.

        :param check: what a difference between live schemas and models does, as asynchronously.
        :param models: the service's own, beside those that installed packages name.
        :param observer: hears of every call, in the thread of the event loop.
        :raises InvalidConfiguration: naming the setting at fault.
        """
        storage = asynchronous.Storage.open(
            settings, check=check, publisher=publisher, models=models, observer=observer
        )
        return cls(storage)

    @classmethod
    def in_memory(
        cls,
        *,
        publisher: EventPublisher | None = None,
        models: Iterable[Model[Any]] = (),
        rate_limits: RateLimits | None = None,
        observer: Observer | None = None,
    ) -> Self:
        """A storage that lives and dies with the object: for tests and trials."""
        storage = asynchronous.Storage.in_memory(
            publisher=publisher, models=models, rate_limits=rate_limits, observer=observer
        )
        return cls(storage)

    @property
    def candles(self) -> CandleStore:
        return CandleStore(self._portal, self._storage.candles)

    @property
    def symbols(self) -> SymbolReader:
        return SymbolReader(self._portal, self._storage.symbols)

    @property
    def formulas(self) -> FormulaStore:
        return FormulaStore(self._portal, self._storage.formulas)

    @property
    def strategies(self) -> StrategyStore:
        return StrategyStore(self._portal, self._storage.strategies)

    @property
    def backtests(self) -> BacktestStore:
        return BacktestStore(self._portal, self._storage.backtests)

    @property
    def ingestion(self) -> IngestionReader:
        return IngestionReader(self._portal, self._storage.ingestion)

    @property
    def snapshots(self) -> SnapshotStore:
        """Names for moments: ``as_of="scan-2026-11"``."""
        return SnapshotStore(self._portal, self._storage.snapshots)

    @property
    def rate_limits(self) -> RateLimiter:
        """Slots of the limits that are set: ``with storage.rate_limits.acquire("kis")``.

        :raises InvalidConfiguration: they have no place to be counted in.
        """
        return RateLimiter(self._portal, self._storage.rate_limits)

    def as_of(self, moment: AsOf) -> View:
        """All that was committed up to a moment: a time with its zone, a commit or a snapshot.

        :raises InvalidData: the moment is in the future, or no history of it is kept.
        :raises NotFound: there is no such snapshot.
        """
        return View(self._portal, self._portal.call(self._storage.as_of(moment)))

    def data_set(
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

        Of the series asked for, all if none are named, it holds those that have candles there.

        :param market: asks the symbols as they are now.
        :param as_of: a time with its zone, a commit or a snapshot; the latest commit if None.
        :raises InvalidData: an end has no zone, the range runs backwards, a key is of another
            timeframe, or no history of the moment is kept.
        :raises NotFound: there is no such snapshot.
        """
        return self._portal.call(
            self._storage.data_set(
                timeframe, start, end, keys=keys, market=market, exchange=exchange, as_of=as_of
            )
        )

    def fingerprint(self, data_set: DataSet) -> str:
        """Return a text that changes with any candle of a data set, computed where they are.

        :raises InvalidData: the history no longer reaches back to its commit.
        """
        return self._portal.call(self._storage.fingerprint(data_set))

    def repository(self, model: Model[R]) -> Blocking[R]:
        """What is committed of a declared model, by the repository that it declares.

        :raises StorageError: the storage was opened without the model.
        """
        return Blocking(self._portal, self._storage.repository(model))

    @property
    def clickhouse(self) -> ClickHouseManager:
        """The way to ClickHouse itself; it is blocking, and free to use from any thread.

        :raises StorageError: the storage is in memory; so do `mongo` and `database`.
        """
        return self._storage.clickhouse

    @property
    def mongo(self) -> MongoDBManager:
        """The way to MongoDB itself; asynchronous, in the storage's own event loop."""
        return self._storage.mongo

    @property
    def database(self) -> DatabaseManager:
        """The way to the SQL database itself; asynchronous, in the storage's own event loop."""
        return self._storage.database

    @property
    def observation(self) -> Observation | None:
        """For use cases, which tell of themselves in the storage's own event loop; None where the
        storage has no observer.
        """
        return self._storage.observation

    @property
    def events(self) -> EventPublisher:
        """Where handlers of domain events are registered."""
        return self._storage.events

    @overload
    def subscribe(
        self, name: str, one: type[E], two: type[F], /, *, from_: From = ..., durable: bool = ...
    ) -> Subscription[E | F]: ...

    @overload
    def subscribe(
        self, name: str, one: type[E], /, *more: type[E], from_: From = ..., durable: bool = ...
    ) -> Subscription[E]: ...

    @overload
    def subscribe(
        self, name: str, *types: str | type[DomainEvent], from_: From = ..., durable: bool = ...
    ) -> Subscription[DomainEvent]: ...

    def subscribe(
        self,
        name: str,
        *types: str | type[DomainEvent],
        from_: From = "now",
        durable: bool = True,
    ) -> Subscription[Any]:
        """The events of one subscriber, which has a position of its own.

        ``with storage.subscribe("scanner", CandlesImported) as events``, and then
        ``for event in events``.

        :param types: of the events that it hears; all if there are none. Where all are given as
            classes, type checkers know the events by them.
        :param from_: where a new subscription begins: with commits from ``"now"`` on, or with what
            is ``"stored"`` and waits for handlers.
        :param durable: whether it keeps its events while nobody consumes it.
        :raises InvalidData: naming what is no name, type or beginning.
        """
        twin = self._storage.subscribe(name, *types, from_=from_, durable=durable)
        return Subscription(self._portal, twin)

    def unsubscribe(self, name: str) -> bool:
        """Forget a durable subscription with its waiting events; False if there was none.

        :raises InUse: it has a consumer.
        """
        return self._portal.call(self._storage.unsubscribe(name))

    def subscriptions(self) -> Sequence[SubscriptionState]:
        """Those there are, by name, with how many events wait, and for how long."""
        return self._portal.call(self._storage.subscriptions())

    def unit_of_work(self, *, source: str = "", id: str | None = None) -> UnitOfWork:
        """A new unit of work, to be used once: ``with storage.unit_of_work() as uow``.

        :param source: who writes: a job or a service. The history of what it changes names it.
        :param id: as asynchronously: one that `new_unit_id` made, for `outcome`.
        :raises InvalidData: it is no such id, or is older than outcomes are kept.
        """
        return UnitOfWork(self._portal, self._storage.unit_of_work(source=source, id=id))

    def outcome(self, id: str) -> Outcome:
        """What became of the unit of work that was given this id; the answer is final.

        One that is not committed by now is given up, and can never be committed.

        :raises InvalidData: it is no such id, or is older than outcomes are kept, a week.
        """
        return self._portal.call(self._storage.outcome(id))

    def run(self, work: Callable[[UnitOfWork], T], *, attempts: int = 10, source: str = "") -> T:
        """What `work` returns, called in a unit of work that is then committed.

        It is called again, in a new one, when somebody else changed the same thing first or the
        servers changed roles: it should therefore do nothing but use the unit of work.

        :param source: as for `unit_of_work`.
        :raises Conflict: also at the last of so many attempts.
        """
        from tenacity import Retrying

        if inspect.iscoroutinefunction(work):
            raise InvalidData(
                "must be a plain function", field="work", value=work, remedy=_USE_ASYNC
            )
        outcome: T = Retrying(**retry_policy(attempts))(self._run_once, work, source)
        return outcome

    def _run_once(self, work: Callable[[UnitOfWork], T], source: str) -> T:
        with self.unit_of_work(source=source) as uow:
            outcome = work(uow)
            uow.commit()
            return outcome

    def ingest(self, *, every: float = 1.0, rows: int = 10_000, limit: int = 100_000) -> LiveIngest:
        """A writer of single candles as they come in: ``with storage.ingest() as ingest``.

        It commits what was added once the oldest has waited `every` seconds, or once `rows` wait.

        :param limit: of how many candles that are not stored there are; `add` waits then.
        :raises InvalidData: `every` or `rows` is not above 0, or `limit` is below `rows`.
        """
        twin = self._storage.ingest(every=every, rows=rows, limit=limit)
        return LiveIngest(self._portal, twin)

    def health(self) -> Health:
        """Whether each store answers, by its name, and what the journal holds.

        It answers within half a second, also when a store hangs, and never raises.
        """
        return self._portal.call(self._storage.health())

    def cache_statistics(self) -> CacheStatistics | None:
        """What the cache has done since it was opened; None where none is turned on."""
        return self._storage.cache_statistics()

    def metrics(self) -> str:
        """All metrics of the calls and the stores now, in Prometheus' text format."""
        return self._portal.call(self._storage.metrics())

    def diagnose(self) -> Diagnosis:
        """What runs, waits and failed last, without secrets: ``.text`` is a page for a ticket."""
        return self._portal.call(self._storage.diagnose())

    def recover(self) -> int:
        """Finish the commits that a crash left decided but unfinished; how many there were."""
        return self._portal.call(self._storage.recover())

    def open_stores(self) -> None:
        """Open the stores; what entering the context manager does."""
        with self._opening:
            if self._is_open:
                return
            self._portal.start()
            try:
                self._portal.call(self._storage.open_stores())
            except BaseException:
                self._portal.stop()
                raise
            self._is_open = True

    def close(self) -> None:
        """Close the stores, once the commits that have begun are done.

        Harmless when they are closed already.
        """
        with self._opening:
            if self._is_open:
                self._is_open = False
                try:
                    self._portal.call(self._storage.close())
                finally:
                    self._portal.stop()

    def __enter__(self) -> Self:
        self.open_stores()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
