"""What is wrong with a repository or a backup in it."""

from __future__ import annotations

from collections.abc import Sequence

from jts_storage.errors import StorageError


class DamagedBackup(StorageError):
    """A backup, or a part of it, is not what was written.

    :ivar faults: what was found, a sentence each.
    :ivar was_begun: whether it was found only after the stores had been changed.
    """

    was_begun = False

    def __init__(self, message: str, *, faults: Sequence[str] = (), remedy: str | None = None):
        super().__init__(message, remedy=remedy)
        self.faults = tuple(faults) or (message,)


class NotEmpty(StorageError):
    """A restore would write over what is stored."""
