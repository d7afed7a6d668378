"""The migrations of MongoDB: numbered files with ``up`` and ``down``, under a lock, with a log."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.errors import InvalidConfiguration
from jts_storage.migrate.base import Migrations, applied, log_values, told
from jts_storage.migrate.files import Chain, Migration
from jts_storage.migrate.mongo_lock import held
from jts_storage.migrate.mongo_operations import Operations
from jts_storage.migrate.plan import Goal, History, Step
from jts_storage.migrate.reports import Report
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager

T = TypeVar("T")

LOG_COLLECTION: Final = "jts_schema_log"


class MongoMigrations(Migrations):
    """Leads one MongoDB database from migration to migration.

    A file with ``IN_TRANSACTION = True`` changes documents only; its changes and the line in the
    log are then stored together. Others are repeated when they were interrupted.
    """

    store = "mongo"

    def __init__(self, manager: MongoDBManager, *, chain: Chain | None = None) -> None:
        super().__init__(chain)
        self._manager = manager
        self._log_name = f"{LOG_COLLECTION}{self.chain.suffix}"

    async def history(self) -> History:
        return await self._manager.retries.once("reading the log of migrations", self._history)

    async def _sql(self, planned: Sequence[Step]) -> str:
        lines: list[str] = []
        for step in planned:
            printing = Operations(None)
            await _function(step)(printing)
            log = {"revision": step.migration.revision, "direction": step.direction}
            log |= {"checksum": step.migration.checksum}
            fields = ", ".join(f'{name}: "{value}"' for name, value in log.items())
            lines += [f"// {step}", *printing.printed]
            lines += [f"db.{self._log_name}.insertOne({{{fields}, at: new Date()}});", ""]
        return "\n".join(lines)

    async def _go(self, goal: Goal, report: Report, patience: float) -> list[Step]:
        async def work(alive: Callable[[], Awaitable[None]]) -> list[Step]:
            planned = self.steps(await self._history(), goal)
            for step in planned:
                await alive()
                with told(step, report):
                    await self._take(step)
            return planned

        return await self._locked(work, patience)

    async def _stamp(self, target: str, stamped: Sequence[Migration], patience: float) -> None:
        async def work(_: object) -> None:
            await self._log.delete_many({})
            if stamped:
                await self._log.insert_many([_log_line(each, "stamp") for each in stamped])

        await self._locked(work, patience)

    async def _locked(
        self, work: Callable[[Callable[[], Awaitable[None]]], Awaitable[T]], patience: float
    ) -> T:
        async def locked() -> T:
            async with held(self._manager, patience) as alive:
                return await work(alive)

        return await self._manager.retries.once("migrating", locked)

    async def _history(self) -> History:
        lines = await self._log.find().sort([("at", 1), ("_id", 1)]).to_list()
        names = ("revision", "direction", "checksum", "at")
        entries = applied(tuple(line[name] for name in names) for line in lines)
        return History(max(entries, default=None), entries)

    async def _take(self, step: Step) -> None:
        work = _function(step)
        line = _log_line(step.migration, step.direction)

        async def both(session: AsyncClientSession | None) -> None:
            await work(Operations(self._manager.db, session))
            await self._log.insert_one(line, session=session)

        if getattr(_module(step.migration.path), "IN_TRANSACTION", False):
            async with self._manager.client.start_session() as session:
                await session.with_transaction(both)
        else:
            await both(None)

    @property
    def _log(self) -> Collection:
        return self._manager.get_collection(self._log_name)


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


def _log_line(migration: Migration, direction: Any) -> Bson:
    return log_values(migration, direction) | {"at": datetime.now(UTC)}
