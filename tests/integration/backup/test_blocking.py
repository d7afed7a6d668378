"""Backups for threads and desktop programs: `jts_storage.sync.backup`."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from jts_storage import StorageSettings
from jts_storage import storage as asynchronous
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupResult, DocumentCollection, Retention
from jts_storage.errors import StorageError
from jts_storage.sync import Storage
from jts_storage.sync.backup import BackupManager, BackupSchedule
from jts_storage.testing.factories import make_formula

BEGIN = datetime(2026, 11, 30, tzinfo=UTC)


def test_backups_are_made_and_restored_without_a_loop(
    settings: StorageSettings, repository: Path
) -> None:
    heard = set()
    with Storage(asynchronous.Storage(StoreBackend(settings))) as storage:
        with storage.unit_of_work() as uow:
            uow.formulas.save(make_formula("kept"))
            uow.commit()
        manager = BackupManager(storage, repository, report=lambda now: heard.add(now.doing))
        made = manager.create_backup(verify=False)
        with storage.unit_of_work() as uow:
            uow.formulas.save(make_formula("later"))
            uow.commit()
        part = DocumentCollection(name="formulas", into="formulas_then")
        assert manager.restore(only=part).rows == {"formulas_then": 1}
        assert manager.restore(replace=True).backup_id == made.backup_id
        assert [each.name for each in storage.formulas.list()] == ["kept"]
        assert manager.verify(quick=True).is_well
        assert [each.backup_id for each in manager.list()] == [made.backup_id]
        assert manager.repository.folder == repository
        assert manager.prune(Retention(last=1), dry_run=True).removed == ()
        assert "copying mongo" in heard
        _scheduled(manager)


def _scheduled(manager: BackupManager) -> None:
    told: list[BackupResult | StorageError] = []
    is_told = threading.Event()
    hours = count()

    def tell(result: BackupResult | StorageError) -> None:
        told.append(result)
        is_told.set()

    async def sleep(_: float) -> None:
        await asyncio.sleep(0.001 if not told else 60)

    schedule = BackupSchedule(
        manager,
        "0 * * * *",
        told=tell,
        now=lambda: BEGIN + timedelta(minutes=30) * next(hours),
        sleep=sleep,
    )
    with schedule:
        assert is_told.wait(60)
    result = told[0]
    assert isinstance(result, BackupResult) and result.status == "success"
    assert schedule.schedule.line == "0 * * * *"
