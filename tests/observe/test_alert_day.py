"""Each alert fires once for real and is over once: through Prometheus and Alertmanager, as shipped.

What is wrong goes on side by side, each thing until it is told, so the day takes as long as what
lasts longest: a migration that is pending for ten minutes. `test_fault_day` has stores that are
down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from jts_storage import (
    Candle,
    Conflict,
    DomainEvent,
    SeriesKey,
    Storage,
    StorageError,
    StorageSettings,
    Timeframe,
)
from jts_storage._runtime.processes import this_process
from jts_storage._runtime.tasks import stopped
from jts_storage.backup import BackupManager, BackupRepository, BackupRuns, backups_of
from jts_storage.migrate import runner
from jts_storage.observe import ALERTS, Exposition, Metrics, MetricsServer, exposition
from jts_storage.observe.state import StorageState
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.outbox import Outbox
from tests.observe.prometheus import Stack, running
from tests.observe.test_real_prometheus import seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]
_LONGEST: Final = 900.0
"""Seconds until something that happens is surely told."""

_WITHIN: Final = 6.0
_DEAD: Final = f"{this_process().rsplit('/', 1)[0]}/0"
UPBIT: Final = SeriesKey("BTC/KRW", Timeframe.M1, "UPBIT")
ELSEWHERE: Final = {
    "StoreDown": "test_fault_day",
    "DiskLow": "test_full_server",
}
"""Alerts that other tests see for real."""


class Late(DomainEvent):
    """Waits for a handler that comes too late."""


class Refused(DomainEvent):
    """Whose handler fails."""


class Died(BaseException):
    """The process died here."""


@dataclass
class Kept:
    """What is said of backups: the age of those there are is set."""

    repository: BackupRepository
    is_there: bool = False
    set_back: timedelta = timedelta()

    def __call__(self) -> list[datetime | None]:
        found = backups_of(self.repository)() if self.is_there else []
        return [None if each is None else each - self.set_back for each in found]


@dataclass
class Day:
    """A storage at work, and what was told of it."""

    storage: Storage
    metrics: Metrics
    backups: Kept
    runs: BackupRuns
    stack: Stack
    took: dict[str, list[float]] = field(default_factory=dict)
    is_whole: asyncio.Event = field(default_factory=asyncio.Event)

    async def is_told(self, alert: str, state: str) -> None:
        begun = time.monotonic()
        told = await seen(lambda: self.stack.told.last(alert) == state, _LONGEST)
        assert told, f"{alert} is not {state}: {self.stack.told.of(alert)}"
        self.took.setdefault(alert, []).append(round(time.monotonic() - begun, 1))
        print(f"{datetime.now(UTC):%H:%M:%S} {alert}: {state} after {self.took[alert][-1]} s")

    async def fires(self, alert: str) -> None:
        await self.is_told(alert, "firing")

    async def is_over(self, alert: str) -> None:
        await self.is_told(alert, "resolved")


# ---- what is wrong: each fault is there until it is told, and mended then


async def left(storage: Storage, name: str) -> Any:
    """The journal's entry of a commit that was decided, of a process that is gone since."""

    def die(point: str) -> None:
        if point == "decided":
            raise Died

    before, commit_points.reached = commit_points.reached, die
    try:
        with pytest.raises(Died):
            async with storage.unit_of_work() as uow:
                await uow.formulas.save(make_formula(name))
                await uow.ingestion.checkpoints.save(name, {"at": 1})
                await uow.commit()
    finally:
        commit_points.reached = before
    journal._in_hand.clear()
    entries = storage.mongo.db[ENTRIES]
    entry = await entries.find_one({"owner": {"$ne": _DEAD}})
    assert entry is not None
    await entries.update_one({"_id": entry["_id"]}, {"$set": {"owner": _DEAD}})
    return entry


async def old_entry(day: Day) -> None:
    await day.fires("JournalEntryOld")
    await day.is_whole.wait()
    assert await day.storage.recover() == 2
    await day.is_over("JournalEntryOld")


async def damaged_commit(day: Day, entry: Any) -> None:
    entries = day.storage.mongo.db[ENTRIES]
    await entries.update_one({"_id": entry["_id"]}, {"$set": {"chunks": "torn"}})
    await day.fires("CommitDamaged")
    await entries.update_one({"_id": entry["_id"]}, {"$set": {"chunks": entry["chunks"]}})
    day.is_whole.set()
    await day.is_over("CommitDamaged")


