"""What is told of backups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from jts_storage.backup.outcomes import State


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """A backup that was made.

    :param timestamp: when all stores were as they are in it.
    :param size_bytes: of all the objects that it needs.
    :param status: ``"failed"`` where it was made, and could not be restored to the same.
    :param version: the commit up to which it holds everything.
    :param new_bytes: by which the repository has grown.
    :param waited_seconds: how long commits that wanted to begin had to wait.
    :param is_verified: whether it was restored, and compared; a check of hashes does not count.
    :param faults: what was found; nothing, if all is well.
    """

    backup_id: str
    timestamp: datetime
    size_bytes: int
    status: Literal["success", "failed"]
    location: str
    version: int
    new_bytes: int
    new_objects: int
    seconds: float
    waited_seconds: float
    is_verified: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupInfo:
    """A backup in a repository.

    :param rows: of each store: rows, documents or files.
    :param damage: why its manifest cannot be read; None if it can.
    :param verification: ``"verified"`` once it was restored and compared, ``"failed"`` if anything
        was found when that, or a comparison of hashes, was last done.
    :param verified_at: when that was seen.
    :param faults: what was found then.
    """

    backup_id: str
    timestamp: datetime | None = None
    version: int = 0
    size_bytes: int = 0
    rows: dict[str, int] | None = None
    kit: str = ""
    note: str = ""
    damage: str | None = None
    verification: State = "not verified"
    verified_at: datetime | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found of a backup.

    :param was_restored: whether it was restored, or only its hashes were compared.
    :param repository_faults: what is wrong with the repository beside it: manifests that are gone.
    """

    backup_id: str
    objects: int
    bytes: int
    seconds: float
    was_restored: bool
    faults: tuple[str, ...] = ()
    repository_faults: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return not self.faults and not self.repository_faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored.

    :param recovered: commits that the backup had decided, and which were finished.
    :param passed_over: newer backups that are damaged, with what is wrong with each.
    """

    backup_id: str
    timestamp: datetime
    version: int
    rows: dict[str, int]
    seconds: float
    recovered: int = 0
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed, or would be.

    :param kept: those that stay, each with the rules that keep it.
    """

    removed: tuple[str, ...]
    kept: dict[str, tuple[str, ...]]
    objects: int
    bytes: int
    is_dry_run: bool
