"""The migrations of MongoDB: numbered files with ``up`` and ``down``, under a lock, with a log."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage._version import __version__
from jts_storage.errors import InvalidConfiguration
from jts_storage.migrate.files import Migration, discover
from jts_storage.migrate.mongo_lock import held
from jts_storage.migrate.mongo_operations import Operations
from jts_storage.migrate.plan import Entry, Goal, History, Step, resolve, steps
from jts_storage.migrate.reports import Report, StepFinished, StepStarted, to_log
from jts_storage.mongo.errors import translate
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.retries import DRIVER_ERRORS

LOG_COLLECTION: Final = "jts_schema_log"


class MongoMigrations:
    """Leads one MongoDB database from migration to migration.

    A file with ``IN_TRANSACTION = True`` changes documents only; its changes and the line in the
    log are then stored together. Others are repeated when they were interrupted.

    :param folder: where migrations are, if not the kit's own.
    """

    store: Final = "mongo"

    def __init__(self, manager: MongoDBManager, *, folder: Path | None = None) -> None:
        self._manager = manager
        self.files: tuple[Migration, ...] = discover(self.store, folder)

    async def history(self) -> History:
        async with self._translated("reading the log of migrations"):
            return await self._history()

    async def go(
        self, goal: Goal, report: Report = to_log, *, patience: float = 60.0
    ) -> list[Step]:
        """Do what leads to the goal; what was done.

        :raises Conflict: another runner is at it for longer than `patience` seconds.
        """
        if not steps(self.files, await self.history(), goal):
            return []
        async with self._locked(patience) as alive:
            planned = steps(self.files, await self._history(), goal)
            for step in planned:
                await alive()
                await self._take(step, report)
            return planned

    async def stamp(self, name: str, *, patience: float = 60.0) -> None:
        """Say that the database stands there, and that the files are those applied."""
        target = resolve(self.files, name)
        async with self._locked(patience):
            log = self._manager.get_collection(LOG_COLLECTION)
            await log.delete_many({})
            stamped = [f for f in self.files if target is not None and f.revision <= target]
            if stamped:
                await log.insert_many([_log_line(migration, "stamp") for migration in stamped])

    async def sql(self, planned: Sequence[Step]) -> str:
        """What a person would run in mongosh to take these steps."""
        lines: list[str] = []
        for step in planned:
            printing = Operations(None)
            await _function(step)(printing)
            log = {"revision": step.migration.revision, "direction": step.direction}
            log |= {"checksum": step.migration.checksum}
            fields = ", ".join(f'{name}: "{value}"' for name, value in log.items())
            lines += [f"// {step}", *printing.printed]
            lines += [f"db.{LOG_COLLECTION}.insertOne({{{fields}, at: new Date()}});", ""]
        return "\n".join(lines)

    async def _history(self) -> History:
        entries: dict[str, Entry] = {}
        async for line in (
            self._manager.get_collection(LOG_COLLECTION).find().sort([("at", 1), ("_id", 1)])
        ):
            if line["direction"] == "down":
                entries.pop(line["revision"], None)
            else:
                entries[line["revision"]] = Entry(line["checksum"], line["at"])
        return History(max(entries, default=None), entries)

    async def _take(self, step: Step, report: Report) -> None:
        report(StepStarted(step))
        began = time.monotonic()
        work = _function(step)
        log = self._manager.get_collection(LOG_COLLECTION)
        line = _log_line(step.migration, step.direction)

        async def both(session: AsyncClientSession | None) -> None:
            await work(Operations(self._manager.db, session))
            await log.insert_one(line, session=session)

        if getattr(_module(step.migration.path), "IN_TRANSACTION", False):
            async with self._manager.client.start_session() as session:
                await session.with_transaction(both)
        else:
            await both(None)
        report(StepFinished(step, time.monotonic() - began))

    @asynccontextmanager
    async def _locked(self, patience: float) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        async with self._translated("migrating"), held(self._manager, patience) as alive:
            yield alive

    @asynccontextmanager
    async def _translated(self, doing: str) -> AsyncIterator[None]:
        try:
            yield
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing=doing, hosts=self._manager.hosts) from exc


def _function(step: Step) -> Callable[[Operations], Any]:
    module = _module(step.migration.path)
    function = getattr(module, step.direction, None)
    if function is None:
        raise InvalidConfiguration(
            f"{step.migration.path} has no function {step.direction}",
            remedy="Write `async def up(op)` and `async def down(op)`.",
        )
    return function  # type: ignore[no-any-return]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"jts_mongo_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _log_line(migration: Migration, direction: str) -> Bson:
    return {
        "revision": migration.revision,
        "title": migration.title,
        "direction": direction,
        "checksum": migration.checksum,
        "kit": __version__,
        "at": datetime.now(UTC),
    }