async def added(storage: Storage, event: DomainEvent) -> None:
    async with storage.unit_of_work() as uow:
        uow.events.add(event)
        await uow.commit()


async def late_event(day: Day) -> None:
    await added(day.storage, Late())
    await day.fires("OutboxLate")
    day.storage.events.register_handler(Late, lambda _: None)
    await delivered(day.storage)
    await day.is_over("OutboxLate")


async def refused_event(day: Day) -> None:
    refuses = True

    def handler(_: DomainEvent) -> None:
        if refuses:
            raise RuntimeError("a handler that fails")

    day.storage.events.register_handler(Refused, handler)
    await added(day.storage, Refused())
    await day.fires("EventsParked")
    refuses = False
    assert await Outbox(day.storage.mongo).retry() == 1
    await delivered(day.storage)
    await day.is_over("EventsParked")


async def delivered(storage: Storage) -> None:
    """As `recover` ends, which would finish what is to be old."""
    await storage._stores.delivery.deliver()


async def late_candles(day: Day) -> None:
    await stored(day.storage, -timedelta(minutes=10))
    await day.fires("CandlesLate")
    await stored(day.storage, timedelta(hours=2))
    await day.is_over("CandlesLate")


async def stored(storage: Storage, since: timedelta) -> None:
    """A candle of a market that never closes, so long after now."""
    at = (datetime.now(UTC) + since).replace(second=0, microsecond=0)
    price = make_candles(UPBIT, 1)[0].close
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(UPBIT, [Candle(at, price, price, price, price, 1)])
        await uow.commit()


async def goes_on(work: Callable[[], Awaitable[object]], until: Awaitable[None]) -> None:
    async def again_and_again() -> None:
        while True:
            await work()

    task = asyncio.create_task(again_and_again())
    try:
        await until
    finally:
        await stopped(task)


async def exhausted_pool(day: Day) -> None:
    checkpoints = day.storage.ingestion.checkpoints

    async def many() -> None:
        await asyncio.gather(*(checkpoints.list(limit=1) for _ in range(30)))
        await asyncio.sleep(1)

    await goes_on(many, day.fires("PoolExhausted"))
    await day.is_over("PoolExhausted")


async def conflict_storm(day: Day) -> None:
    """In memory: as many conflicts a second as no server gives on a machine that is busy."""
    async with Storage.in_memory(observer=day.metrics) as storage:
        async with storage.unit_of_work() as uow:
            identity = (await uow.formulas.save(make_formula())).id or ""
            await uow.commit()

        async def one() -> None:
            await asyncio.sleep(0.03)
            async with storage.unit_of_work() as first, storage.unit_of_work() as second:
                for uow in (first, second):
                    formula = await uow.formulas.get_by_id(identity)
                    assert formula is not None
                    await uow.formulas.save(replace(formula, name=f"by {id(uow)}"))
                await first.commit()
                with suppress(Conflict):
                    await second.commit()

        await goes_on(one, day.fires("ConflictStorm"))
        await day.is_over("ConflictStorm")


async def parts(day: Day) -> None:
    """A table of many partitions, whose parts never merge, and then a part that is damaged."""
    manager = day.storage.clickhouse
    await manager.run(
        manager.execute,
        "CREATE TABLE noise (n UInt64) ENGINE = MergeTree PARTITION BY n ORDER BY n",
    )
    await manager.run(
        manager.execute,
        "INSERT INTO noise SELECT number FROM numbers(310)"
        " SETTINGS max_partitions_per_insert_block = 0",
    )
    select = "SELECT data_paths[1] FROM system.tables WHERE name = 'noise'"
    folder = Path((await manager.run(manager.execute, select))[0][0])
    damaged = folder / "detached" / "broken_400_1_1_0"
    damaged.mkdir()
    await day.fires("PartsBroken")
    damaged.rmdir()
    await day.is_over("PartsBroken")
    await day.fires("PartsGrowing")
    await manager.run(manager.execute, "DROP TABLE noise SYNC")
    await day.is_over("PartsGrowing")


