"""Repositories of earlier releases are read by this one."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager
from tests.integration.backup.keep_repository import KEPT, summary


@pytest.mark.parametrize("kept", sorted(KEPT.glob("*.tar")), ids=lambda path: path.stem)
async def test_a_kept_repository_is_restored(
    kept: Path, empty_settings: StorageSettings, tmp_path: Path
) -> None:
    with tarfile.open(kept) as tar:
        tar.extractall(tmp_path, filter="data")
    async with Storage(StoreBackend(empty_settings)) as storage:
        manager = BackupManager(storage, tmp_path / "repository")
        assert (await manager.verify()).is_well
        await manager.restore()
        expected = json.loads(kept.with_suffix(".json").read_text())
        assert await summary(storage) == expected
        (made,) = await manager.list()
        assert made.note == "kept"


def test_there_is_one_of_every_format() -> None:
    from jts_storage.backup.repository import FORMAT

    assert {path.stem for path in KEPT.glob("*.tar")} == {
        f"format-{number}" for number in range(1, FORMAT + 1)
    }
