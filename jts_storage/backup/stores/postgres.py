"""PostgreSQL: a repeatable-read transaction, and the rows of each table as COPY writes them."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage._runtime.tasks import stopped
from jts_storage.backup.copying import Copies
from jts_storage.backup.manifest import Contents, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository
from jts_storage.relational.errors import is_driver_error
from jts_storage.relational.manager import DatabaseManager

NAME: Final = "database"
KIND: Final = "copy"
_OF_SCHEMA: Final = "jts_schema_"
_LEAST_BYTES, _MOST_BYTES = 256 << 10, 4 << 20
_MARKS: Final = 0x3FF
_AHEAD: Final = 16

_SAME_TEXT: Final = (
    "SET statement_timeout = 0; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD';"
    " SET extra_float_digits = 1; SET bytea_output = 'hex'"
)
"""So that the same rows are the same text, whoever asks."""

_TABLES: Final = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum),
  (SELECT array_agg(k.attname::text ORDER BY array_position(i.indkey::int[], k.attnum::int))
   FROM pg_index i JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = ANY(i.indkey)
   WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = ''
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
GROUP BY c.oid, c.relname ORDER BY c.relname
"""


class PostgresBackup:
    """A `StoreBackup` of one schema."""

    name = NAME

    def __init__(self, manager: DatabaseManager) -> None:
        self._manager = manager
        self._connection: AsyncConnection | None = None
        self._driver: Any = None

    async def prepare(self) -> None:
        self._connection, self._driver = await _connected(self._manager)

    async def pin(self) -> None:
        await self._driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # BEGIN alone sees nothing: the first statement does.
        await self._driver.execute("SELECT pg_current_snapshot()")

    async def copy(self, copies: Copies) -> StoreCopy:
        version = await self._driver.fetchval("SHOW server_version")
        contents = []
        for name, columns, key in await tables_in(self._driver):
            contents.append(await self._copied(name, columns, key, copies))
        return StoreCopy(f"PostgreSQL {version}", {}, tuple(contents))

    async def release(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()

    async def _copied(
        self, name: str, columns: Sequence[str], key: Sequence[str], copies: Copies
    ) -> Contents:
        pieces: list[Piece] = []
        whole = hashlib.sha256()
        async for data in text_of(self._driver, _quoted(name), columns, key):
            whole.update(data)
            its = hashlib.sha256(data).hexdigest()
            rows = data.count(b"\n")
            part = f"{name}/{len(pieces)}"
            give = partial(_as_list, data)
            pieces.append(await copies.piece(NAME, name, part, its, give, rows))
        rows = sum(piece.rows for piece in pieces)
        details = {"columns": list(columns), "key": list(key)}
        return Contents(name, KIND, rows, whole.hexdigest(), tuple(pieces), details)


class PostgresRestore:
    """Fills the tables of PostgreSQL from a backup.

    :param schema: of scratch tables.
    """

    def __init__(
        self, manager: DatabaseManager, repository: BackupRepository | None, schema: str = ""
    ) -> None:
        self._manager, self._repository, self._schema = manager, repository, schema

    async def fill(self, copy: StoreCopy) -> None:
        """Put the rows in place of those that are there, in one transaction."""
        connection, driver = await _connected(self._manager)
        try:
            async with driver.transaction():
                for contents in copy.contents:
                    await driver.execute(f"TRUNCATE {_quoted(contents.name)}")
                    await self._fill(driver, contents, None)
        except Exception as exc:
            if is_driver_error(exc):
                raise self._manager.translate(exc, "restoring") from exc
            raise
        finally:
            await connection.invalidate()
            await connection.close()

    async def tried(self, copy: StoreCopy) -> list[str]:
        """Fill tables like the live ones; what is otherwise in them than the backup says."""
        connection, driver = await _connected(self._manager)
        try:
            await driver.execute(f"CREATE SCHEMA {_quoted(self._schema)}")
            faults = []
            for contents in copy.contents:
                name = f"{_quoted(self._schema)}.{_quoted(contents.name)}"
                await driver.execute(
                    f"CREATE TABLE {name} (LIKE {_quoted(contents.name)} INCLUDING ALL)"
                )
                await self._fill(driver, contents, self._schema)
                faults += await _differing(driver, contents, name)
            return faults
        except Exception as exc:
            if is_driver_error(exc):
                raise self._manager.translate(exc, "verifying") from exc
            raise
        finally:
            await driver.execute(f"DROP SCHEMA IF EXISTS {_quoted(self._schema)} CASCADE")
            await connection.invalidate()
            await connection.close()

    async def differing(self, copy: StoreCopy) -> list[str]:
        """What is stored otherwise than the backup says."""
        connection, driver = await _connected(self._manager)
        try:
            found: list[str] = []
            for contents in copy.contents:
                found += await _differing(driver, contents, _quoted(contents.name))
            return found
        finally:
            await connection.invalidate()
            await connection.close()

    async def schemas(self, prefix: str) -> set[str]:
        """The schemas whose names begin so."""
        connection, driver = await _connected(self._manager)
        try:
            found = await driver.fetch("SELECT nspname FROM pg_namespace")
            return {name for (name,) in found if name.startswith(prefix)}
        finally:
            await connection.invalidate()
            await connection.close()

    async def drop(self, names: Iterable[str]) -> None:
        """Remove scratch schemas."""
        connection, driver = await _connected(self._manager)
        try:
            for name in names:
                await driver.execute(f"DROP SCHEMA IF EXISTS {_quoted(name)} CASCADE")
        finally:
            await connection.invalidate()
            await connection.close()

    async def _fill(self, driver: Any, contents: Contents, schema: str | None) -> None:
        assert self._repository is not None
        for piece in contents.pieces:
            data = b"".join(self._repository.read(piece.object))
            await driver.copy_to_table(
                contents.name,
                schema_name=schema,
                columns=contents.details["columns"],
                source=_once(data),
                format="text",
            )


async def _differing(driver: Any, contents: Contents, name: str) -> list[str]:
    whole, rows = hashlib.sha256(), 0
    details = contents.details
    async for data in text_of(driver, name, details["columns"], details["key"]):
        whole.update(data)
        rows += data.count(b"\n")
    if rows != contents.rows:
        return [f"table {contents.name} has {rows} rows instead of {contents.rows}"]
    if whole.hexdigest() != contents.fingerprint:
        return [f"the rows of table {contents.name} are others"]
    return []


async def tables_in(driver: Any) -> list[tuple[str, list[str], list[str]]]:
    """The tables of the schema with their columns and their keys, but for those of migrations."""
    found = await driver.fetch(_TABLES)
    return [
        (name, list(columns), list(key or columns))
        for name, columns, key in found
        if not name.startswith(_OF_SCHEMA)
    ]


async def text_of(
    driver: Any, name: str, columns: Sequence[str], key: Sequence[str]
) -> AsyncIterator[bytes]:
    """The rows of a table in the order of their keys, cut where a row says so."""
    listed, order = (", ".join(map(_quoted, each)) for each in (columns, key))
    query = f"SELECT {listed} FROM {name} ORDER BY {order}"
    waiting: list[bytes] = []
    size = 0
    rest = b""
    async for data in _copied_out(driver, query):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            waiting.append(line)
            size += len(line) + 1
            is_mark = size >= _LEAST_BYTES and zlib.crc32(line) & _MARKS == 0
            if is_mark or size >= _MOST_BYTES:
                yield b"\n".join([*waiting, b""])
                waiting, size = [], 0
    if waiting:
        yield b"\n".join([*waiting, b""])


async def _copied_out(driver: Any, query: str) -> AsyncIterator[bytes]:
    """What COPY says, a few blocks ahead of who takes them."""
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)

    async def copy() -> None:
        try:
            await driver.copy_from_query(query, output=blocks.put, format="text")
        finally:
            await blocks.put(None)

    copying = asyncio.create_task(copy())
    try:
        while (block := await blocks.get()) is not None:
            yield bytes(block)
        await copying
    finally:
        await stopped(copying)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _connected(manager: DatabaseManager) -> tuple[AsyncConnection, Any]:
    """A connection that is the caller's, and the driver's own."""
    try:
        connection = await manager.engine.connect()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute(_SAME_TEXT)
    except Exception as exc:
        if is_driver_error(exc):
            raise manager.translate(exc, "connecting") from exc
        raise
    return connection, driver


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _as_list(data: bytes) -> Iterable[bytes]:
    return [data]
