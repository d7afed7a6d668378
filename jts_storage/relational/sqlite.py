"""SQLite through aiosqlite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, concatenate
from jts_storage.errors import ConnectionFailed
from jts_storage.relational import mappers, statements
from jts_storage.relational.link import Link, ResultRows
from jts_storage.relational.statements import Statement
from jts_storage.settings import DatabaseConfig

READS_ONLY = "jts_reads_only"
"""Key in a connection's `info`: its next transaction shall not claim the file for writing."""

# Rows an upsert: with three parameters for the key 603, below the 999 of SQLite before 3.32.
_UPSERT_ROWS = 100
_READ_ROWS = 65_536
# Where WAL cannot be had, FULL loses a transaction whose journal's deletion a power cut undoes.
_SYNCHRONOUS = {"FULL": "EXTRA", "NORMAL": "NORMAL"}
_UPSERT = statements.sqlite_upsert(_UPSERT_ROWS)


class _Connection(sqlite3.Connection):
    """Closing it frees the file, even if a cursor of it lives on, as after a cancellation."""

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


class SqliteLink(Link):
    begin_statement = "BEGIN IMMEDIATE"

    def __init__(self, connection: AsyncConnection, driver: aiosqlite.Connection) -> None:
        super().__init__(connection)
        self.driver = driver

    @property
    def is_open(self) -> bool:
        return not self.connection.closed and not self.connection.invalidated

    @property
    def in_transaction(self) -> bool:
        return self.driver.in_transaction

    async def fetch(self, statement: Statement, **values: Any) -> ResultRows:
        prepared = statement.sqlite
        return list(await self.driver.execute_fetchall(prepared.sql, prepared.args(values)))

    async def change(self, statement: Statement, **values: Any) -> int:
        prepared = statement.sqlite
        cursor = await self.driver.execute(prepared.sql, prepared.args(values))
        await cursor.close()
        return cursor.rowcount

    async def execute(self, sql: str) -> None:
        await self.driver.execute_fetchall(sql)

    async def lock(self, name: str) -> None:
        """Nothing is left to do: the transaction holds the whole file."""

    async def write_bars(self, key: SeriesKey, columns: Columns) -> None:
        whole = columns.rows // _UPSERT_ROWS * _UPSERT_ROWS
        if whole:
            rows = _parameters(key, columns.take(slice(whole)), _UPSERT_ROWS)
            await (await self.driver.executemany(_UPSERT, rows)).close()
        if rest := columns.rows - whole:
            rows = _parameters(key, columns.take(slice(whole, None)), rest)
            await self.driver.execute_fetchall(statements.sqlite_upsert(rest), next(rows))

    async def read_bars(self, key: SeriesKey, first: int, last: int, limit: int) -> Columns:
        values = (key.symbol, key.exchange, key.timeframe.value, first, last, limit)
        cursor = await self.driver.execute(statements.SQLITE_READ, values)
        try:
            parts = []
            while rows := list(await cursor.fetchmany(_READ_ROWS)):
                parts.append(mappers.from_rows(rows, len(rows)))
        finally:
            await cursor.close()
        return concatenate(parts)

    def moment(self, value: datetime) -> str:
        return mappers.moment_text(value)

    def moment_by_default(self, value: datetime) -> str:
        return mappers.moment_text(value, timespec="seconds")

    async def break_off(self) -> None:
        with suppress(ValueError):
            await self.driver.interrupt()
        # aiosqlite closes behind what still runs, which rolls its transaction back.
        await super().break_off()

    def abandon(self) -> None:
        self.driver.stop()
        super().abandon()


def _parameters(key: SeriesKey, columns: Columns, rows: int) -> Iterator[list[Any]]:
    """Parameters of one upsert after the other; made in the driver's thread, as it asks."""
    prefix = [key.symbol, key.exchange, key.timeframe.value]
    block = _READ_ROWS // rows * rows
    for start in range(0, columns.rows, block):
        part = mappers.matrix(columns.take(slice(start, start + block)))
        for values in part.reshape(-1, rows * mappers.COLUMNS).tolist():
            yield prefix + values


def create_engine(config: DatabaseConfig) -> AsyncEngine:
    """An engine whose transactions claim the file at once, so that writers queue, not fail."""
    if config.path is not None:
        try:
            config.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConnectionFailed(
                f"Database connection failed: the folder of {config.path} cannot be made: {exc}",
                hosts=config.hosts,
            ) from exc
    engine = create_async_engine(
        config.sqlalchemy_url,
        connect_args={"timeout": config.lock_timeout, "factory": _Connection},
        poolclass=StaticPool if config.is_memory else NullPool,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _set_up(dbapi_connection: Any, _: Any) -> None:
        # The driver shall begin nothing by itself; see _begin.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {_SYNCHRONOUS[config.synchronous]}",
            "fullfsync = ON",  # macOS: fsync alone leaves the rows in the drive's cache
            "checkpoint_fullfsync = ON",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_isolation_level() == "AUTOCOMMIT":
            return
        reads_only = connection.info.get(READS_ONLY, False)
        connection.exec_driver_sql("BEGIN DEFERRED" if reads_only else "BEGIN IMMEDIATE")

    return engine
