"""What a repository has, for people and for those who watch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.results import BackupInfo


def rows_of(manifest: Manifest) -> dict[str, int]:
    """How many rows, documents or files a backup has of each store."""
    return {
        name: sum(contents.rows for contents in store.contents)
        for name, store in manifest.stores.items()
    }


def listed(repository: BackupRepository) -> list[BackupInfo]:
    """The backups of a repository, the newest first."""
    found = []
    for identity in reversed(repository.ids()):
        try:
            manifest = repository.manifest(identity)
        except DamagedBackup as exc:
            found.append(BackupInfo(backup_id=identity, damage=exc.args[0]))
            continue
        found.append(
            BackupInfo(
                backup_id=identity,
                timestamp=manifest.cut_at,
                version=manifest.version,
                size_bytes=manifest.size_bytes,
                rows=rows_of(manifest),
                kit=manifest.kit,
                note=manifest.note,
            )
        )
    return found


def backups_of(repository: BackupRepository) -> Callable[[], list[datetime | None]]:
    """For those who watch: gives when each backup was cut, and None for one that is damaged."""

    def cuts() -> list[datetime | None]:
        repository.open()
        return [None if each.damage else each.timestamp for each in listed(repository)]

    return cuts
