"""A backup divides all commits at one: those before it are whole in it, and none after is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager
from tests.integration.backup.pairs import Writer, check_cut, seen, writing

_LONG = int(os.environ.get("JTS_TEST_BACKUPS", "50"))
_PAUSE = 0.01
_BETWEEN = 24
_PATIENCE = 6_000


async def taken(
    storage: Storage, repository: Path, count: int
) -> tuple[list[Writer], list[tuple[str, int, list[dict[str, int]]]]]:
    """Take backups while four writers write; what each of them must hold."""
    manager = BackupManager(storage, repository)
    taken = []
    async with writing(storage) as writers:
        for _ in range(count):
            await _have_written(writers)
            acknowledged = [dict(each.acknowledged) for each in writers]
            result = await manager.create_backup(verify=False)
            assert result.status == "success"
            taken.append((result.backup_id, result.version, acknowledged))
    return writers, taken


async def _have_written(writers: Sequence[Writer]) -> None:
    """Wait until some more commits are acknowledged, so that each backup cuts between others."""
    begun = sum(sum(each.acknowledged.values()) for each in writers)
    for _ in range(_PATIENCE):
        if sum(sum(each.acknowledged.values()) for each in writers) >= begun + _BETWEEN:
            return
        await asyncio.sleep(_PAUSE)


async def _prove(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path, count: int
) -> None:
    async with Storage(StoreBackend(settings)) as storage:
        writers, found = await taken(storage, repository, count)
    async with Storage(StoreBackend(empty_settings)) as restored:
        manager = BackupManager(restored, repository)
        for identity, version, acknowledged in found:
            await manager.restore(identity, replace=True)
            assert (await restored.health()).unfinished == 0
            for writer, told in zip(writers, acknowledged, strict=True):
                check_cut(writer, await seen(restored, writer), version, told)
    assert sum(len(each.pairs) for each in writers) > len(writers)


async def test_a_backup_holds_every_commit_up_to_one_and_none_after_it(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    """UT-INFRA-02.3: it is consistent, and verified by restoring it."""
    await _prove(settings, empty_settings, repository, 1)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_fifty_backups_are_each_cut_at_one_commit(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    await _prove(settings, empty_settings, repository, _LONG)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_so_are_backups_without_history(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    plain = settings.model_copy(update={"history": False})
    await _prove(plain, empty_settings, repository, max(1, _LONG // 5))
