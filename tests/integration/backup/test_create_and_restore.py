"""What is restored is what was stored, to the last bit, in every store."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings, migrate
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager, BackupRepository, DocumentCollection, NotEmpty, Series
from jts_storage.backup.encryption import new_key
from jts_storage.backup.manager import LEASE
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.scratch import new_name
from jts_storage.backup.stores.mongo import MongoRestore
from jts_storage.domain import checks
from jts_storage.domain.events import DomainEvent, IngestionCompleted
from jts_storage.errors import Conflict, InvalidConfiguration, InvalidData, NotFound, SchemaDrift
from jts_storage.migrate.checks import check
from jts_storage.mongo.leases import Leases
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import ENTRIES
from tests.integration.backup.filled import DAY, KEY, OTHER, fill

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)


def opened(settings: StorageSettings) -> Storage:
    return Storage(StoreBackend(settings))


async def everything(storage: Storage) -> dict[str, Any]:
    """What is in a storage, also what no repository shows: versions, histories, raw documents."""
    found: dict[str, Any] = {}
    for table in ("candles", "candles_history", "symbols"):
        rows = await storage.clickhouse.run(
            storage.clickhouse.execute, f"SELECT * FROM {table} FINAL ORDER BY ALL"
        )
        found[table] = rows
    for name in ("formulas", "formula_history", "strategies", "backtest_results", "snapshots"):
        found[name] = await storage.mongo.get_collection(name).find().sort("_id", 1).to_list()
    found["checkpoints"] = await storage.ingestion.checkpoints.list()
    return found


async def made(settings: StorageSettings, repository: Any) -> tuple[dict[str, Any], Any]:
    """Fill a storage and back it up; what is in it, and the result."""
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        result = await BackupManager(storage, repository).create_backup(note="the first")
        return await everything(storage), result


async def test_everything_comes_back(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    before, result = await made(settings, repository)
    assert (result.status, result.is_verified, result.faults) == ("success", True, ())
    assert before["candles"] and before["candles_history"] and before["strategies"]
    async with opened(empty_settings) as storage:
        manager = BackupManager(storage, repository)
        restored = await manager.restore()
        assert restored.backup_id == result.backup_id
        assert await everything(storage) == before
        files = [p.read_bytes() for p in sorted(empty_settings.lake_root.rglob("*.parquet"))]
        assert files == [p.read_bytes() for p in sorted(settings.lake_root.rglob("*.parquet"))]
        assert files
        await _is_in_use(storage, result.version)
        with pytest.raises(NotEmpty, match="rows in candles"):
            await manager.restore()


async def _is_in_use(storage: Storage, version: int) -> None:
    """A restored storage passes `check`, has a clock ahead of all, and takes commits."""
    stores = storage._stores
    assert await stores.clock.latest() >= version
    assert (await storage.health()).unfinished == 0
    assert not [each for each in await check(_databases(storage)) if not each.is_note]
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(OTHER, make_candles(OTHER, 60, seed=4))
        await uow.formulas.save(make_formula("after it"))
        commit = (await uow.commit()).commit
    assert commit is not None and commit.version > version
    assert await storage.candles.count(OTHER) == 60


def _databases(storage: Storage) -> Any:
    from jts_storage.backup.schema import databases_of

    return databases_of(storage._backend.settings, storage._stores)  # type: ignore[attr-defined]


async def test_a_second_backup_stores_only_what_is_new(
    settings: StorageSettings, repository: Path
) -> None:
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        first = await manager.create_backup(verify=False)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(OTHER, make_candles(OTHER, 10, seed=9))
            await uow.commit()
        second = await manager.create_backup()
        assert second.is_verified
        assert 0 < second.new_objects < first.new_objects
        assert [each.backup_id for each in await manager.list()] == [
            second.backup_id,
            first.backup_id,
        ]


@pytest.mark.slow
async def test_an_encrypted_repository_opens_with_its_key_alone(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    key = new_key()
    before, result = await made(settings, BackupRepository(repository, key=key))
    assert result.is_verified
    names = [b"005930", b"golden cross", b"checkpoint_data"]
    assert not _holding(repository, names)
    for wrong in (None, new_key()):
        with pytest.raises(InvalidConfiguration, match="key"):
            BackupRepository(repository, key=wrong).open()
    async with opened(empty_settings) as storage:
        await BackupManager(storage, BackupRepository(repository, key=key)).restore()
        assert await everything(storage) == before


def _holding(folder: Path, texts: list[bytes]) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(text in path.read_bytes() for text in texts)]


async def test_a_part_is_restored_beside_what_is_stored(
    settings: StorageSettings, repository: Path
) -> None:
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        was = await storage.candles.get_range(KEY, *ALWAYS)
        await manager.create_backup(verify=False)
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(KEY, *ALWAYS)
            await uow.commit()
        beside = OTHER.__class__("COPY", KEY.timeframe)
        await manager.restore(only=Series(key=KEY, into=beside))
        assert (await storage.candles.get_range(beside, *ALWAYS)).same_rows(was)
        await manager.restore(only=Series(key=KEY))
        assert (await storage.candles.get_range(KEY, *ALWAYS)).same_rows(was)
        with pytest.raises(NotEmpty, match="candles in that range"):
            await manager.restore(only=Series(key=KEY))
        # What was then is in no backup: the latest would give something else without a word.
        later = Series(key=KEY, into=beside, at=datetime.now(UTC) + timedelta(seconds=1))
        with pytest.raises(NotFound, match="was made before"):
            await manager.restore(only=later, replace=True)
        with pytest.raises(InvalidData, match="at"):
            Series(key=KEY, at=datetime(2026, 11, 1))
        half = was[100].timestamp
        await manager.restore(only=Series(key=KEY, start=half), replace=True)
        assert (await storage.candles.get_range(KEY, *ALWAYS)).same_rows(was)
        await _collections(storage, manager)


async def _collections(storage: Storage, manager: BackupManager) -> None:
    kept = await storage.mongo.get_collection("strategies").find().to_list()
    await manager.restore(only=DocumentCollection(name="strategies", into="strategies_then"))
    assert await storage.mongo.get_collection("strategies_then").find().to_list() == kept
    with pytest.raises(NotEmpty, match="strategies"):
        await manager.restore(only=DocumentCollection(name="strategies"))
    with pytest.raises(NotFound, match="nothing"):
        await manager.restore(only=DocumentCollection(name="nothing"))


@pytest.mark.slow
async def test_a_series_is_restored_as_it_was_between_two_backups(
    settings: StorageSettings, repository: Path
) -> None:
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        await manager.create_backup(verify=False)
        was = await storage.candles.get_range(KEY, *ALWAYS)
        then = (await _latest(storage)).replace(microsecond=999_999)
        await asyncio.sleep((then - datetime.now(UTC)).total_seconds() + 0.1)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, make_candles(KEY, 200, seed=11))
            await uow.commit()
        await manager.create_backup(verify=False)
        beside = KEY.__class__("THEN", KEY.timeframe)
        await manager.restore(only=Series(key=KEY, into=beside, at=then))
        assert (await storage.candles.get_range(beside, *ALWAYS)).same_rows(was)


async def _latest(storage: Storage) -> datetime:
    from jts_storage.domain.moments import Commit

    return Commit(await storage._stores.clock.latest()).moment


async def test_one_backup_is_made_at_a_time(
    settings: StorageSettings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings) as storage:
        manager = BackupManager(storage, repository)
        async with Leases(storage.mongo).taken(LEASE) as lease:
            assert lease is not None
            with pytest.raises(Conflict, match="Another backup"):
                await manager.create_backup()
        BackupRepository(repository).make()
        with (
            BackupRepository(repository).held(),
            pytest.raises(Conflict, match="Another process is at work"),
        ):
            await manager.create_backup()
        assert (await manager.create_backup(verify=False)).status == "success"
        await _is_held_until_a_cancelled_one_has_ended(manager, monkeypatch)


async def _is_held_until_a_cancelled_one_has_ended(
    manager: BackupManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune meanwhile would not know the objects of what is just becoming a backup."""
    add, begun, goes_on = manager.repository.add, threading.Event(), threading.Event()

    def slow(manifest: Manifest) -> None:
        begun.set()
        assert goes_on.wait(60)
        add(manifest)

    monkeypatch.setattr(manager.repository, "add", slow)
    making = asyncio.create_task(manager.create_backup(verify=False))
    assert await asyncio.to_thread(begun.wait, 60)
    making.cancel()
    await asyncio.sleep(0.05)
    other = BackupRepository(manager.repository.folder)
    with pytest.raises(Conflict), other.held():
        raise AssertionError
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    with other.held():
        assert len(other.ids()) == 2


