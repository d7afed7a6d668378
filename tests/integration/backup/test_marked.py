"""What was found of a backup decides whether it is restored without being named."""

from __future__ import annotations

from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager, DamagedBackup
from tests.integration.backup.filled import fill, fill_more


async def test_the_latest_that_did_not_verify_is_not_restored_unless_it_is_named(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    async with Storage(StoreBackend(settings)) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        first = await manager.create_backup(verify=False)
        await fill_more(storage)
        newest = await manager.create_backup()
        assert [each.verification for each in await manager.list()] == ["verified", "not verified"]
        objects = manager.repository
        own = set(objects.manifest(newest.backup_id).objects)
        path = objects.path_of(min(own - objects.manifest(first.backup_id).objects.keys()))
        kept = path.read_bytes()
        path.write_bytes(b"")
        assert not (await manager.verify(quick=True)).is_well
        assert [each.verification for each in await manager.list()] == ["failed", "not verified"]
        path.write_bytes(kept)
    async with Storage(StoreBackend(empty_settings)) as storage:
        manager = BackupManager(storage, repository)
        with pytest.raises(DamagedBackup, match=r"failed when it was verified at 20.*or name it"):
            await manager.restore()
        assert await storage.strategies.list() == []
        restored = await manager.restore(previous_if_damaged=True)
        assert restored.backup_id == first.backup_id
        assert newest.backup_id in restored.passed_over[0]
        named = await manager.restore(newest.backup_id, replace=True)
        assert named.backup_id == newest.backup_id
        assert (await manager.verify(quick=True)).is_well
        assert (await manager.restore(replace=True)).backup_id == newest.backup_id
        await _the_newest_is_missed(manager, first.backup_id, newest.backup_id)


async def _the_newest_is_missed(manager: BackupManager, first: str, newest: str) -> None:
    (manager.repository.folder / "backups" / f"{newest}.manifest").unlink()
    assert newest in (await manager.verify(quick=True)).faults[0]
    with pytest.raises(DamagedBackup, match="missing, and was not pruned"):
        await manager.restore(replace=True)
    assert (await manager.restore(replace=True, previous_if_damaged=True)).backup_id == first
