"""The migrations of the SQL database: on Alembic, all of a run in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Insert,
    MetaData,
    Table,
    Text,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateTable

from jts_storage._version import __version__
from jts_storage.migrate.files import Migration, discover, root
from jts_storage.migrate.plan import BASE, Entry, Goal, History, Step, resolve, steps
from jts_storage.migrate.reports import Report, StepFinished, StepStarted, to_log
from jts_storage.relational.manager import DatabaseManager

_VERSION_TABLE: Final = "jts_schema_version"
_PATIENCE: Final = 60.0
_LONGEST_STATEMENT: Final = 86_400.0
_LOCK_KEY: Final = 0x6A74735F73636865  # "jts_sche"

_LOG = Table(
    "jts_schema_log",
    MetaData(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("kit", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

OWN_TABLES: Final = frozenset({_VERSION_TABLE, _LOG.name})


class RelationalMigrations:
    """Leads one SQL database from migration to migration.

    :param folder: where migrations are, if not the kit's own.
    """

    store: Final = "relational"

    def __init__(self, manager: DatabaseManager, *, folder: Path | None = None) -> None:
        self._manager = manager
        self._folder = (folder or root()) / self.store
        self.files: tuple[Migration, ...] = discover(self.store, folder)

    async def history(self) -> History:
        async with self._manager.connection() as connection:
            return await connection.run_sync(_history)

    async def go(
        self, goal: Goal, report: Report = to_log, *, patience: float = _PATIENCE
    ) -> list[Step]:
        """Do what leads to the goal, all of it or nothing; what was done.

        :raises Conflict: another runner is at it for longer than `patience` seconds.
        """
        if not steps(self.files, await self.history(), goal):
            return []

        def work(connection: Connection) -> list[Step]:
            planned = steps(self.files, _history(connection), goal)
            for step in planned:
                self._take(step, connection, report)
            return planned

        from jts_storage.migrate import environment

        async with environment.turn(patience):
            done: list[Step] = await self._locked(work, patience)
            return done

    async def stamp(self, name: str, *, patience: float = _PATIENCE) -> None:
        """Say that the database stands there, and that the files are those applied."""
        from jts_storage.migrate import environment

        target = resolve(self.files, name)

        def work(connection: Connection) -> None:
            environment.stamp(self._folder, target or BASE, self._options(connection, []))
            connection.execute(_LOG.delete())
            for migration in self.files:
                if target is not None and migration.revision <= target:
                    connection.execute(_log_line(migration, "stamp"))

        async with environment.turn(patience):
            await self._locked(work, patience)

    async def sql(self, planned: Sequence[Step]) -> str:
        """What a person would run to take these steps."""
        from jts_storage.migrate import environment

        if not planned:
            return ""
        direction = planned[0].direction
        before = Step(planned[0].migration, "down" if direction == "up" else "up").target
        dialect = self._manager.engine.dialect
        options = {
            "dialect_name": dialect.name,
            "literal_binds": True,
            "on_version_apply": _log_lines(planned),
        }
        create = str(CreateTable(_LOG, if_not_exists=True).compile(dialect=dialect)).strip()
        async with environment.turn(_PATIENCE):
            moved = environment.script(self._folder, before, planned[-1].target, direction, options)
        return f"{create};\n\n{moved}"

    async def _locked(self, work: Callable[[Connection], Any], patience: float) -> Any:
        """Do it in one transaction that no other runner has at the same time."""
        config = self._manager.config
        if config.is_memory:
            async with self._manager.transaction() as connection:
                return await connection.run_sync(_prepared, work)
        patient = replace(config, statement_timeout=_LONGEST_STATEMENT, lock_timeout=patience)
        own = DatabaseManager(patient)
        try:
            async with own.transaction() as connection:
                return await connection.run_sync(_prepared, work)
        finally:
            await own.close()

    def _take(self, step: Step, connection: Connection, report: Report) -> None:
        from jts_storage.migrate import environment

        report(StepStarted(step))
        began = time.monotonic()
        options = self._options(connection, [step])
        environment.move(self._folder, step.target, step.direction, options)
        report(StepFinished(step, time.monotonic() - began))

    def _options(self, connection: Connection, planned: Sequence[Step]) -> dict[str, Any]:
        return {
            "connection": connection,
            # SQLite alters little; Alembic makes the table anew there.
            "render_as_batch": True,
            "on_version_apply": _log_lines(planned),
        }


def _prepared(connection: Connection, work: Callable[[Connection], Any]) -> Any:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
    _LOG.create(connection, checkfirst=True)
    return work(connection)


def _history(connection: Connection) -> History:
    present = set(inspect(connection).get_table_names())
    current = None
    if _VERSION_TABLE in present:
        current = connection.execute(
            text(f"SELECT max(version_num) FROM {_VERSION_TABLE}")
        ).scalar_one()
    return History(current, _entries(connection) if _LOG.name in present else {})


def _entries(connection: Connection) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for row in connection.execute(select(_LOG).order_by(_LOG.c.id)):
        if row.direction == "down":
            found.pop(row.revision, None)
        else:
            at = row.at if row.at.tzinfo else row.at.replace(tzinfo=UTC)
            found[row.revision] = Entry(row.checksum, at)
    return found


def _log_lines(planned: Sequence[Step]) -> Any:
    by_revision = {step.migration.revision: step for step in planned}

    def write(*, ctx: Any, step: Any, **_: Any) -> None:
        taken = by_revision.get(step.up_revision_id)
        if taken is not None:
            ctx.impl.execute(_log_line(taken.migration, taken.direction))

    return write


def _log_line(migration: Migration, direction: str) -> Insert:
    return _LOG.insert().values(
        id=time.time_ns(),
        revision=migration.revision,
        title=migration.title,
        direction=direction,
        checksum=migration.checksum,
        kit=__version__,
        at=datetime.now(UTC),
    )
