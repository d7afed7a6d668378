"""Migrations on Alembic, whose steps block and which runs once at a time in a process."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import Connection

from jts_storage.migrate.base import PATIENCE, Migrations, told
from jts_storage.migrate.files import Migration
from jts_storage.migrate.plan import Direction, Goal, History, Step
from jts_storage.migrate.reports import Report, to_log

T = TypeVar("T")

if (_alembic := logging.getLogger("alembic")).level == logging.NOTSET:
    # At INFO it tells of each step three times; who wants that sets its level before.
    _alembic.setLevel(logging.WARNING)

VERSION_TABLE: Final = "jts_schema_version"
"""In all SQL databases; a service's own chain has one beside it."""

Options: TypeAlias = Mapping[str, Any]
AlembicCall: TypeAlias = Callable[[Connection, Options], T]


class Scripts(NamedTuple):
    """Where Alembic finds its environment, and the migrations."""

    home: Path
    versions: Path


class AlembicMigrations(Migrations):
    """Leads one SQL database from migration to migration.

    Alembic is imported when there is something to do: most runs find that there is nothing.
    """

    async def _sql(self, planned: Sequence[Step]) -> str:
        from jts_storage.migrate import environment

        if not planned:
            return ""
        direction = planned[0].direction
        before = Step(planned[0].migration, "down" if direction == "up" else "up").target
        options = self._options(**self._printing())
        async with environment.turn(PATIENCE):
            moved = environment.script(
                self._scripts(), before, planned[-1].target, direction, options
            )
        return "\n".join([*(f"{each};" for each in self._own_tables()), "", moved])

    async def _go(self, goal: Goal, report: Report, patience: float) -> list[Step]:
        from jts_storage.migrate import environment

        def work(connection: Connection, options: Options) -> list[Step]:
            planned = self.steps(self._history(connection), goal)
            for step in planned:
                with told(step, report):
                    environment.move(self._scripts(), step.target, step.direction, options)
            return planned

        async with environment.turn(patience):
            return await self._locked(work, report, patience)

    async def _stamp(self, target: str, stamped: Sequence[Migration], patience: float) -> None:
        from jts_storage.migrate import environment

        def work(connection: Connection, options: Options) -> None:
            self._forget(connection)
            environment.stamp(self._scripts(), target, options)
            for migration in stamped:
                self._send(connection, self._log_line(migration, "stamp"))

        async with environment.turn(patience):
            await self._locked(work, to_log, patience)

    def _running(self, connection: Connection, **own: Any) -> Options:
        """The options of Alembic for changing a database."""
        return self._options(connection=connection, **own)

    def _options(self, **own: Any) -> Options:
        return {"version_table": self._version_table, "on_version_apply": self._log, **own}

    def _scripts(self) -> Scripts:
        return Scripts(self.chain.home(self.store), self.chain.versions(self.store))

    @property
    def _version_table(self) -> str:
        """Where Alembic keeps the number at which the database stands."""
        return f"{VERSION_TABLE}{self.chain.suffix}"

    def _log(self, *, ctx: Any, step: Any, **_: Any) -> None:
        """Write down a step when Alembic has taken it."""
        if not step.is_stamp:
            migration = self.files[int(step.up_revision_id) - 1]
            ctx.execute(self._log_line(migration, "up" if step.is_upgrade else "down"))

    @abstractmethod
    async def _locked(self, work: AlembicCall[T], report: Report, patience: float) -> T:
        """Do it while no other runner does; the tables of the log are there."""

    @abstractmethod
    def _history(self, connection: Connection) -> History: ...

    @abstractmethod
    def _forget(self, connection: Connection) -> None:
        """Empty the log."""

    @abstractmethod
    def _send(self, connection: Connection, statement: Any) -> None: ...

    @abstractmethod
    def _own_tables(self) -> list[str]:
        """The statements that create the tables of the log, beyond Alembic's own."""

    @abstractmethod
    def _printing(self) -> Options:
        """The options of Alembic for printing what would change the database."""

    @abstractmethod
    def _log_line(self, migration: Migration, direction: Direction | Literal["stamp"]) -> Any:
        """A statement that writes a line in the log."""
