"""The one object through which a service reaches every store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, get_args, overload

from jts_storage.domain import checks
from jts_storage.domain.cache_statistics import CacheStatistics
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.outcomes import Outcome, unit_id
from jts_storage.domain.subscriptions import From, SubscriptionState
from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.ports.events import EventPublisher, Subscription
from jts_storage.ports.health import Health
from jts_storage.ports.ingest import LiveIngest
from jts_storage.ports.models import Model
from jts_storage.ports.observation import Observation, Observer
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.readable import Backend, ReadableStorage
from jts_storage.unit_of_work.repeating import retry_policy
from jts_storage.usecases.storage_limits import StorageLimits

if TYPE_CHECKING:
    from jts_storage.cache.backend import Cache
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.domain.rate_limits import RateLimits
    from jts_storage.mongo.manager import MongoDBManager
    from jts_storage.observe.diagnosis import Diagnosis
    from jts_storage.ports.rate_limits import RateLimiter
    from jts_storage.relational.manager import DatabaseManager
    from jts_storage.settings import StorageSettings
    from jts_storage.unit_of_work.participants import Stores
    from jts_storage.usecases.rate_limits import SharedRateLimiter

E = TypeVar("E", bound=DomainEvent)
F = TypeVar("F", bound=DomainEvent)
T = TypeVar("T")
LimitsOf: TypeAlias = Callable[["Storage"], "SharedRateLimiter"]
SchemaCheck: TypeAlias = Literal["error", "warn", "off"]


def _limits(settings: StorageSettings | None, storage: Storage) -> SharedRateLimiter:
    from jts_storage.limiting import limiter_of
    from jts_storage.usecases.rate_limit_mirror import CheckpointMirror

    return limiter_of(settings, CheckpointMirror(storage))


class Storage(ReadableStorage):
    """Candles, symbols, formulas, strategies, backtests and bookkeeping in one place.

    Use it as an asynchronous context manager, within one event loop. Its attributes read what is
    committed; writes go through `unit_of_work`.
    """

    def __init__(self, backend: Backend, *, limits: LimitsOf | None = None) -> None:
        """:param limits: makes its rate limits, once they are asked for."""
        if not hasattr(backend, "unit_of_work"):
            raise InvalidConfiguration(
                f"Storage is given a {type(backend).__name__}",
                remedy="Storage.open(settings) or Storage.in_memory() makes one.",
            )
        self._backend = backend
        settings = getattr(backend, "settings", None)
        self._limits = StorageLimits(partial(limits or partial(_limits, settings), self))
        self._is_open = False
        self._opening = asyncio.Lock()

    @classmethod
    def open(
        cls,
        settings: StorageSettings | None = None,
        *,
        check: SchemaCheck | None = None,
        publisher: EventPublisher | None = None,
        models: Iterable[Model[Any]] = (),
        observer: Observer | None = None,
    ) -> Self:
        """A storage over the stores that `settings` name, or else ``JTS_*`` variables.

        With a `url` it reaches them through a gateway. Without any of them it is embedded below
        ``.jts`` in the working directory; where another process serves that folder, it goes
        through its socket. It opens when it is entered: ``async with Storage.open() as storage``.

        :param check: compare live schemas with the models while opening, and refuse to open
            (``"error"``, with `SchemaDrift`) or log (``"warn"``); as the settings say if not given.
        :param models: the service's own, beside those that installed packages name.
        :param observer: hears of every call: `jts_storage.observe` has some.
        :raises InvalidConfiguration: naming the setting at fault.
        """
        # Not at the top: to import the package must load no driver.
        from jts_storage.settings import StorageSettings

        if not isinstance(settings, StorageSettings | None):
            raise InvalidConfiguration(
                f"Storage.open is given a {type(settings).__name__}",
                remedy="Give it StorageSettings(clickhouse_url=..., ...), or nothing.",
            )
        settings = settings or StorageSettings.load()
        if check is not None:
            if check not in get_args(SchemaCheck):
                raise InvalidConfiguration(
                    f"check is {check!r}", remedy='Say "error", "warn" or "off".'
                )
            settings = settings.model_copy(update={"check": check})
        from jts_storage.sharing.choice import backend_of

        store = None if settings.url is None else "gateway"
        publisher = _told(publisher, observer, store)
        backend = backend_of(settings, publisher=publisher, models=models)
        return cls(_observed(backend, observer, store), limits=partial(_limits, settings))

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
        from jts_storage.domain.rate_limits import RateLimits
        from jts_storage.memory.backend import InMemoryBackend
        from jts_storage.memory.rate_limits import InMemoryRateLimits
        from jts_storage.usecases.rate_limits import SharedRateLimiter

        limits = rate_limits or RateLimits()
        publisher = _told(publisher, observer, "memory")
        return cls(
            _observed(InMemoryBackend(publisher, models), observer, "memory"),
            limits=lambda _: SharedRateLimiter(limits, InMemoryRateLimits()),
        )

    @property
    def rate_limits(self) -> RateLimiter:
        """Slots of the limits that are set: ``async with storage.rate_limits.acquire("kis")``.

        :raises InvalidConfiguration: they have no place to be counted in.
        """
        self._check_open()
        return self._limits.get()

    @property
    def clickhouse(self) -> ClickHouseManager:
        """ClickHouse itself, for what the repositories do not offer.

        :raises StorageError: the storage is in memory, or its stores are another process's; so do
            `mongo` and `database`.
        """
        return self._stores.clickhouse

    @property
    def mongo(self) -> MongoDBManager:
        """MongoDB itself; the manager belongs to the event loop of the storage."""
        return self._stores.mongo

    @property
    def database(self) -> DatabaseManager:
        """The SQL database itself; the manager belongs to the event loop of the storage."""
        return self._stores.database

    @property
    def events(self) -> EventPublisher:
        """Where handlers of domain events are registered."""
        return self._backend.publisher

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

        ``async with storage.subscribe("scanner", CandlesImported) as events``, and then
        ``async for event in events``.

        :param types: of the events that it hears; all if there are none. Where all are given as
            classes, type checkers know the events by them.
        :param from_: where a new subscription begins: with commits from ``"now"`` on, or with what
            is ``"stored"`` and waits for handlers.
        :param durable: whether it keeps its events while nobody consumes it. One that does not
            lives as long as the block, and several may have one name.
        :raises InvalidData: naming what is no name, type or beginning.
        """
        return self._opened.subscriptions.subscribe(name, *types, from_=from_, durable=durable)

    async def unsubscribe(self, name: str) -> bool:
        """Forget a durable subscription with its waiting events; False if there was none.

        :raises InUse: it has a consumer.
        """
        return await self._opened.subscriptions.unsubscribe(name)

    async def subscriptions(self) -> Sequence[SubscriptionState]:
        """Those there are, by name, with how many events wait, and for how long."""
        return await self._opened.subscriptions.list()

    def unit_of_work(self, *, source: str = "", id: str | None = None) -> UnitOfWork:
        """A new unit of work, to be used once: ``async with storage.unit_of_work() as uow``.

        :param source: who writes: a job or a service. The history of what it changes names it.
        :param id: one that `new_unit_id` made, so that `outcome` can tell what became of it. A
            second one with the id of one that is committed stores nothing, and its `commit`
            returns what that of the first did.
        :raises InvalidData: it is no such id, or is older than outcomes are kept.
        """
        known = None if id is None else unit_id(id, "id")
        return self._opened.unit_of_work(checks.text(source, "source"), known)

    async def outcome(self, id: str) -> Outcome:
        """What became of the unit of work that was given this id; the answer is final.

        One that is not committed by now is given up, and can never be committed: wait for a
        `commit` that is under way, rather than ask.

        :raises InvalidData: it is no such id, or is older than outcomes are kept, a week.
        """
        return await self._opened.outcome(unit_id(id, "id"))

    async def run(
        self,
        work: Callable[[UnitOfWork], Awaitable[T]],
        *,
        attempts: int = 10,
        source: str = "",
    ) -> T:
        """Call `work` in a unit of work, commit it, and return what `work` returned.

        It is called again, in a new one, when somebody else changed the same thing first or the
        servers changed roles: it should therefore do nothing but use the unit of work.

        :param source: as for `unit_of_work`.
        :raises Conflict: also at the last of so many attempts.
        """
        from tenacity import AsyncRetrying

        return await AsyncRetrying(**retry_policy(attempts))(self._run_once, work, source)

    def ingest(self, *, every: float = 1.0, rows: int = 10_000, limit: int = 100_000) -> LiveIngest:
        """A writer of single candles as they come in: ``async with storage.ingest() as ingest``.

        It commits what was added once the oldest has waited `every` seconds, or once `rows` wait.

        :param limit: of how many candles that are not stored there are; `add` waits then.
        :raises InvalidData: `every` or `rows` is not above 0, or `limit` is below `rows`.
        :raises StorageError: the storage is not open.
        """
        self._check_open()
        from jts_storage.usecases.ingest import Ingest

        return Ingest(self.run, every=every, rows=rows, limit=limit, check_storage=self._check_open)

    @property
    def observation(self) -> Observation | None:
        """For use cases, which tell of themselves; None where the storage has no observer."""
        return getattr(self._backend, "observation", None)

    async def health(self) -> Health:
        """Return whether each store answers, by its name, and what the journal holds.

        It answers within half a second, also when a store hangs, and never raises.
        """
        return await self._limits.with_health(self._opened.health())

    def cache_statistics(self) -> CacheStatistics | None:
        """What the cache has done since it was opened; None where none is turned on."""
        cache: Cache | None = getattr(self._opened, "cache", None)
        return None if cache is None else cache.statistics()

    async def metrics(self) -> str:
        """All metrics of the calls and the stores now, in Prometheus' text format.

        :raises InvalidConfiguration: the extra ``metrics`` is not installed.
        """
        from jts_storage.observe import watching

        return await watching.text_of(self, getattr(self._opened, "observer", None))

    async def diagnose(self) -> Diagnosis:
        """What runs, waits and failed last, without secrets: ``.text`` is a page for a ticket."""
        from jts_storage.observe import watching

        return await watching.diagnosis_of(self, getattr(self._opened, "observer", None))

    async def recover(self) -> int:
        """Finish the commits that a crash left decided but unfinished; how many there were."""
        return await self._opened.recover()

    async def open_stores(self) -> None:
        """Open the stores; what entering the context manager does."""
        async with self._opening:
            if not self._is_open:
                await self._backend.open()
                self._is_open = True

    async def close(self) -> None:
        """Close the stores, once the commits that have begun are done.

        Harmless when they are closed already.
        """
        async with self._opening:
            if self._is_open:
                # First: a call that comes now is refused, and meets no stores that are half closed.
                self._is_open = False
                try:
                    await self._limits.close()
                finally:
                    await self._backend.close()

    async def __aenter__(self) -> Self:
        await self.open_stores()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def _opened(self) -> Backend:
        self._check_open()
        return self._backend

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageError(
                "This storage is not open.",
                remedy="Use it within `async with storage`, a blocking one within `with storage`.",
            )

    @property
    def _stores(self) -> Stores:
        stores: Stores | None = getattr(self._opened, "stores", None)
        if stores is None:
            raise StorageError(
                "A storage in memory has no databases behind it.", remedy="Use Storage.open()."
            )
        return stores

    async def _run_once(self, work: Callable[[UnitOfWork], Awaitable[T]], source: str) -> T:
        async with self.unit_of_work(source=source) as uow:
            outcome = await work(uow)
            await uow.commit()
        return outcome


def _observed(backend: Backend, observer: Observer | None, store: str | None) -> Backend:
    if observer is None:
        return backend
    from jts_storage.observe.backend import ObservedBackend

    return ObservedBackend(backend, observer, store)


def _told(
    publisher: EventPublisher | None, observer: Observer | None, store: str | None
) -> EventPublisher | None:
    """A publisher whose deliveries are told."""
    if observer is None:
        return publisher
    from jts_storage.observe.proxies import Observation
    from jts_storage.unit_of_work.publisher import InMemoryEventPublisher

    return Observation(observer, store).of(publisher or InMemoryEventPublisher(), "events")