async def test_a_backup_leaves_the_scratch_stores_of_those_who_verify(
    settings: StorageSettings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a backup would count as failed because another one was made meanwhile."""
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        await manager.create_backup(verify=False)
        differing = MongoRestore.differing

        async def beside(self: MongoRestore, copy: Any) -> list[str]:
            monkeypatch.undo()
            await BackupManager(storage, repository).create_backup(verify=False)
            return await differing(self, copy)

        monkeypatch.setattr(MongoRestore, "differing", beside)
        found = await manager.verify()
        assert found.was_restored and found.faults == ()
        assert await Leases(storage.mongo).held() == set()
        await _is_swept_once_its_holder_is_dead(storage, manager)


async def _is_swept_once_its_holder_is_dead(storage: Storage, manager: BackupManager) -> None:
    name = new_name(storage._stores)
    left = storage.mongo.client[name]["left"]
    await left.insert_one({})
    await manager.create_backup(verify=False)
    assert name not in await storage.mongo.client.list_database_names()


@pytest.mark.slow
async def test_nothing_is_left_of_a_backup_in_the_stores(
    settings: StorageSettings, repository: Path
) -> None:
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        await BackupManager(storage, repository).create_backup()
        databases = await storage.clickhouse.run(storage.clickhouse.execute, "SHOW DATABASES")
        assert not [name for (name,) in databases if name.startswith("jts_backup_")]
        names = await storage.mongo.client.list_database_names()
        assert not [name for name in names if name.startswith("jts_backup_")]
    assert not _left_in(settings)


def _left_in(settings: StorageSettings) -> list[Path]:
    shadow = settings.data_dir / "clickhouse" / "shadow"
    return [*shadow.glob("jts_backup_*"), *settings.lake_root.glob(".backup-*")]


async def test_events_that_waited_are_parked(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    """They may have been told since: to handlers, and to whoever subscribes."""
    async with opened(settings) as storage, storage.subscribe("scanner") as events:
        await _told(storage, "1", "2")
        assert _symbol(await anext(events)) == "1"
        await events.acknowledge()
        # Its consumer holds a lease meanwhile, and nobody consumes where it is restored.
        await BackupManager(storage, repository).create_backup(verify=False)
    async with opened(empty_settings) as storage:
        manager = BackupManager(storage, repository)
        await manager.restore()
        assert await storage._stores.outbox.counts() == (0, 2)
        (state,) = await storage.subscriptions()
        assert (state.name, state.waiting, state.parked) == ("scanner", 0, 1)
        async with storage.subscribe("scanner") as events:
            assert await events.next(within=0.2) is None
            await _told(storage, "3")
            assert _symbol(await anext(events)) == "3"
        assert await storage._stores.deliveries.retry() == 1
        async with storage.subscribe("scanner") as events:
            assert _symbol(await anext(events)) == "2"
        await manager.restore(replace=True, parks_events=False)
        assert await storage._stores.outbox.counts() == (2, 0)
        async with storage.subscribe("scanner") as events:
            assert _symbol(await anext(events)) == "2"


async def _told(storage: Storage, *symbols: str) -> None:
    for symbol in symbols:
        async with storage.unit_of_work() as uow:
            uow.events.add(IngestionCompleted(symbol=symbol, trading_day=DAY, bar_count=1))
            await uow.commit()


def _symbol(event: DomainEvent) -> str:
    assert isinstance(event, IngestionCompleted)
    return event.symbol


async def test_entries_of_the_journal_are_finished_after_a_restore(
    settings: StorageSettings,
    empty_settings: StorageSettings,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The backup of a commit that was decided, and whose process has died before ClickHouse."""
    from tests.integration.unit_of_work.interrupted import abandon

    async with opened(settings) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, make_candles(KEY, 7, seed=1))
            await uow.formulas.save(make_formula("decided"))
            await abandon(storage, monkeypatch, uow)
        assert await storage.candles.count(KEY) == 0
        # As one that a living process on another host holds, and is under way there.
        elsewhere = {"owner": "elsewhere/1/1"}
        later = datetime.now(UTC) + timedelta(hours=1)
        entries = storage.mongo.get_collection(ENTRIES)
        await entries.update_many({}, {"$set": elsewhere | {"leaseUntil": later}})
        (entry,) = await entries.find({}).to_list()
        place = {"id": entry["_id"], "version": entry["version"], "until": later, "eventKeys": []}
        await storage.mongo.get_collection(CLOCK).update_one(
            {}, {"$set": {"running": [elsewhere | place]}}
        )
        await BackupManager(storage, repository).create_backup(verify=False)
        assert await storage.mongo.get_collection(ENTRIES).count_documents({}) == 1
    async with opened(empty_settings) as storage:
        restored = await BackupManager(storage, repository).restore()
        assert restored.recovered == 1
        assert await storage._stores.clock.under_way() == []
        assert await storage.candles.count(KEY) == 7
        assert (await storage.health()).unfinished == 0


