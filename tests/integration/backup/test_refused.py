"""Full disks, folders that cannot be written and odd names are told, and harm nothing."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager, BackupRepository
from jts_storage.backup.encryption import new_key
from jts_storage.backup.stores.clickhouse import ClickHouseRestore
from jts_storage.backup.stores.sqlite import SqliteRestore
from jts_storage.errors import InvalidConfiguration, StorageError
from tests.integration.backup.filled import fill

LONGEST = 255 - len(".parquet")
ODD_NAMES = ("x" * LONGEST, "종목 'quoted' $HOME", os.fsdecode(b"latin \xe9"), "line\nbreak")


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_disk_that_is_full_is_told_and_is_no_fault_of_a_backup(
    settings: StorageSettings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ODD_NAMES:
        settings.lake_root.mkdir(parents=True, exist_ok=True)
        (settings.lake_root / f"{name}.parquet").write_bytes(name.encode(errors="replace"))
    async with Storage(StoreBackend(settings)) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        await _nothing_is_made_without_a_folder_for_temporary_files(manager, monkeypatch)
        assert (await manager.create_backup()).is_verified
        await _verifying_is_not_failing(manager, monkeypatch)
        await _a_restore_says_that_the_stores_are_incomplete(manager, monkeypatch)
        for name in ODD_NAMES:
            (settings.lake_root / f"{name}.parquet").unlink()
        _killed_while_it_attached_parts(manager, settings)
        await manager.restore(replace=True)
        for name in ODD_NAMES:
            assert (settings.lake_root / f"{name}.parquet").exists()
        await _is_apart(storage, settings, repository)


async def _nothing_is_made_without_a_folder_for_temporary_files(
    manager: BackupManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(StorageError, match=r"A backup failed: /nowhere.*TMPDIR"):
        await manager.create_backup()
    monkeypatch.undo()
    assert await manager.list() == []


async def _verifying_is_not_failing(
    manager: BackupManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StorageError("ClickHouse failed", remedy="The disk is full; free some space.")

    for kind, refusing in ((SqliteRestore, full), (ClickHouseRestore, away)):
        monkeypatch.setattr(kind, "write" if kind is SqliteRestore else "fill", refusing)
        with pytest.raises(StorageError, match="space"):
            await manager.verify()
        with pytest.raises(StorageError, match=r"was made, and could not be verified.*space"):
            await manager.create_backup()
        monkeypatch.undo()
    states = [each.verification for each in await manager.list()]
    assert states == ["not verified", "not verified", "verified"]
    monkeypatch.setattr(ClickHouseRestore, "fill", _corrupt)
    assert "CORRUPTED" in (await manager.verify()).faults[0]
    monkeypatch.undo()
    assert (await manager.verify()).is_well


def _corrupt(*_: Any, **__: Any) -> Any:
    raise StorageError("ClickHouse refused the part: CORRUPTED_DATA", code=246)


async def _a_restore_says_that_the_stores_are_incomplete(
    manager: BackupManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteRestore, "fill", full)
    with pytest.raises(StorageError, match=r"incomplete: .*No space.*once more, with --replace"):
        await manager.restore(replace=True)
    monkeypatch.undo()


def _killed_while_it_attached_parts(manager: BackupManager, settings: StorageSettings) -> None:
    """Leave what an engine leaves that dies then."""
    manifest = manager.repository.manifest(manager.repository.ids()[-1])
    names = {piece.name.rpartition("/")[2] for piece in manifest.pieces}
    folders = list((settings.data_dir / "clickhouse" / "store").glob("*/*/detached"))
    assert folders
    for folder in folders:
        for name in names:
            left = folder / f"attaching_{name}"
            if name.startswith("all_") or name.rpartition("_")[2].isdigit():
                left.mkdir()
                (left / "data.bin").write_bytes(b"half")


async def _is_apart(storage: Storage, settings: StorageSettings, repository: Path) -> None:
    """What destroys the stores must not take the backups along, however it is reached."""
    link = repository.with_name("link")
    link.symlink_to(settings.data_dir, target_is_directory=True)
    with pytest.raises(InvalidConfiguration, match="in the data folder"):
        await BackupManager(storage, link / "backups").create_backup()
    wrong = BackupRepository(repository, key=new_key())
    for work in (BackupManager(storage, wrong).create_backup, BackupManager(storage, wrong).verify):
        with pytest.raises(InvalidConfiguration, match="not encrypted"):
            await work()
