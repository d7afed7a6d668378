"""The migrations of the SQL database: on Alembic, all of a run in one transaction."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Executable,
    MetaData,
    Table,
    Text,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateTable

from jts_storage.migrate.alembic_migrations import (
    AlembicCall,
    AlembicMigrations,
    Options,
    T,
)
from jts_storage.migrate.base import applied, log_values
from jts_storage.migrate.files import Chain, Migration
from jts_storage.migrate.plan import History
from jts_storage.migrate.reports import Report
from jts_storage.relational.manager import DatabaseManager

_LONGEST_STATEMENT: Final = 86_400.0
_LOCK_KEY: Final = 0x6A74735F73636865  # "jts_sche"

_LOG_TABLE: Final = "jts_schema_log"


class RelationalMigrations(AlembicMigrations):
    """Leads one SQL database from migration to migration, all of the way or none of it."""

    store = "relational"

    def __init__(self, manager: DatabaseManager, *, chain: Chain | None = None) -> None:
        super().__init__(chain)
        self._manager = manager
        self._log_table = _log_table(f"{_LOG_TABLE}{self.chain.suffix}")

    async def history(self) -> History:
        async with self._manager.connection() as connection:
            return await connection.run_sync(self._history)

    async def _locked(self, work: AlembicCall[T], report: Report, patience: float) -> T:
        """Do it in one transaction that no other runner has at the same time."""

        def prepared(connection: Connection) -> T:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            self._log_table.create(connection, checkfirst=True)
            # SQLite alters little; Alembic makes the table anew there.
            return work(connection, self._running(connection, render_as_batch=True))

        config = self._manager.config
        if config.is_memory:
            async with self._manager.transaction() as connection:
                return await connection.run_sync(prepared)
        patient = replace(config, statement_timeout=_LONGEST_STATEMENT, lock_timeout=patience)
        own = DatabaseManager(patient)
        try:
            async with own.transaction() as connection:
                return await connection.run_sync(prepared)
        finally:
            await own.close()

    def _history(self, connection: Connection) -> History:
        present = set(inspect(connection).get_table_names())
        current = None
        if self._version_table in present:
            latest = text(f"SELECT max(version_num) FROM {self._version_table}")
            current = connection.execute(latest).scalar_one()
        if self._log_table.name not in present:
            return History(current)
        c = self._log_table.c
        log = select(c.revision, c.direction, c.checksum, c.at).order_by(c.id)
        return History(current, applied(map(tuple, connection.execute(log))))

    def _forget(self, connection: Connection) -> None:
        connection.execute(self._log_table.delete())

    def _send(self, connection: Connection, statement: Executable) -> None:
        connection.execute(statement)

    def _own_tables(self) -> list[str]:
        create = CreateTable(self._log_table, if_not_exists=True)
        return [str(create.compile(dialect=self._manager.engine.dialect)).strip()]

    def _printing(self) -> Options:
        return {"dialect_name": self._manager.engine.dialect.name, "literal_binds": True}

    def _log_line(self, migration: Migration, direction: Any) -> Executable:
        written = {"id": time.time_ns(), "at": datetime.now(UTC)}
        return self._log_table.insert().values(log_values(migration, direction) | written)


@cache
def _log_table(name: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("revision", Text, nullable=False),
        Column("title", Text, nullable=False),
        Column("direction", Text, nullable=False),
        Column("checksum", Text, nullable=False),
        Column("kit", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
    )
