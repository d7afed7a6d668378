"""The embedded ClickHouse: parts as they lie on disk.

A part never changes once it is written, so FREEZE pins a table by links, within milliseconds, and
an object a part is all that a backup needs. ATTACH PART brings it back. The engine checks nothing
when it does so: what is attached was compared with its hash before, and its rows are compared with
their fingerprints after.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

from jts_storage.backup.copying import Copies
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Contents, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.stores.clickhouse_tables import (
    NAME,
    SeriesFigures,
    StoredTable,
    by_series,
    count_query,
    create_statement,
    decoded,
    different,
    encoded,
    figures_query,
    hash_query,
    is_of_series,
    joined,
    quoted,
    tables_of,
    text_literal,
)
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError

KIND: Final = "parts"
FROZEN: Final = "jts_backup_"
"""What frozen parts are called; the engine that has them is one process's."""

_PIECE_BYTES: Final = 1 << 20
_HEAD_LIMIT: Final = 1 << 20
_CHECKSUMS, _COLUMNS, _COUNT = "checksums.txt", "columns.txt", "count.txt"
_LENGTH: Final = 4
_LINKED: Final = (".bin", ".mrk", ".mrk2", ".mrk3", ".cmrk", ".cmrk2", ".cmrk3", ".idx", ".cidx")
"""Files of a part that nobody writes to again; the others are small, and copied."""


class PartsBackup:
    """A `StoreBackup` of the embedded engine's database."""

    name = NAME

    def __init__(self, manager: ClickHouseManager, scratch: str) -> None:
        """:param scratch: a database that does not exist, for what is only looked at."""
        self._manager, self._scratch = manager, scratch
        self._frozen = f"{FROZEN}{uuid4().hex}"
        self._tables: list[StoredTable] = []
        self._is_frozen = False

    async def prepare(self) -> None:
        self._tables = await self._manager.run(tables_of, self._manager)

    async def pin(self) -> None:
        self._is_frozen = True
        await self._manager.run(self._freeze)

    def _freeze(self) -> None:
        for table in self._tables:
            self._manager.execute(
                f"ALTER TABLE {quoted(table.name)} FREEZE WITH NAME {text_literal(self._frozen)}"
            )

    async def copy(self, copies: Copies) -> StoreCopy:
        (version,) = (await self._manager.run(self._manager.execute, "SELECT version()"))[0]
        contents = [await self._copied(table, copies) for table in self._tables]
        return StoreCopy(f"ClickHouse {version}", {}, tuple(contents))

    async def release(self) -> None:
        if self._is_frozen:
            self._is_frozen = False
            await self._manager.run(shutil.rmtree, self._shadow, ignore_errors=True)

    @property
    def _shadow(self) -> Path:
        return Path(str(self._manager.config.embedded_path)) / "shadow" / self._frozen

    def _parts(self, table: StoredTable) -> list[Path]:
        """The frozen parts of a table, whose folder ends as that of the table does."""
        ends = {Path(folder).name for folder in table.folders}
        found = (each for each in self._shadow.glob("store/*/*") if each.name in ends)
        parts = [part for folder in found for part in folder.iterdir() if part.is_dir()]
        return sorted((each for each in parts if (each / _COLUMNS).is_file()), key=_age_of)

    async def _copied(self, table: StoredTable, copies: Copies) -> Contents:
        parts = await self._manager.run(self._parts, table)
        keys = {part: await self._manager.run(_key_of, part) for part in parts}
        figures: Mapping[str, SeriesFigures] = {}
        if is_of_series(table.name):
            new = [p for p in parts if copies.found(NAME, table.name, keys[p]) is None]
            figures = await self._manager.run(self._figures, table, new)
        pieces = []
        for part in parts:
            of_it = figures.get(part.name)
            stored = None if of_it is None else await copies.figures(encoded(of_it))
            rows = int((part / _COUNT).read_text())
            name = f"{table.name}/{part.name}"
            data = partial(_archive, part)
            pieces.append(
                await copies.piece(NAME, table.name, name, keys[part], data, rows, stored)
            )
        rows = sum(piece.rows for piece in pieces)
        whole = hashlib.sha256("".join(sorted(p.key for p in pieces)).encode()).hexdigest()
        details = {"created": table.created, "engine": table.engine}
        return Contents(table.name, KIND, rows, whole, tuple(pieces), details)

    def _figures(self, table: StoredTable, parts: list[Path]) -> dict[str, SeriesFigures]:
        """The fingerprints of the series in frozen parts, which may be merged away by now."""
        if not parts:
            return {}
        with_rows = _Scratch(self._manager, self._scratch)
        try:
            names = with_rows.attached(table, {part.name: part for part in parts})
            found = self._manager.execute(
                figures_query(with_rows.database, table.name, by_part=True)
            )
        finally:
            with_rows.drop()
        figures: dict[str, SeriesFigures] = {part.name: {} for part in parts}
        for part, *row in found:
            figures[names[part]] |= by_series([row])
        return figures


