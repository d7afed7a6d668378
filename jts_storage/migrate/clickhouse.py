"""The migrations of ClickHouse: on Alembic, under a lock, each with a line in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from jts_storage._version import __version__
from jts_storage.clickhouse import errors, system
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.migrate.clickhouse_lock import Lock
from jts_storage.migrate.clickhouse_tables import (
    LOCK_TABLE,
    LOG_TABLE,
    VERSION_TABLE,
    create_statement,
    lock_table,
    log_table,
    version_table,
)
from jts_storage.migrate.copying import Execute, on_every_host
from jts_storage.migrate.files import Migration, discover, root
from jts_storage.migrate.kept_tables import Kept, KeptTables
from jts_storage.migrate.plan import BASE, Direction, Entry, Goal, History, Step, resolve, steps
from jts_storage.migrate.reports import Report, StepFinished, StepStarted, to_log

_SETTINGS: Final[Mapping[str, Any]] = {
    "mutations_sync": 2,
    "async_insert": 0,
    # What is dropped was copied and compared, however large it is.
    "max_table_size_to_drop": 0,
    # Of a shard's replicas the same one is written to and read from: another may lag behind.
    "load_balancing": "in_order",
}
_DOING: Final = "migrating"
_PATIENCE: Final = 60.0


class ClickHouseMigrations:
    """Leads one ClickHouse from migration to migration.

    :param partition_by_year: see `jts_storage.clickhouse.tables.build`.
    :param folder: where migrations are, if not the kit's own.
    :param chunk_rows: about how many rows a copy moves at once.
    """

    store: Final = "clickhouse"

    def __init__(
        self,
        manager: ClickHouseManager,
        *,
        partition_by_year: bool = False,
        folder: Path | None = None,
        chunk_rows: int = 1_000_000,
    ) -> None:
        self._manager = manager
        self._cluster = manager.config.cluster
        self._partition_by_year = partition_by_year
        self._folder = (folder or root()) / self.store
        self._chunk_rows = chunk_rows
        self.files: tuple[Migration, ...] = discover(self.store, folder)

    async def history(self) -> History:
        return await self._manager.run(self._history)

    async def go(
        self, goal: Goal, report: Report = to_log, *, patience: float = _PATIENCE
    ) -> list[Step]:
        """Do what leads to the goal; what was done.

        :raises Conflict: another runner is at it for longer than `patience` seconds.
        """
        if not steps(self.files, await self.history(), goal):
            return []
        from jts_storage.migrate import environment

        async with environment.turn(patience):
            return await self._manager.run(self._go, goal, report, patience)

    async def stamp(self, name: str, *, patience: float = _PATIENCE) -> None:
        """Say that the database stands there, and that the files are those applied."""
        from jts_storage.migrate import environment

        target = resolve(self.files, name)
        async with environment.turn(patience):
            await self._manager.run(self._stamp, target, patience)

    async def sql(self, planned: Sequence[Step]) -> str:
        """What a person would run to take these steps."""
        from jts_storage.migrate import environment
        from jts_storage.migrate.running import RUN_OPTION, Run

        if not planned:
            return ""
        direction = planned[0].direction
        before = Step(planned[0].migration, "down" if direction == "up" else "up").target
        run = Run(None, self._cluster, self._partition_by_year)
        options = {
            "url": "clickhouse+jts://",
            "on_version_apply": self._log_lines(planned),
            RUN_OPTION: run,
            environment.CLUSTER_OPTION: self._cluster,
        }
        async with environment.turn(_PATIENCE):
            text = environment.script(self._folder, before, planned[-1].target, direction, options)
        return "\n".join([*(f"{each};" for each in self._own_tables()), "", text])

    async def kept(self, report: Report = to_log) -> list[Kept]:
        """The tables that migrations replaced and kept, compared with those in their place."""
        return await self._manager.run(
            lambda: self._kept_tables(self._manager.execute).compared(report)
        )

    async def drop_kept(self, kept: Sequence[Kept], *, patience: float = _PATIENCE) -> None:
        """:raises StorageError: one of them has what is nowhere else; then none is dropped."""
        await self._manager.run(self._drop_kept, kept, patience)

    # ---- blocking

    def _drop_kept(self, kept: Sequence[Kept], patience: float) -> None:
        with self._locked(patience) as (connection, _):
            self._kept_tables(_sender(connection)).drop(kept)

    def _kept_tables(self, execute: Execute) -> KeptTables:
        cluster = self._cluster
        return KeptTables(
            execute, self._on_cluster, lambda name: on_every_host(name, cluster), self._chunk_rows
        )

    def _history(self) -> History:
        name = system.tables.c.name
        known = self._manager.execute(
            text_of(
                select(name).where(
                    system.is_here(system.tables), name.in_((VERSION_TABLE, LOG_TABLE))
                )
            )
        )
        names = {name for (name,) in known}
        return History(
            self._current() if VERSION_TABLE in names else None,
            self._entries() if LOG_TABLE in names else {},
        )

    def _current(self) -> str | None:
        latest = select(func.max(version_table(self._cluster).c.version_num))
        rows = self._manager.execute(text_of(latest))
        return str(rows[0][0]) or None

    def _entries(self) -> dict[str, Entry]:
        c = log_table(self._cluster).c
        last = func.argMax(c.direction, c.id)
        rows = self._manager.execute(
            text_of(
                select(c.revision, func.argMax(c.checksum, c.id), func.argMax(c.at, c.id), last)
                .group_by(c.revision)
                .having(last != "down")
            )
        )
        return {revision: Entry(checksum, _aware(at)) for revision, checksum, at, _ in rows}

    def _go(self, goal: Goal, report: Report, patience: float) -> list[Step]:
        with self._locked(patience) as (connection, alive):
            planned = steps(self.files, self._history(), goal)
            for step in planned:
                self._take(step, connection, report, alive)
            return planned

    def _take(self, step: Step, connection: Connection, report: Report, alive: Any) -> None:
        from jts_storage.migrate import environment

        report(StepStarted(step))
        began = time.monotonic()
        options = self._options(connection, [step], report, alive)
        environment.move(self._folder, step.target, step.direction, options)
        report(StepFinished(step, time.monotonic() - began))

    def _stamp(self, target: str | None, patience: float) -> None:
        from jts_storage.migrate import environment

        with self._locked(patience) as (connection, alive):
            stamped = [f for f in self.files if target is not None and f.revision <= target]
            options = self._options(connection, [], to_log, alive)
            # Alembic's own way of forgetting is a DELETE without a condition, which is refused.
            # Core knows no TRUNCATE.
            for table in (VERSION_TABLE, LOG_TABLE):
                connection.exec_driver_sql(f"TRUNCATE TABLE IF EXISTS {table}{self._on_cluster}")
            environment.stamp(self._folder, target or BASE, options)
            for migration in stamped:
                connection.exec_driver_sql(self._log_line(migration, "stamp"))

    @contextmanager
    def _locked(self, patience: float) -> Iterator[tuple[Connection, Any]]:
        # Connections of its own: a pool of one would be taken by Alembic, and a long copy must
        # not keep the service from its own.
        config = self._manager.config
        own = ClickHouseManager(config, pool_size=2, max_overflow=2)
        try:
            with errors.translated(_DOING, config.hosts), own.engine.connect() as plain:
                connection = plain.execution_options(settings=dict(_SETTINGS))
                for statement in self._own_tables():
                    connection.exec_driver_sql(statement)
                lock = Lock(_sender(connection), self._cluster)
                with lock.held(patience) as alive:
                    yield connection, alive
        finally:
            own.close()

    def _own_tables(self) -> list[str]:
        tables = (lock_table(self._cluster), log_table(self._cluster))
        return [create_statement(table) for table in tables]

    @property
    def _on_cluster(self) -> str:
        return f" ON CLUSTER {self._cluster}" if self._cluster else ""

    def _options(
        self, connection: Connection, planned: Sequence[Step], report: Report, alive: Any
    ) -> dict[str, Any]:
        from jts_storage.migrate import environment
        from jts_storage.migrate.running import RUN_OPTION, Run

        run = Run(
            execute=_sender(connection),
            cluster=self._cluster,
            partition_by_year=self._partition_by_year,
            report=report,
            alive=alive,
            chunk_rows=self._chunk_rows,
        )
        return {
            "connection": connection,
            "on_version_apply": self._log_lines(planned),
            RUN_OPTION: run,
            environment.CLUSTER_OPTION: self._cluster,
        }

    def _log_lines(self, planned: Sequence[Step]) -> Any:
        by_revision = {step.migration.revision: step for step in planned}

        def write(*, ctx: Any, step: Any, **_: Any) -> None:
            taken = by_revision.get(step.up_revision_id)
            if taken is not None:
                ctx.execute(self._log_line(taken.migration, taken.direction))

        return write

    def _log_line(self, migration: Migration, direction: Direction | str) -> str:
        row = insert(log_table(self._cluster)).values(
            id=time.time_ns(),
            revision=migration.revision,
            title=migration.title,
            direction=direction,
            checksum=migration.checksum,
            kit=__version__,
        )
        return text_of(row)


def _sender(connection: Connection) -> Any:
    """Sends statements on Alembic's own connection."""

    def send(sql: str, *, settings: Mapping[str, Any] | None = None) -> Any:
        transport = connection.connection.dbapi_connection.transport  # type: ignore[union-attr]
        return transport.execute(sql, settings={**_SETTINGS, **(settings or {})})

    return send


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


OWN_TABLES: Final = frozenset({VERSION_TABLE, LOG_TABLE, LOCK_TABLE})
