"""Locks between processes, released by the system when their holder dies."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jts_storage.errors import Conflict, StorageError
from jts_storage.lake.files import make_folder
from jts_storage.lake.layout import LOCKS, Partition

# Enough that two writers rarely meet on one, few enough to leave them in the folder.
_FILES = 64
_POLL_SECONDS = 0.005


class PartitionLocks:
    """A lock for each partition, on a fixed number of files that are never deleted.

    Partitions share files, so a caller holds one lock at a time.
    """

    def __init__(self, root: Path, timeout: float) -> None:
        self._folder = root / LOCKS
        self._timeout = timeout
        self._made = False

    @contextmanager
    def held(self, partition: Partition) -> Iterator[None]:
        """:raises Conflict: another process held it for too long."""
        # Not hash(), which is another in each process.
        number = zlib.crc32(str(partition).encode()) % _FILES
        try:
            if not self._made:
                # This may make the root of the store, which must survive a power cut.
                make_folder(self._folder)
                self._made = True
            lock = FileLock(self._folder / f"{number:02}.lock", thread_local=False)
            lock.acquire(timeout=self._timeout, poll_interval=_POLL_SECONDS)
        except Timeout as exc:
            raise Conflict(
                f"Another writer held {partition} for more than {self._timeout:g} s.",
                remedy="Repeat later, or raise lock_timeout.",
            ) from exc
        except OSError as exc:
            raise StorageError(
                f"Cannot lock {partition} in {self._folder}: {exc}.",
                remedy="Check the rights on the folder.",
            ) from exc
        try:
            yield
        finally:
            lock.release()
