"""PostgreSQL through asyncpg."""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.relational import mappers, statements
from jts_storage.relational.link import Link, ResultRows
from jts_storage.relational.statements import Statement
from jts_storage.settings import DatabaseConfig

_COPY_ROWS = 262_144
_MILLISECONDS = 1_000


_SAFELY_COMMITTING = """
SELECT current_setting('fsync'), set_config('synchronous_commit',
  CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
  false)
"""
_log = logging.getLogger(__name__)


class PostgresLink(Link):
    def __init__(self, connection: AsyncConnection, driver: asyncpg.Connection[Any]) -> None:
        super().__init__(connection)
        self.driver = driver

    @property
    def is_open(self) -> bool:
        return not self.driver.is_closed()

    @property
    def in_transaction(self) -> bool:
        return self.driver.is_in_transaction()

    async def fetch(self, statement: Statement, **values: Any) -> ResultRows:
        prepared = statement.postgres
        return cast(ResultRows, await self.driver.fetch(prepared.sql, *prepared.args(values)))

    async def change(self, statement: Statement, **values: Any) -> int:
        prepared = statement.postgres
        status = await self.driver.execute(prepared.sql, *prepared.args(values))
        return int(status.rpartition(" ")[2])

    async def execute(self, sql: str) -> None:
        await self.driver.execute(sql)

    async def lock(self, name: str) -> None:
        await self.driver.execute(statements.POSTGRES_LOCK, name)

    async def write_bars(self, key: SeriesKey, columns: Columns) -> None:
        await self.driver.execute(statements.POSTGRES_CREATE_STAGE)
        for start in range(0, columns.rows, _COPY_ROWS):
            part = columns.take(slice(start, start + _COPY_ROWS))
            # A unit of work may save several times within one transaction.
            await self.driver.execute(statements.POSTGRES_CLEAR_STAGE)
            await self.driver.copy_to_table(
                statements.POSTGRES_STAGE, source=io.BytesIO(mappers.to_copy(part)), format="binary"
            )
            await self.driver.execute(
                statements.POSTGRES_UPSERT, key.symbol, key.exchange, key.timeframe.value
            )

    async def read_bars(self, key: SeriesKey, first: int, last: int, limit: int) -> Columns:
        parts: list[bytes] = []

        async def keep(data: bytes) -> None:
            parts.append(data)

        await self.driver.copy_from_query(
            statements.POSTGRES_READ,
            key.symbol,
            key.exchange,
            key.timeframe.value,
            first,
            last,
            limit,
            output=keep,
            format="binary",
        )
        return mappers.from_copy(b"".join(parts))

    def moment(self, value: datetime) -> datetime:
        return value

    async def break_off(self) -> None:
        self.driver.terminate()
        await super().break_off()

    def abandon(self) -> None:
        with suppress(RuntimeError):  # its event loop is closed: the socket goes with the object
            self.driver.terminate()
        super().abandon()


def create_engine(config: DatabaseConfig) -> AsyncEngine:
    options = dict(config.options)
    mode = options.pop("sslmode", None) or options.pop("ssl", None)
    arguments: dict[str, Any] = {
        "timeout": config.connect_timeout,
        "command_timeout": config.statement_timeout + 5,
        "target_session_attrs": config.role,
        "server_settings": {
            "application_name": options.get("application_name", "jts-storage"),
            "statement_timeout": str(int(config.statement_timeout * _MILLISECONDS)),
            "lock_timeout": str(int(config.lock_timeout * _MILLISECONDS)),
            "timezone": "UTC",
        },
    }
    if mode is not None:
        arguments["ssl"] = mode
    if len(config.nodes) > 1:
        arguments["host"], arguments["port"] = map(list, zip(*config.nodes, strict=True))
    engine = create_async_engine(config.sqlalchemy_url, connect_args=arguments, poolclass=NullPool)
    has_warned = False

    @event.listens_for(engine.sync_engine, "connect")
    def _set_up(dbapi_connection: Any, _: Any) -> None:
        """Make commits wait for the disk, whatever role, database or server are configured to."""
        nonlocal has_warned
        (fsync, _commit) = dbapi_connection.run_async(
            lambda driver: driver.fetchrow(_SAFELY_COMMITTING)
        )
        if fsync == "off" and not has_warned:
            has_warned = True
            _log.warning(
                "PostgreSQL at %s runs with fsync=off: what it acknowledges can be lost, and the"
                " database with it, when the machine stops. Set fsync=on in its configuration.",
                ", ".join(config.hosts),
            )

    return engine
