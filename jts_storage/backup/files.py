"""How files of a repository come to be: whole and on disk, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, Self, cast

from jts_storage.backup import chunks
from jts_storage.backup.encryption import Cipher
from jts_storage.backup.errors import DamagedBackup
from jts_storage.errors import InvalidConfiguration, StorageError

_HASH_BYTES: Final = 32


def place(temporary: Path, write: Callable[[IO[bytes]], Path]) -> None:
    """Make a file under a temporary name; on disk and in its place when this returns.

    :param temporary: a folder of the same file system.
    :param write: writes what is in the file, and returns where it belongs.
    :raises StorageError: the file system refuses it; nothing is left of it then.
    """
    path = temporary / secrets.token_hex(16)
    try:
        with refused(temporary.parent):
            file = path.open("xb")
        with _Guarded(file, temporary.parent) as guarded:
            target = write(cast(IO[bytes], guarded))
        with refused(target):
            make_folder(target.parent)
            path.replace(target)  # also of one that is there: that may be damaged
            sync_folder(target.parent)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def seal(temporary: Path, target: Path, text: bytes, cipher: Cipher | None) -> None:
    """Make a small file that tells whether it is as it was written, and encrypt it with a key."""

    def write(file: IO[bytes]) -> Path:
        written = chunks.write([text], file, cipher)
        file.write(bytes.fromhex(written.object))
        return target

    place(temporary, write)


def unseal(path: Path, cipher: Cipher | None) -> bytes:
    """:raises DamagedBackup: it is not as it was written."""
    content = path.read_bytes()
    if hashlib.sha256(content[:-_HASH_BYTES]).digest() != content[-_HASH_BYTES:]:
        raise DamagedBackup("its hash is another one")
    return b"".join(chunks.read(BytesIO(content[:-_HASH_BYTES]), cipher))


def make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Let what the file system refuses to change say where, and what to do."""
    try:
        yield
    except OSError as exc:
        raise StorageError(
            f"{path} cannot be written: {exc.strerror or exc}.",
            remedy="See that there is room, and that it may be written.",
        ) from exc


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Let nothing but the kit's errors out of the block, where files elsewhere are written."""
    try:
        yield
    except (OSError, sqlite3.Error) as exc:
        named = getattr(exc, "filename", None)
        where = f"{named}: " if named else ""
        raise StorageError(
            f"{doing} failed: {where}{getattr(exc, 'strerror', None) or exc}.",
            remedy="See that there is room where the stores are and in the folder for temporary"
            " files, TMPDIR, and that both may be written.",
        ) from exc


@contextmanager
def naming(identity: str, what: str = "object") -> Iterator[None]:
    """Let what is wrong say with what it is wrong."""
    try:
        yield
    except DamagedBackup as exc:
        raise DamagedBackup(f"{what} {identity} is damaged: {exc.args[0]}") from exc
    except InvalidConfiguration as exc:
        why = str(exc.args[0]).removeprefix("Invalid configuration: ")
        raise InvalidConfiguration(
            f"{what} {identity} cannot be read: {why}", remedy=exc.remedy
        ) from exc
    except FileNotFoundError as exc:
        raise DamagedBackup(f"{what} {identity} is missing") from exc
    except IsADirectoryError as exc:
        raise DamagedBackup(f"{what} {identity} is a folder") from exc
    except OSError as exc:
        raise StorageError(f"{what} {identity} cannot be read: {exc.strerror}") from exc


class Hashing:
    """A file whose hash is known once it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _Guarded:
    """A file whose own failures are told from those of what is read to be written into it."""

    def __init__(self, file: IO[bytes], where: Path) -> None:
        self._file, self._where = file, where

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                with refused(self._where):
                    self._file.flush()
                    os.fsync(self._file.fileno())
        finally:
            # What could not be flushed is tried once more by it, and fails as before.
            with suppress(OSError):
                self._file.close()

    def write(self, data: Any) -> int:
        with refused(self._where):
            return self._file.write(data)
