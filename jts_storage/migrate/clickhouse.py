"""The migrations of ClickHouse: on Alembic, under a lock, each with a line in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from jts_storage.clickhouse import errors
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.migrate.alembic_migrations import (
    AlembicCall,
    AlembicMigrations,
    Options,
    T,
)
from jts_storage.migrate.base import PATIENCE, applied, log_values
from jts_storage.migrate.clickhouse_lock import Lock
from jts_storage.migrate.clickhouse_tables import (
    LOG_TABLE,
    create_statement,
    lock_table,
    log_table,
    version_table,
)
from jts_storage.migrate.copying import Execute, table_names
from jts_storage.migrate.files import Chain, Migration
from jts_storage.migrate.kept_tables import Kept, KeptTables
from jts_storage.migrate.plan import History
from jts_storage.migrate.reports import Report, to_log
from jts_storage.migrate.running import RUN_OPTION, Run

_SETTINGS: Final[Mapping[str, Any]] = {
    "mutations_sync": 2,
    "async_insert": 0,
    # What is dropped was copied and compared, however large it is.
    "max_table_size_to_drop": 0,
    # Of a shard's replicas the same one is written to and read from: another may lag behind.
    "load_balancing": "in_order",
}
_DOING: Final = "migrating"


class ClickHouseMigrations(AlembicMigrations):
    """Leads one ClickHouse from migration to migration.

    :param partition_by_year: see `jts_storage.clickhouse.tables.build`.
    :param chunk_rows: about how many rows a copy moves at once.
    """

    store = "clickhouse"

    def __init__(
        self,
        manager: ClickHouseManager,
        *,
        partition_by_year: bool = False,
        chain: Chain | None = None,
        chunk_rows: int = 1_000_000,
    ) -> None:
        super().__init__(chain)
        self._manager = manager
        self._cluster = manager.config.cluster
        self._log_table = log_table(self._cluster, f"{LOG_TABLE}{self.chain.suffix}")
        self._printed = Run(None, self._cluster, partition_by_year, chunk_rows=chunk_rows)

    async def history(self) -> History:
        return await self._manager.run(self._read_history, self._manager.execute)

    async def kept(self, report: Report = to_log) -> list[Kept]:
        """The tables that migrations replaced and kept, compared with those in their place."""
        kept = KeptTables(self._manager.execute, self._printed)
        return await self._manager.run(kept.compared, report)

    async def drop_kept(self, kept: Sequence[Kept], *, patience: float = PATIENCE) -> None:
        """:raises StorageError: one of them has what is nowhere else; then none is dropped."""

        def work(connection: Connection, _: Options) -> None:
            KeptTables(_sender(connection), self._printed).drop(kept)

        await self._locked(work, to_log, patience)

    # ---- blocking

    def _history(self, connection: Connection) -> History:
        return self._read_history(_sender(connection))

    def _read_history(self, execute: Execute) -> History:
        known = table_names(execute)
        current, log = None, []
        if self._version_table in known:
            versions = version_table(self._cluster, self._version_table)
            latest = select(func.max(versions.c.version_num))
            current = str(execute(text_of(latest))[0][0]) or None
        if self._log_table.name in known:
            c = self._log_table.c
            columns = select(c.revision, c.direction, c.checksum, c.at)
            log = execute(text_of(columns.order_by(c.id)))
        return History(current, applied(log))

    async def _locked(self, work: AlembicCall[T], report: Report, patience: float) -> T:
        return await self._manager.run(self._work_locked, work, report, patience)

    def _work_locked(self, work: AlembicCall[T], report: Report, patience: float) -> T:
        # Connections of its own: a pool of one would be taken by Alembic, and a long copy must
        # not keep the service from its own.
        config = self._manager.config
        own = ClickHouseManager(config, pool_size=2, max_overflow=2)
        try:
            with errors.translated(_DOING, config.hosts), own.engine.connect() as plain:
                connection = plain.execution_options(settings=dict(_SETTINGS))
                for statement in self._own_tables():
                    self._send(connection, statement)
                execute = _sender(connection)
                with Lock(execute, self._cluster).held(patience) as alive:
                    run = replace(self._printed, execute=execute, report=report, alive=alive)
                    return work(connection, self._running(connection, **{RUN_OPTION: run}))
        finally:
            own.close()

    def _forget(self, connection: Connection) -> None:
        # Alembic's own way of forgetting is a DELETE without a condition, which is refused.
        # Core knows no TRUNCATE.
        for table in (self._version_table, self._log_table.name):
            self._send(connection, f"TRUNCATE TABLE IF EXISTS {table}{self._printed.on_cluster}")

    def _send(self, connection: Connection, statement: str) -> None:
        connection.exec_driver_sql(statement)

    def _own_tables(self) -> list[str]:
        tables = (lock_table(self._cluster), self._log_table)
        return [create_statement(table) for table in tables]

    def _printing(self) -> Options:
        return {"url": "clickhouse+jts://", RUN_OPTION: self._printed}

    def _log_line(self, migration: Migration, direction: Any) -> str:
        row = log_values(migration, direction) | {"id": time.time_ns()}
        return text_of(insert(self._log_table).values(row))


def _sender(connection: Connection) -> Any:
    """Sends statements on Alembic's own connection."""

    def send(sql: str, *, settings: Mapping[str, Any] | None = None) -> Any:
        transport = connection.connection.dbapi_connection.transport  # type: ignore[union-attr]
        return transport.execute(sql, settings={**_SETTINGS, **(settings or {})})

    return send
