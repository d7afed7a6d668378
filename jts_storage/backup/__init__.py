"""Backups of a storage that are known to restore: every store as it was at one commit.

from jts_storage.backup import BackupManager

result = await BackupManager(storage, "/mnt/backups").create_backup()
await BackupManager(empty_storage, "/mnt/backups").restore()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jts_storage.backup.copying import Progress
    from jts_storage.backup.encryption import new_key
    from jts_storage.backup.errors import DamagedBackup, NotEmpty
    from jts_storage.backup.listing import backups_of
    from jts_storage.backup.manager import BackupManager
    from jts_storage.backup.repository import BackupRepository
    from jts_storage.backup.results import BackupInfo, BackupResult, Pruned, Restored, Verified
    from jts_storage.backup.retention import Retention
    from jts_storage.backup.runs import BackupRuns
    from jts_storage.backup.schedule import BackupSchedule, Schedule
    from jts_storage.backup.selection import DocumentCollection, Series

_HOMES = {
    "BackupInfo": "results",
    "BackupManager": "manager",
    "BackupRepository": "repository",
    "BackupResult": "results",
    "BackupRuns": "runs",
    "BackupSchedule": "schedule",
    "DamagedBackup": "errors",
    "DocumentCollection": "selection",
    "NotEmpty": "errors",
    "Progress": "copying",
    "Pruned": "results",
    "Restored": "results",
    "Retention": "retention",
    "Schedule": "schedule",
    "Series": "selection",
    "Verified": "results",
    "backups_of": "listing",
    "new_key": "encryption",
}

__all__ = [
    "BackupInfo",
    "BackupManager",
    "BackupRepository",
    "BackupResult",
    "BackupRuns",
    "BackupSchedule",
    "DamagedBackup",
    "DocumentCollection",
    "NotEmpty",
    "Progress",
    "Pruned",
    "Restored",
    "Retention",
    "Schedule",
    "Series",
    "Verified",
    "backups_of",
    "new_key",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
