"""What a repository has, for people and for those who watch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from jts_storage.backup.manifest import Manifest
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.results import BackupInfo
from jts_storage.errors import NotFound, StorageError


def rows_of(manifest: Manifest) -> dict[str, int]:
    """How many rows, documents or files a backup has of each store."""
    return {
        name: sum(contents.rows for contents in store.contents)
        for name, store in manifest.stores.items()
    }


def listed(repository: BackupRepository) -> list[BackupInfo]:
    """The backups of a repository, the newest first; also those that cannot be read or are gone."""
    found = []
    for identity in reversed(repository.ids()):
        try:
            manifest = repository.manifest(identity)
        except NotFound:  # removed while this looked
            continue
        except StorageError as exc:
            found.append(BackupInfo(backup_id=identity, damage=exc.args[0]))
            continue
        outcome = repository.outcome(identity)
        found.append(
            BackupInfo(
                backup_id=identity,
                timestamp=manifest.cut_at,
                version=manifest.version,
                size_bytes=manifest.size_bytes,
                rows=rows_of(manifest),
                kit=manifest.kit,
                note=manifest.note,
                verification=outcome.state,
                verified_at=outcome.at,
                faults=() if outcome.failure is None else outcome.failure.faults,
            )
        )
    return found


def backups_of(repository: BackupRepository) -> Callable[[], list[datetime | None]]:
    """For those who watch: gives when each backup was cut, and None for one that is damaged.

    One that did not verify is.
    """

    def cuts() -> list[datetime | None]:
        repository.open()
        return [
            None if each.damage or each.verification == "failed" else each.timestamp
            for each in listed(repository)
        ]

    return cuts
