"""SQLite: a read transaction in its write-ahead log, and the file as the backup API copies it."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from jts_storage.backup.copying import Copies
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Contents, StoreCopy
from jts_storage.backup.repository import BackupRepository
from jts_storage.errors import StorageError
from jts_storage.settings import DatabaseConfig

NAME: Final = "database"
KIND: Final = "sqlite"
_PIECE_BYTES: Final = 1 << 20
_PAGES: Final = 1_000
_TABLES: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
)


class SqliteBackup:
    """A `StoreBackup` of a SQLite file."""

    name = NAME

    def __init__(self, config: DatabaseConfig, scratch: Path) -> None:
        """:param scratch: a folder for a copy of the file."""
        self._path, self._scratch = _file_of(config), scratch
        self._connection: sqlite3.Connection | None = None

    async def prepare(self) -> None:
        self._connection = await asyncio.to_thread(_connected, self._path)

    async def pin(self) -> None:
        await asyncio.to_thread(self._pin)

    def _pin(self) -> None:
        assert self._connection is not None
        # BEGIN alone begins nothing: the first read does.
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    async def copy(self, copies: Copies) -> StoreCopy:
        file = self._scratch / "bookkeeping.db"
        counts = await asyncio.to_thread(self._copied, file)
        pieces = []
        whole = hashlib.sha256()
        for number, data in enumerate(_pieces_of(file)):
            whole.update(data)
            key = hashlib.sha256(data).hexdigest()
            name = f"{file.name}/{number}"
            give = partial(_as_list, data)
            pieces.append(await copies.piece(NAME, file.name, name, key, give, 0))
        file.unlink()
        contents = Contents(
            file.name,
            KIND,
            sum(counts.values()),
            whole.hexdigest(),
            tuple(pieces),
            {"tables": counts},
        )
        return StoreCopy(f"SQLite {sqlite3.sqlite_version}", {}, (contents,))

    def _copied(self, file: Path) -> dict[str, int]:
        assert self._connection is not None
        file.unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as target:
            # The source has a transaction open, so this copies what that one sees.
            self._connection.backup(target, pages=_PAGES)
            # The copy shall need no files beside it.
            target.execute("PRAGMA journal_mode = DELETE")
            return counts_of(target)

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(connection.close)


class SqliteRestore:
    """Fills a SQLite file from a backup, also one that is open."""

    def __init__(self, repository: BackupRepository) -> None:
        self._repository = repository

    def write(self, contents: Contents, file: Path) -> None:
        """Write the file anew, where nothing is open."""
        file.parent.mkdir(parents=True, exist_ok=True)
        for beside in ("-wal", "-shm", "-journal"):
            Path(f"{file}{beside}").unlink(missing_ok=True)
        with file.open("wb") as target:
            for piece in contents.pieces:
                for frame in self._repository.read(piece.object):
                    target.write(frame)

    def fill(self, contents: Contents, config: DatabaseConfig, scratch: Path) -> None:
        """Put the tables in place of those that are there, in one transaction."""
        copy = scratch / "restored.db"
        try:
            self.write(contents, copy)
            with (
                closing(sqlite3.connect(copy)) as source,
                closing(_connected(_file_of(config))) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as exc:
            raise StorageError(f"The bookkeeping could not be restored: {exc}") from exc
        finally:
            copy.unlink(missing_ok=True)

    def differing(self, contents: Contents, file: Path) -> list[str]:
        """What is otherwise in a file than the backup says; reads all of it."""
        faults = []
        try:
            with closing(sqlite3.connect(file)) as connection:
                (state,) = connection.execute("PRAGMA integrity_check").fetchone()
                if state != "ok":
                    faults.append(f"the SQLite file is damaged: {state}")
                found = counts_of(connection)
        except sqlite3.Error as exc:
            return [f"the SQLite file cannot be read: {exc}"]
        wanted: dict[str, int] = contents.details["tables"]
        faults += [
            f"table {name} has {found.get(name)} rows instead of {wanted.get(name)}"
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name)
        ]
        whole = hashlib.sha256()
        for data in _pieces_of(file):
            whole.update(data)
        if not faults and whole.hexdigest() != contents.fingerprint:
            faults.append(f"the bytes of {contents.name} are others")
        return faults


def counts_of(connection: sqlite3.Connection) -> dict[str, int]:
    """The rows of each table."""
    names = [row[0] for row in connection.execute(_TABLES).fetchall()]
    return {
        name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
        for name in names
    }


def _file_of(config: DatabaseConfig) -> Path:
    if config.path is None:
        raise StorageError(
            "A SQLite database in memory cannot be backed up.", remedy="Name a file."
        )
    return config.path


def _connected(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, check_same_thread=False, isolation_level=None, timeout=10
        )
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as exc:
        raise StorageError(f"{path} cannot be opened: {exc}") from exc
    return connection


def _pieces_of(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while data := source.read(_PIECE_BYTES):
            yield data


def _as_list(data: bytes) -> Iterable[bytes]:
    return [data]


def checked(contents: Contents) -> Contents:
    """:raises DamagedBackup: it is no copy of a SQLite file."""
    if contents.kind != KIND:
        raise DamagedBackup(f"the bookkeeping is {contents.kind}, and no SQLite file")
    return contents
