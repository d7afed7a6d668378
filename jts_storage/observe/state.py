"""A look at the stores themselves: what they answer, hold and wait for."""

from __future__ import annotations

import asyncio
import logging
from asyncio import get_running_loop
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Final, Protocol

from jts_storage._runtime.pools import PoolStatus
from jts_storage._runtime.tasks import stopped
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.freshness import late_ms
from jts_storage.errors import StorageError
from jts_storage.observe import catalogue, disks
from jts_storage.observe.catalogue import Sample
from jts_storage.observe.disks import ServerDisks, reached
from jts_storage.observe.watched import Watched

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.ports.health import Health

_GRACE: Final = 0.25
"""Seconds that a look may need to notice that its time is over."""

_TIMEFRAMES: Final = frozenset(each.value for each in Timeframe)

log = logging.getLogger(__name__)


Backups = Callable[[], Sequence[datetime | None]]


class Runs(Protocol):
    """What came of the backups of this process: `jts_storage.backup.BackupRuns`."""

    @property
    def has_failed(self) -> bool | None: ...
    @property
    def verified_at(self) -> datetime | None: ...


class StorageState:
    """What can be read of the stores of an open storage, as samples of metrics.

    Use it within the event loop of the storage.

    :param within: seconds that a look may take; what does not answer until then is as it was.
    :param every: seconds between looks at what takes long: the newest candles, parts of tables.
    :param backups: gives when each backup of a repository was cut; None of one that is damaged.
    :param backup_runs: what came of the backups that this process makes.
    """

    def __init__(
        self,
        storage: Watched,
        *,
        within: float = 1.0,
        every: float = 60.0,
        backups: Backups | None = None,
        backup_runs: Runs | None = None,
    ) -> None:
        self._storage, self._within, self._every = storage, within, every
        self._backups, self._runs = backups, backup_runs
        self._disks = ServerDisks(storage)
        self._quick: Sequence[Sample] = ()
        self._slow: Sequence[Sample] = ()
        self._slow_at: float | None = None
        self._unknown: set[str] = set()
        self._reading: asyncio.Task[bool] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def read(self) -> list[Sample]:
        """What is known now; it never raises, and takes no longer than it may.

        However many ask at once, the stores are looked at once.
        """
        begun = perf_counter()
        reading = self._reading
        if reading is None or reading.done() or reading.get_loop() is not get_running_loop():
            reading = self._reading = asyncio.create_task(self._look())
        # What is asked may not even notice that it is cancelled.
        await asyncio.wait([reading], timeout=self._within + _GRACE)
        is_fresh = reading.done() and not reading.cancelled() and reading.result()
        return [
            *self._quick,
            *self._slow,
            *_of_runs(self._runs),
            Sample(catalogue.STATE_SECONDS, perf_counter() - begun),
            Sample(catalogue.STATE_IS_FRESH, is_fresh),
        ]

    async def _look(self) -> bool:
        """Whether the stores could be looked at."""
        try:
            async with asyncio.timeout(self._within):
                self._quick = await self._looked_quickly()
                await self._looked_slowly()
        except TimeoutError:
            log.warning("The stores did not answer within %s s; old figures stand.", self._within)
        except StorageError as exc:
            log.warning("The stores cannot be looked at; old figures stand: %s", exc)
        except Exception:
            # Who watches is told that something is wrong, whatever it is.
            log.exception("The stores cannot be looked at; old figures stand.")
        else:
            return True
        return False

    async def close(self) -> None:
        """End what still looks."""
        for each in (self._reading, self._looking):
            if each is not None:
                await stopped(each)

    async def _looked_quickly(self) -> list[Sample]:
        health = await self._storage.health()
        return [
            *_of_health(health),
            *_of_redis(health),
            *_of_pools(self._storage),
            *_of_held_ranges(self._storage),
            *_of_process(self._storage),
        ]

    async def _looked_slowly(self) -> None:
        """Begin to look if it is time, and wait for it as long as the caller may."""
        if self._looking is None or self._looking.done():
            if self._slow_at is not None and monotonic() - self._slow_at < self._every:
                return
            self._slow_at = monotonic()
            self._looking = asyncio.create_task(self._look_slowly())
        await asyncio.wait([self._looking], timeout=self._within / 2)

    async def _looked_at_backups(self) -> list[Sample]:
        if self._backups is None:
            return []
        try:
            return await asyncio.to_thread(_of_backups, self._backups)
        except (StorageError, OSError) as exc:
            log.warning("The repository of backups cannot be looked at: %s", exc)
            return [Sample(catalogue.BACKUPS_READABLE, 0)]

    async def _look_slowly(self) -> None:
        backups, _ = await asyncio.gather(self._looked_at_backups(), self._disks.look())
        kept = [*backups, *self._disks.samples]
        self._slow = [*kept, *(each for each in self._slow if each.metric not in _KEPT)]
        clickhouse = reached(lambda: self._storage.clickhouse)
        if clickhouse is None:
            return
        try:
            tables, newest, pending = await asyncio.gather(
                clickhouse.run(_of_tables, clickhouse),
                clickhouse.run(_newest, clickhouse),
                _of_migrations(self._storage),
            )
        except StorageError as exc:
            log.warning("The tables of ClickHouse cannot be looked at: %s", exc)
        except Exception:
            log.exception("The tables of ClickHouse cannot be looked at.")
        else:
            found = [
                *kept,
                *tables,
                *(
                    Sample(catalogue.NEWEST, ms / 1_000, (exchange, timeframe))
                    for exchange, timeframe, ms in newest
                ),
                *pending,
            ]
            self._slow = found
            # Last: to make the calendar of an exchange may take seconds the first time.
            self._slow = found + await asyncio.to_thread(_lateness, newest, self._unknown)


