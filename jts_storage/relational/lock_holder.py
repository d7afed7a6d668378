"""Find the process that holds the write lock of a SQLite file, on Linux."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_LOCKS = Path("/proc/locks")
_WRITE_LOCK_IN_SHM = 120
_RESERVED_LOCK_IN_FILE = 0x40000001
"""The bytes that SQLite locks for writing: with a log in the file ``-shm``, without in its own."""


def holder(path: Path) -> str | None:
    """Name the process that is writing, as ``"process 123 (stopped)"``; None if unknown."""
    for file, byte in (
        (path.with_name(f"{path.name}-shm"), _WRITE_LOCK_IN_SHM),
        (path, _RESERVED_LOCK_IN_FILE),
    ):
        for pid in _write_locks(file, byte):
            return f"process {pid}{' (stopped)' if _is_stopped(pid) else ''}"
    return None


def _write_locks(file: Path, byte: int) -> Iterator[int]:
    try:
        inode = file.stat().st_ino
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        match line.split():
            case [_, "POSIX", _, "WRITE", pid, place, first, last] if (
                int(place.rpartition(":")[2]) == inode and last != "EOF"
            ):
                if int(first) <= byte <= int(last):
                    yield int(pid)


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"
