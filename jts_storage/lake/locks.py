"""Locks among processes that die with the process that holds them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jts_storage.errors import Conflict, StorageError
from jts_storage.lake.files import make_folder
from jts_storage.lake.layout import LOCKS, Partition

_FILES = 64
_POLL_SECONDS = 0.005


class PartitionLocks:
    """One lock a partition, on a fixed number of files that are never deleted.

    Partitions share files, so a caller holds one lock at a time.
    """

    def __init__(self, root: Path, timeout: float) -> None:
        self._folder = root / LOCKS
        self._timeout = timeout
        self._made = False

    @contextmanager
    def held(self, partition: Partition) -> Iterator[None]:
        """:raises Conflict: somebody else held it for too long."""
        number = zlib.crc32(str(partition).encode()) % _FILES
        try:
            if not self._made:
                # The root of the store comes to be here, so it has to last.
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