async def backups(day: Day) -> None:
    await day.fires("BackupMissing")
    day.backups.set_back, day.backups.is_there = timedelta(hours=27), True
    await day.is_over("BackupMissing")
    await day.fires("BackupOld")
    day.backups.set_back = timedelta()
    await day.is_over("BackupOld")
    (manifest,) = day.backups.repository.folder.rglob("*.manifest")
    whole = manifest.read_bytes()
    manifest.chmod(0o600)
    manifest.write_bytes(whole[: len(whole) // 2])
    await day.fires("BackupDamaged")
    manifest.write_bytes(whole)
    await day.is_over("BackupDamaged")


async def backup_runs(day: Day) -> None:
    day.runs(StorageError("The repository is full."))
    day.runs.verified_at = datetime.now(UTC) - timedelta(days=9)
    await asyncio.gather(day.fires("BackupFailed"), day.fires("BackupUnproven"))
    day.runs.has_failed, day.runs.verified_at = False, datetime.now(UTC)
    await asyncio.gather(day.is_over("BackupFailed"), day.is_over("BackupUnproven"))


async def pending_migration(day: Day) -> None:
    mongo = runner.Databases(mongo=day.storage.mongo)
    latest = [line.revision for line in await runner.status(mongo)][-2:]
    await runner.stamp(mongo, latest[0])
    await day.fires("MigrationPending")
    assert [step.migration.revision for step in await runner.up(mongo)] == [latest[1]]
    await day.is_over("MigrationPending")


# ---- the day


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Stops a process, and lets it go on at the end, whatever has come of the test."""
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    monkeypatch.setattr(exposition, "_SECONDS_A_REQUEST", 5 * _WITHIN)
    yield stop
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def begun(folder: Path) -> AsyncIterator[tuple[Day, MetricsServer]]:
    metrics, runs = Metrics(), BackupRuns()
    settings = StorageSettings(
        data_dir=folder / "jts",
        env_file=None,
        # Longer than a look may take: of a store that hangs nobody knows whether it answers.
        health_timeout=10 * _WITHIN,
        database={"pool_size": 1},
    )
    async with Storage.open(settings, observer=metrics) as storage:
        repository = BackupRepository(folder / "backups")
        await BackupManager(storage, repository).create_backup(verify=False)
        kept = Kept(repository)
        state = StorageState(storage, within=_WITHIN, every=5, backups=kept, backup_runs=runs)
        server = await metrics_server(storage, metrics, state, 0)
        with running(folder, f"127.0.0.1:{server.port}", every=10) as stack:
            yield Day(storage, metrics, kept, runs, stack), server


async def metrics_server(
    storage: Storage, metrics: Metrics, state: StorageState, port: int
) -> MetricsServer:
    async def health() -> tuple[bool, dict[str, bool]]:
        return True, {}

    return await MetricsServer(Exposition(storage, metrics, state=state), health).start(
        "127.0.0.1", port
    )


async def test_each_alert_is_told_once_and_its_end_once(
    tmp_path: Path, engine_used: Callable[[str], None], frozen: Callable[[int], None]
) -> None:
    for engine in ("mongod", "chDB", "SQLite", "Prometheus"):
        engine_used(engine)
    async with begun(tmp_path) as (day, server):
        assert await seen(lambda: bool(day.stack.query("jts_storage_up == 1")), _LONGEST)
        await left(day.storage, "old")
        damaged = await left(day.storage, "damaged")
        async with asyncio.TaskGroup() as group:
            group.create_task(damaged_commit(day, damaged))
            for fault in (
                *(old_entry, late_event, refused_event, late_candles, exhausted_pool),
                *(conflict_storm, parts, backups, backup_runs, pending_migration),
            ):
                group.create_task(fault(day))
        mongod: Any = day.storage._backend._backend._mongod  # type: ignore[attr-defined]
        frozen(mongod.pid)
        await day.fires("StateStale")
        os.kill(mongod.pid, signal.SIGCONT)
        await day.is_over("StateStale")
        port = server.port
        await server.stop()
        await day.fires("MetricsMissing")
        state = StorageState(day.storage, within=_WITHIN)
        again = await metrics_server(day.storage, day.metrics, state, port)
        await day.is_over("MetricsMissing")
        await again.stop()
    told = {name: [state for _, state in day.stack.told.of(name)] for name in day.took}
    print(f"Seconds until each fault was told, and its end: {day.took}; told: {told}")
    assert told == {name: ["firing", "resolved"] for name in told}
    shipped = {alert.name for alert in ALERTS} | {"MetricsMissing"}
    assert told.keys() == shipped - ELSEWHERE.keys()
    runbooks = {alert.name: alert.runbook for alert in ALERTS}
    runbooks["MetricsMissing"] = "docs/how-to/on-call.md#metrics-are-missing"
    for _, _, labels, its in day.stack.told.posts:
        assert its["runbook"] == runbooks[labels["alertname"]]
