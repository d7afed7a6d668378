"""What came of the backups that a service makes, for those who watch it."""

from __future__ import annotations

from datetime import UTC, datetime

from jts_storage.backup.results import BackupResult, Verified
from jts_storage.errors import StorageError


class BackupRuns:
    """Remembers the last outcome: ``BackupSchedule(manager, told=runs)``.

    What is told of stores takes it as ``backup_runs=``. A service that verifies backups by itself
    calls it with what `BackupManager.verify` returned, too.

    :ivar has_failed: whether the last backup was not made, or did not verify; None before the
        first outcome.
    :ivar verified_at: when one was last restored and compared, and was the same; None before.
    """

    def __init__(self) -> None:
        self.has_failed: bool | None = None
        self.verified_at: datetime | None = None

    def __call__(self, outcome: BackupResult | Verified | StorageError) -> None:
        """Hear of an outcome."""
        if isinstance(outcome, StorageError):
            self.has_failed = True
            return
        self.has_failed = bool(outcome.faults)
        is_proven = (
            outcome.is_verified
            if isinstance(outcome, BackupResult)
            else outcome.was_restored and outcome.is_well
        )
        if is_proven:
            self.verified_at = datetime.now(UTC)