@pytest.mark.slow
async def test_a_backup_of_an_earlier_schema_is_brought_up_to_date(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    async with opened(settings) as storage:
        await fill(storage, settings.lake_root)
        before = await storage.candles.get_range(KEY, *ALWAYS)
        only = migrate.Databases(storage.clickhouse)
        await migrate.down(only, to="0007", chain="kit")
        await BackupManager(storage, repository).create_backup(verify=False)
    async with opened(empty_settings) as storage:
        await BackupManager(storage, repository).restore()
        assert (await storage.candles.get_range(KEY, *ALWAYS)).same_rows(before)
        assert not [each for each in await check(_databases(storage)) if not each.is_note]


@pytest.mark.slow
async def test_a_backup_of_a_later_schema_is_refused(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    _, result = await made(settings, repository)
    objects = BackupRepository(repository)
    manifest = objects.manifest(result.backup_id)
    clickhouse = replace(manifest.stores["clickhouse"], revisions={"kit": "9999"})
    stores = {**manifest.stores, "clickhouse": clickhouse}
    objects.add(replace(manifest, id="later", stores=stores))
    async with opened(empty_settings) as storage:
        with pytest.raises(SchemaDrift, match="9999"):
            await BackupManager(storage, repository).restore("later")
        assert await storage.formulas.list() == []
