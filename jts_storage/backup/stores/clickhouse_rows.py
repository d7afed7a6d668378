"""ClickHouse on servers: links to the parts of a table in another one, and the rows of each part.

A client cannot reach the files of a server. But parts tell a hash of all their files, by which a
later backup knows those that it has already; only rows of new parts travel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any, Final

import numpy as np
import pyarrow as pa

from jts_storage.backup.copying import Copies
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Contents, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.stores.clickhouse_tables import (
    NAME,
    SeriesFigures,
    StoredTable,
    by_series,
    create_statement,
    encoded,
    figures_query,
    hash_query,
    is_of_series,
    quoted,
    tables_of,
    text_literal,
)
from jts_storage.clickhouse.blocks import Typed, fixed_dtype
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.transport import WRITE_ROWS
from jts_storage.errors import InvalidConfiguration, StorageError

KIND: Final = "rows"
_BLOCK_ROWS: Final = 65_536
_PARTS: Final = (
    "SELECT name, hash_of_all_files, rows FROM system.parts WHERE active AND"
    " database = %(database)s AND table = %(table)s ORDER BY partition_id, min_block_number"
)
_COLUMNS: Final = (
    "SELECT name, type FROM system.columns WHERE database = %(database)s AND table = %(table)s"
    " AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL') ORDER BY position"
)


class RowsBackup:
    """A `StoreBackup` of a database on a server."""

    name = NAME

    def __init__(self, manager: ClickHouseManager, scratch: str) -> None:
        """:param scratch: a database that does not exist, for links to the parts."""
        if manager.config.cluster is not None:
            raise InvalidConfiguration(
                "the tables of a ClickHouse cluster cannot be backed up yet",
                remedy="Back up each of its servers by BACKUP, or the other stores alone.",
            )
        self._manager = manager
        self._database = scratch
        self._tables: list[StoredTable] = []
        self._is_made = False

    async def prepare(self) -> None:
        self._is_made = True
        await self._manager.run(self._prepare)

    def _prepare(self) -> None:
        self._tables = tables_of(self._manager)
        self._manager.execute(f"CREATE DATABASE {quoted(self._database)}")
        for table in self._tables:
            make_table(self._manager, self._database, table.name, table.created)

    async def pin(self) -> None:
        await self._manager.run(self._pin)

    def _pin(self) -> None:
        for table in self._tables:
            self._manager.execute(
                f"ALTER TABLE {quoted(self._database)}.{quoted(table.name)} ATTACH PARTITION ALL"
                f" FROM {quoted(self._manager.config.database)}.{quoted(table.name)}"
            )

    async def copy(self, copies: Copies) -> StoreCopy:
        (version,) = (await self._manager.run(self._manager.execute, "SELECT version()"))[0]
        contents = [await self._copied(table, copies) for table in self._tables]
        return StoreCopy(f"ClickHouse {version}", {}, tuple(contents))

    async def release(self) -> None:
        if self._is_made:
            self._is_made = False
            drop = f"DROP DATABASE IF EXISTS {quoted(self._database)} SYNC"
            await self._manager.run(self._manager.execute, drop)

    async def _copied(self, table: StoredTable, copies: Copies) -> Contents:
        of_it = {"database": self._database, "table": table.name}
        parts = await self._manager.run(self._manager.execute, _PARTS, of_it)
        columns = dict(await self._manager.run(self._manager.execute, _COLUMNS, of_it))
        figures: Mapping[str, SeriesFigures] = {}
        new = {p for p, key, _ in parts if copies.found(NAME, table.name, key) is None}
        if is_of_series(table.name) and new:
            figures = await self._manager.run(self._figures, table.name)
        pieces: list[Piece] = []
        for part, key, rows in parts:
            of_part = figures.get(part) if part in new else None
            stored = None if of_part is None else await copies.figures(encoded(of_part))
            data = partial(self._rows, table.name, part, columns)
            name = f"{table.name}/{part}"
            pieces.append(await copies.piece(NAME, table.name, name, key, data, int(rows), stored))
        whole = hashlib.sha256("".join(sorted(p.key for p in pieces)).encode()).hexdigest()
        details: dict[str, Any] = {"created": table.created, "engine": table.engine}
        details["columns"] = [list(each) for each in columns.items()]  # in order
        if not is_of_series(table.name):
            query = hash_query(self._database, table.name, columns)
            found = await self._manager.run(self._manager.execute, query)
            details["hash"] = [list(row) for row in found]
        rows = sum(piece.rows for piece in pieces)
        return Contents(table.name, KIND, rows, whole, tuple(pieces), details)

    def _figures(self, name: str) -> dict[str, SeriesFigures]:
        found: dict[str, SeriesFigures] = {}
        for part, *row in self._manager.execute(figures_query(self._database, name, by_part=True)):
            found.setdefault(part, {}).update(by_series([row]))
        return found

    def _rows(self, name: str, part: str, columns: Mapping[str, str]) -> Iterator[bytes]:
        """The rows of a part as an Arrow stream."""
        listed = ", ".join(map(quoted, columns))
        query = (
            f"SELECT {listed} FROM {quoted(self._database)}.{quoted(name)}"
            f" WHERE _part = {text_literal(part)}"
        )
        sink = _Sink()
        writer: pa.RecordBatchStreamWriter | None = None
        stored = {n: kind for n, kind in columns.items() if fixed_dtype(kind, raw=True) is not None}
        for block in self._manager.stream_columns(query, block_rows=_BLOCK_ROWS, stored=stored):
            batch = _to_arrow(name, block, None if writer is None else sink.schema)
            if writer is None:
                sink.schema = batch.schema
                writer = pa.ipc.new_stream(sink.file, batch.schema)
            writer.write_batch(batch)
            yield sink.taken()
        if writer is not None:
            writer.close()
            yield sink.taken()


class RowsRestore:
    """Fills a database from rows."""

    def __init__(
        self,
        manager: ClickHouseManager,
        repository: BackupRepository | None,
        database: str | None = None,
    ) -> None:
        self._manager, self._repository = manager, repository
        self.database = database or manager.config.database

    def fill(self, contents: Iterable[Contents], *, merges: bool = True) -> None:
        """Insert all rows; a table that is there is emptied first, another one is made."""
        there = {each.name for each in tables_of(self._manager, self.database)}
        for each in contents:
            if each.kind != KIND:
                raise DamagedBackup(f"table {each.name} is of unknown kind {each.kind!r}")
            if each.name in there:
                name = f"{quoted(self.database)}.{quoted(each.name)}"
                self._manager.execute(f"TRUNCATE TABLE {name} SYNC")
            else:
                created = str(each.details["created"])
                make_table(self._manager, self.database, each.name, created, merges=merges)
            for piece in each.pieces:
                self._insert(each, piece)

    def _insert(self, contents: Contents, piece: Piece) -> None:
        assert self._repository is not None
        types = dict(contents.details["columns"])
        table = f"{quoted(self.database)}.{quoted(contents.name)}"
        file = BufferedReader(_Frames(self._repository.read(piece.object)))
        if not file.peek():
            return
        waiting: list[pa.RecordBatch] = []
        for batch in pa.ipc.open_stream(file):
            waiting.append(batch)
            if sum(each.num_rows for each in waiting) + _BLOCK_ROWS > WRITE_ROWS:
                self._write(table, waiting, types)
                waiting = []
        if waiting:
            self._write(table, waiting, types)
        file.read()  # to its end, where its hash is compared

    def _write(
        self, table: str, batches: Sequence[pa.RecordBatch], types: Mapping[str, str]
    ) -> None:
        rows = pa.Table.from_batches(batches)
        columns = {
            name: Typed(kind, _values(rows.column(name), kind)) for name, kind in types.items()
        }
        # Two parts may hold the same rows; the second is no repetition of the first insert.
        self._manager.insert_columns(
            table, columns, settings={"insert_deduplicate": 0, "optimize_on_insert": 0}
        )


def make_table(
    manager: ClickHouseManager, database: str, name: str, created: str, *, merges: bool = False
) -> None:
    """:param merges: False keeps the engine from joining parts."""
    manager.execute(create_statement(created, database, name))
    if not merges:
        manager.execute(f"SYSTEM STOP MERGES {quoted(database)}.{quoted(name)}")


class _Frames(RawIOBase):
    """The frames of an object as a file that is read from beginning to end."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames, self._rest = frames, b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            frame = next(self._frames, None)
            if frame is None:
                return 0
            self._rest = frame
        data = self._rest[: len(target)]
        target[: len(data)] = data
        self._rest = self._rest[len(data) :]
        return len(data)


class _Sink:
    """What an Arrow stream is written to, given out piece by piece."""

    def __init__(self) -> None:
        self._buffer = BytesIO()
        self.file = pa.PythonFile(self._buffer, mode="w")
        self.schema: pa.Schema | None = None

    def taken(self) -> bytes:
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return data


def _to_arrow(table: str, block: Mapping[str, Any], schema: pa.Schema | None) -> pa.RecordBatch:
    arrays = []
    for name, values in block.items():
        kind = None if schema is None else schema.field(name).type
        try:
            given = list(values) if values.dtype == object else values
            array = pa.array(given, type=kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
            raise StorageError(
                f"Column {name} of table {table} cannot be backed up from a server: {exc}",
                remedy="Back the table up by BACKUP of the server.",
            ) from exc
        if pa.types.is_null(array.type):
            array = array.cast(pa.string())
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=list(block))


def _values(column: pa.ChunkedArray, kind: str) -> Any:
    dtype = fixed_dtype(kind, raw=True)
    if dtype is None:
        return column.to_pylist()
    return np.ascontiguousarray(column.to_numpy(), dtype)