_KEPT: Final = (
    *(catalogue.BACKUP_AGE, catalogue.BACKUPS_DAMAGED, catalogue.BACKUPS_READABLE),
    catalogue.DISK_FREE,
)
"""What is known though ClickHouse is not reached."""


def _of_health(health: Health) -> Iterator[Sample]:
    for store, answers in health.items():
        yield Sample(catalogue.UP, answers, (store,))
    yield Sample(catalogue.UNREADABLE, health.unreadable_rows, ("clickhouse",))
    yield Sample(catalogue.UNREADABLE, health.unreadable_records, ("database",))
    yield Sample(catalogue.UNREADABLE, health.unreadable_documents, ("mongo",))
    if health.get("clickhouse", False):
        yield Sample(catalogue.BROKEN_PARTS, health.broken_parts)
    if not health.get("mongo", True):
        return  # nobody could count what it holds
    oldest = health.oldest.total_seconds() if health.oldest else 0.0
    oldest_event = health.oldest_event.total_seconds() if health.oldest_event else 0.0
    yield Sample(catalogue.JOURNAL_UNFINISHED, health.unfinished)
    yield Sample(catalogue.JOURNAL_OLDEST, oldest)
    yield Sample(catalogue.JOURNAL_DAMAGED, len(health.damaged_commits))
    yield Sample(catalogue.OUTBOX_WAITING, health.waiting_events)
    yield Sample(catalogue.OUTBOX_OLDEST, oldest_event)
    yield Sample(catalogue.OUTBOX_PARKED, health.parked_events)
    yield Sample(catalogue.SUBSCRIPTIONS_WAITING, health.waiting_for_subscriptions)
    yield Sample(catalogue.SUBSCRIPTIONS_PARKED, health.parked_for_subscriptions)


def _of_redis(health: Health) -> Iterator[Sample]:
    """The cache, and the rate limits that this process uses, wherever they are counted."""
    if (cache := health.cache) is not None:
        yield Sample(catalogue.CACHE_READY, cache.state == "ready")
        yield Sample(catalogue.CACHE_READS, cache.hits, ("hit",))
        yield Sample(catalogue.CACHE_READS, cache.shared_hits, ("shared_hit",))
        yield Sample(catalogue.CACHE_READS, cache.misses, ("miss",))
        yield Sample(catalogue.CACHE_READS, cache.bypassed, ("bypassed",))
        yield Sample(catalogue.CACHE_READS, cache.written_meanwhile, ("written_meanwhile",))
        yield Sample(catalogue.CACHE_REFUSED, cache.stale_refused, ("stale",))
        yield Sample(catalogue.CACHE_REFUSED, cache.too_large, ("too_large",))
        yield Sample(catalogue.CACHE_REFUSED, cache.unusable, ("unusable",))
        yield Sample(catalogue.CACHE_ERRORS, cache.errors)
        yield Sample(catalogue.CACHE_UNANNOUNCED, cache.unannounced_writes)
        yield Sample(catalogue.CACHE_BYTES, cache.held_bytes)
    used: dict[tuple[str, str], float] = {}
    waiting: dict[str, int] = {}
    for state in health.rate_limits:
        waiting[state.name] = waiting.get(state.name, 0) + state.waiting
        for each in state.limits:
            labels = (state.name, str(each.limit))
            used[labels] = max(used.get(labels, 0.0), each.used / each.limit.limit)
    yield from (Sample(catalogue.LIMIT_USED, share, labels) for labels, share in used.items())
    yield from (Sample(catalogue.LIMIT_WAITING, n, (name,)) for name, n in waiting.items())