class _Scratch:
    """A database of its own, with parts that are links to those of another."""

    def __init__(self, manager: ClickHouseManager, database: str) -> None:
        self._manager, self.database = manager, database
        manager.execute(f"CREATE DATABASE {quoted(self.database)}")

    def attached(self, table: StoredTable, parts: Mapping[str, Path]) -> dict[str, str]:
        """Attach parts, and return under which name each of them is here."""
        folder = make_table(self._manager, self.database, table.name, table.created)
        names = {}
        for name, path in parts.items():
            _link(path, folder / "detached" / name)
            names[attach(self._manager, self.database, table.name, name)] = name
        return names

    def drop(self) -> None:
        self._manager.execute(f"DROP DATABASE IF EXISTS {quoted(self.database)} SYNC")


class PartsRestore:
    """Fills a database of the embedded engine from a backup.

    :param database: which one; that of the manager if not given.
    """

    def __init__(
        self,
        manager: ClickHouseManager,
        repository: BackupRepository | None,
        database: str | None = None,
    ) -> None:
        self._manager, self._repository = manager, repository
        self.database = database or manager.config.database

    def make_database(self) -> None:
        self._manager.execute(f"CREATE DATABASE {quoted(self.database)}")

    def drop_database(self) -> None:
        self._manager.execute(f"DROP DATABASE IF EXISTS {quoted(self.database)} SYNC")

    def fill(self, contents: Iterable[Contents], *, merges: bool = True) -> None:
        """Attach all parts; a table that is there is emptied first, another one is made."""
        there = {each.name: each for each in self._tables()}
        for each in contents:
            if each.kind != KIND:
                raise StorageError(
                    f"Table {each.name} was copied from a server, as {each.kind}.",
                    remedy="Restore it to a server.",
                )
            name = f"{quoted(self.database)}.{quoted(each.name)}"
            if each.name in there:
                self._manager.execute(f"TRUNCATE TABLE {name} SYNC")
                folder = Path(there[each.name].folders[0])
                _sweep_attached(folder)
            else:
                created = str(each.details["created"])
                folder = make_table(self._manager, self.database, each.name, created, merges=merges)
            for piece in each.pieces:
                part = piece.name.rpartition("/")[2]
                self._extract(piece, folder / "detached" / part)
                attach(self._manager, self.database, each.name, part)

    def differing(self, contents: Iterable[Contents]) -> list[str]:
        """What is stored otherwise than the backup says; reads every row."""
        faults = []
        for each in contents:
            found = self._manager.execute(count_query(self.database, each.name))[0][0]
            if found != each.rows:
                faults.append(f"table {each.name} has {found} rows instead of {each.rows}")
                continue
            faults += self._unreadable(each.name) + self._other_rows(each)
            if is_of_series(each.name):
                now = self._manager.execute(figures_query(self.database, each.name, by_part=False))
                faults += different(each.name, self.figures(each), by_series(now))
        return faults

    def figures(self, contents: Contents) -> SeriesFigures:
        """The fingerprints of the series of a table as the backup has them."""
        assert self._repository is not None
        read = self._repository.read
        found = (piece.figures for piece in contents.pieces)
        return joined(decoded(b"".join(read(each))) for each in found if each is not None)

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return {
            each.name: self._manager.execute(count_query(self.database, each.name))[0][0]
            for each in self._tables()
        }

    def _other_rows(self, contents: Contents) -> list[str]:
        """Compare the hash of all rows, of what was copied by rows."""
        wanted = contents.details.get("hash")
        if wanted is None:
            return []
        columns = [name for name, _ in contents.details["columns"]]
        query = hash_query(self.database, contents.name, columns)
        found = [list(row) for row in self._manager.execute(query)]
        return [] if found == wanted else [f"the rows of table {contents.name} are others"]

    def _unreadable(self, name: str) -> list[str]:
        query = f"CHECK TABLE {quoted(self.database)}.{quoted(name)}"
        found = self._manager.execute(query, settings={"check_query_single_value_result": 1})
        return [] if found[0][0] else [f"a part of table {name} is damaged"]

    def _tables(self) -> list[StoredTable]:
        return tables_of(self._manager, self.database)

    def _extract(self, piece: Piece, folder: Path) -> None:
        assert self._repository is not None
        shutil.rmtree(folder, ignore_errors=True)
        try:
            extract(self._repository.read(piece.object), folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def make_table(
    manager: ClickHouseManager, database: str, name: str, created: str, *, merges: bool = False
) -> Path:
    """Make a table, and return the folder that its parts are in.

    :param merges: False keeps the engine from joining parts.
    """
    manager.execute(create_statement(created, database, name))
    if not merges:
        manager.execute(f"SYSTEM STOP MERGES {quoted(database)}.{quoted(name)}")
    (table,) = (each for each in tables_of(manager, database) if each.name == name)
    return Path(table.folders[0])


def attach(manager: ClickHouseManager, database: str, name: str, part: str) -> str:
    """Attach a part that lies in the folder ``detached``; return the name it has got."""
    parts = (
        "SELECT name FROM system.parts WHERE active AND database = %(database)s"
        " AND table = %(table)s ORDER BY name"
    )
    given = {"database": database, "table": name}
    before = {row[0] for row in manager.execute(parts, given)}
    manager.execute(
        f"ALTER TABLE {quoted(database)}.{quoted(name)} ATTACH PART {text_literal(part)}"
    )
    new = [row[0] for row in manager.execute(parts, given) if row[0] not in before]
    return str(new[0]) if len(new) == 1 else part


def _sweep_attached(folder: Path) -> None:
    """Remove what was being attached when a restore was killed: no part of its name could be."""
    for left in (folder / "detached").glob("attaching_*"):
        shutil.rmtree(left, ignore_errors=True)


def extract(frames: Iterator[bytes], folder: Path) -> None:
    """Write the files of a part as `_archive` put them together; on disk when this returns.

    :raises DamagedBackup: they are not as they were written; also at the end of the object.
    """
    waiting = bytearray()

    def take(size: int) -> bytes:
        while len(waiting) < size:
            frame = next(frames, None)
            if frame is None:
                raise DamagedBackup("a part is cut off")
            waiting.extend(frame)
        data = bytes(waiting[:size])
        del waiting[:size]
        return data

    length = int.from_bytes(take(_LENGTH), "little")
    if length > _HEAD_LIMIT:
        raise DamagedBackup("the files of a part are not listed")
    for name, size in json.loads(take(length)):
        path = folder / name
        if folder not in path.parents or ".." in path.parts:
            raise DamagedBackup(f"a part has a file {name!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while size:
                data = take(min(size, _PIECE_BYTES))
                file.write(data)
                size -= len(data)
            file.flush()
            os.fsync(file.fileno())
    # The hash of the whole is compared where it ends.
    if waiting or any(frames):
        raise DamagedBackup("a part has more than its files")


def _archive(part: Path) -> Iterator[bytes]:
    """The names and sizes of the files of a part, and then the files."""
    files = sorted(path for path in part.rglob("*") if path.is_file())
    listed = [[path.relative_to(part).as_posix(), path.stat().st_size] for path in files]
    head = json.dumps(listed).encode()
    yield len(head).to_bytes(_LENGTH, "little") + head
    for path in files:
        with path.open("rb") as file:
            while data := file.read(_PIECE_BYTES):
                yield data


def _age_of(part: Path) -> tuple[str, list[int]]:
    """Parts in the order in which their rows were written: names end in numbers of blocks."""
    partition, *numbers = part.name.rsplit("_", 3)
    return partition, [int(number) for number in numbers if number.isdigit()]


def _key_of(part: Path) -> str:
    """What two parts of the same rows have in common: the checksums of their files."""
    described = hashlib.sha256()
    for name in (_CHECKSUMS, _COLUMNS):
        described.update((part / name).read_bytes())
    return described.hexdigest()


def _link(part: Path, target: Path) -> None:
    for path in part.rglob("*"):
        if not path.is_file():
            continue
        there = target / path.relative_to(part)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in _LINKED:
            there.hardlink_to(path)
        else:
            shutil.copyfile(path, there)
