"""Errors of Parquet and the file system, translated into the kit's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from jts_storage.errors import InvalidData, StorageError


class DamagedFile(InvalidData):
    """A file that cannot be read, or holds something else than was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {path} is damaged: {reason}.",
            remedy="Restore it from a backup, write its job again, or delete it; "
            "on_damaged='skip' reads everything else.",
        )
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that was skipped, and why."""

    path: Path
    reason: str


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """:raises DamagedFile: the bytes are at fault. A missing file stays `FileNotFoundError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except DamagedFile:
        raise
    except InvalidData as exc:
        raise DamagedFile(path, str(exc).rstrip(".")) from exc
    except UnicodeError as exc:
        raise DamagedFile(path, f"a name in it cannot be read ({exc})") from exc
    except (OSError, pa.ArrowException) as exc:
        # The system's errors carry a number, those of a Parquet reader do not.
        if getattr(exc, "errno", None) is not None:
            raise StorageError(f"Cannot read {path}: {exc}.", remedy=_DISK) from exc
        raise DamagedFile(path, str(exc).partition("\n")[0].rstrip(".")) from exc


@contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as exc:
        raise StorageError(f"Cannot write {path}: {exc}.", remedy=_DISK) from exc


_DISK = "Check the disk's space and the rights on the folder."