def _of_pools(storage: Watched) -> Iterator[Sample]:
    pools: dict[str, Callable[[], PoolStatus]] = {
        "clickhouse": lambda: storage.clickhouse.pool_status(),
        "mongo": lambda: storage.mongo.pool_status(),
        "database": lambda: storage.database.pool.status,
    }
    for store, look in pools.items():
        pool = reached(look)  # SQL has none before the first question
        if pool is not None:
            yield Sample(catalogue.POOL_CAPACITY, pool.capacity, (store,))
            yield Sample(catalogue.POOL_OPEN, pool.open, (store,))
            yield Sample(catalogue.POOL_IN_USE, pool.in_use, (store,))
            yield Sample(catalogue.POOL_WAITING, pool.waiting, (store,))
            yield Sample(catalogue.POOL_TIMEOUTS, pool.timeouts, (store,))


def _of_held_ranges(storage: Watched) -> Iterator[Sample]:
    clickhouse = reached(lambda: storage.clickhouse)
    if clickhouse is not None:
        from jts_storage.clickhouse.cache import held_by

        held = held_by(clickhouse)
        yield Sample(catalogue.HELD_RANGES, held.ranges)
        yield Sample(catalogue.HELD_BYTES, held.bytes)


def _of_process(storage: Watched) -> Iterator[Sample]:
    from jts_storage.observe.process import process_figures

    figures = process_figures()
    if figures is not None:
        yield Sample(catalogue.PROCESS_CPU, figures.processors)
        yield Sample(catalogue.PROCESS_MEMORY, figures.memory_bytes)
    yield from disks.of_files(storage)


def _of_tables(manager: ClickHouseManager) -> list[Sample]:
    from jts_storage.clickhouse.usage import usage

    found = usage(manager)
    samples = [
        Sample(catalogue.MERGES, found.merges),
        Sample(catalogue.MUTATIONS, found.mutations),
    ]
    for each in found.tables:
        samples += [
            Sample(catalogue.PARTS, each.parts, (each.table,)),
            Sample(catalogue.TABLE_ROWS, each.rows, (each.table,)),
            Sample(catalogue.TABLE_BYTES, each.bytes, (each.table,)),
        ]
    return samples


def _newest(manager: ClickHouseManager) -> list[tuple[str, str, int]]:
    from jts_storage.clickhouse.tables import build
    from jts_storage.clickhouse.usage import newest

    return newest(manager, build(manager.config.cluster).candles)


def _lateness(newest: Iterable[tuple[str, str, int]], told: set[str]) -> list[Sample]:
    """
    :param told: the exchanges of which it was told that nobody knows; others are added.
    """
    now, samples = int(time() * 1_000), []
    for exchange, timeframe, ms in newest:
        if timeframe not in _TIMEFRAMES:
            continue  # written by another program; of what it means nothing is known
        try:
            late = late_ms(ms, now, Timeframe(timeframe), exchange)
        except Exception as exc:  # noqa: BLE001 - of one exchange; those of the others are known
            if exchange not in told:
                log.warning("How late candles of %s are is not known: %s", exchange, exc)
            told.add(exchange)
            continue
        if late is not None:
            samples.append(Sample(catalogue.LATE, late / 1_000, (exchange, timeframe)))
    return samples


def _of_backups(backups: Backups) -> list[Sample]:
    cuts = backups()
    readable = [each for each in cuts if each is not None]
    samples = [
        Sample(catalogue.BACKUPS_DAMAGED, len(cuts) - len(readable)),
        Sample(catalogue.BACKUPS_READABLE, len(readable)),
    ]
    if readable:
        age = datetime.now(UTC) - max(readable)
        samples.append(Sample(catalogue.BACKUP_AGE, age.total_seconds()))
    return samples


def _of_runs(runs: Runs | None) -> Iterator[Sample]:
    if runs is not None and runs.has_failed is not None:
        yield Sample(catalogue.BACKUP_FAILED, runs.has_failed)
    if runs is not None and runs.verified_at is not None:
        age = datetime.now(UTC) - runs.verified_at
        yield Sample(catalogue.BACKUP_VERIFIED_AGE, age.total_seconds())


async def _of_migrations(storage: Watched) -> list[Sample]:
    from jts_storage.migrate.files import KNOWN_AS
    from jts_storage.migrate.runner import Databases, status

    databases = Databases(storage.clickhouse, storage.mongo, storage.database)
    pending = [line.store for line in await status(databases) if line.state == "pending"]
    return [
        Sample(catalogue.MIGRATIONS_PENDING, pending.count(known), (store,))
        for known, store in KNOWN_AS.items()
    ]
