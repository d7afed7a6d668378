"""A whole backup into the stores of a storage."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jts_storage import migrate
from jts_storage._runtime.tasks import run_to_the_end
from jts_storage.backup import schema
from jts_storage.backup.copying import Progress, Report, unheard
from jts_storage.backup.errors import DamagedBackup, NotEmpty
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.scratch import FOLDER
from jts_storage.backup.stores import clickhouse_tables, lake, mongo, sqlite
from jts_storage.backup.stores.clickhouse import ClickHouseRestore
from jts_storage.backup.stores.lake import LakeRestore, files_of
from jts_storage.backup.stores.mongo import MongoRestore, collections_of
from jts_storage.backup.stores.relational import PostgresRestore, is_sqlite
from jts_storage.backup.stores.sqlite import SqliteRestore
from jts_storage.backup.verify import damage
from jts_storage.cache.repositories import scopes_written
from jts_storage.errors import StorageError
from jts_storage.settings import StorageSettings
from jts_storage.unit_of_work.announced_clock import StoredNotes
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.moments import BEGINNINGS
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.recovery import Recovery

_OF_EMPTY: Final = (CLOCK, BEGINNINGS, "jts_schema_", "uow_outcomes")
"""Collections that a storage has filled when it was opened for the first time."""


class WholeRestore:
    """Puts everything of a backup in the place of what is stored."""

    def __init__(
        self,
        settings: StorageSettings,
        stores: Stores,
        repository: BackupRepository,
        report: Report = unheard,
    ) -> None:
        self._settings, self._stores, self._repository = settings, stores, repository
        self._report = report

    async def run(self, manifest: Manifest, *, replace: bool, parks_events: bool = True) -> int:
        """Restore, compare and recover; how many commits were finished.

        :raises DamagedBackup: before anything is changed, if its objects are not as they were.
        :raises NotEmpty: before anything is changed, if something is stored and not `replace`.
        """
        faults = await asyncio.to_thread(damage, self._repository, manifest, self._report)
        if faults:
            raise DamagedBackup(
                f"Backup {manifest.id} is damaged: {faults[0]}",
                faults=faults,
                remedy="Restore the one before it: --previous-if-damaged.",
            )
        if not replace:
            await self._check_empty()
        databases = schema.databases_of(self._settings, self._stores)
        await schema.led_back(databases, manifest)
        await self._note_for_caches()
        # Answers that a cache has kept count no more.
        async with self._stores.announcer.writing(None, symbols=True):
            await self._filled_wholly(manifest)
        await MongoRestore(self._stores.mongo, self._repository).settle(parks_events=parks_events)
        await migrate.up(databases)
        await self._stores.clock.catch_up()
        recovered = await Recovery(self._stores).recover()
        await self._note_for_caches()
        return recovered

    async def _note_for_caches(self) -> None:
        """Let services that have a cache, which this storage need not, forget what it holds.

        They read the note before they use the cache: the next time they are opened.
        """
        notes = StoredNotes(self._stores.mongo)
        await notes.replace(scopes_written(None, symbols=True))

    async def _filled_wholly(self, manifest: Manifest) -> None:
        """Fill the stores; whatever goes wrong says that it was begun."""
        try:
            await self._filled(manifest)
        except DamagedBackup as exc:
            exc.was_begun = True
            raise
        except (StorageError, OSError) as exc:
            raise StorageError(
                f"Backup {manifest.id} was not restored wholly, and the stores are incomplete:"
                f" {exc}",
                remedy="Restore it once more, with --replace.",
            ) from exc

    async def _filled(self, manifest: Manifest) -> None:
        """Fill the stores, MongoDB last: until then its journal knows nothing of the others.

        :raises DamagedBackup: something is otherwise there than the backup says.
        """
        faults: list[str] = []
        for name, fill in (
            ("clickhouse", self._clickhouse),
            ("database", self._database),
            ("lake", self._lake),
            ("mongo", self._mongo),
        ):
            self._report(Progress(f"restoring {name}", 0))
            faults += await fill(manifest)
        if faults:
            raise DamagedBackup(
                f"Backup {manifest.id} was restored, and is not what was stored: {faults[0]}",
                faults=faults,
            )

    async def _clickhouse(self, manifest: Manifest) -> list[str]:
        restore = ClickHouseRestore(self._stores.clickhouse, self._repository)
        contents = manifest.stores[clickhouse_tables.NAME].contents
        run = self._stores.clickhouse.run
        await run(restore.fill, contents)
        return await run(restore.differing, contents)

    async def _database(self, manifest: Manifest) -> list[str]:
        copy, database = manifest.stores[sqlite.NAME], self._stores.database
        if is_sqlite(copy) is not database.config.is_sqlite:
            raise StorageError(
                f"The backup's bookkeeping is of {copy.engine}, which this storage does not use.",
                remedy="Restore it into a storage with the same kind of database.",
            )
        if not is_sqlite(copy):
            restore = PostgresRestore(database, self._repository)
            await restore.fill(copy)
            return await restore.differing(copy)
        await run_to_the_end(asyncio.to_thread(self._sqlite, manifest))
        return []

    def _sqlite(self, manifest: Manifest) -> None:
        (contents,) = manifest.stores[sqlite.NAME].contents
        with tempfile.TemporaryDirectory(prefix=FOLDER) as folder:
            SqliteRestore(self._repository).fill(
                contents, self._stores.database.config, Path(folder)
            )

    async def _lake(self, manifest: Manifest) -> list[str]:
        copy = manifest.stores.get(lake.NAME)
        if copy is None:
            return []
        (contents,) = copy.contents
        restore, root = LakeRestore(self._repository), self._settings.lake_root.absolute()
        # Who is cancelled has written nothing when the next one begins.
        fill = asyncio.to_thread(lambda: restore.fill(contents, root, replace=True))
        await run_to_the_end(fill)
        return await asyncio.to_thread(restore.differing, contents, root)

    async def _mongo(self, manifest: Manifest) -> list[str]:
        copy = manifest.stores[mongo.NAME]
        restore = MongoRestore(self._stores.mongo, self._repository)
        there = {each["name"] for each in await collections_of(self._stores.mongo)}
        for name in there - {each.name for each in copy.contents}:
            await self._stores.mongo.db.drop_collection(name)
        await restore.fill(copy)
        return await restore.differing(copy)

    async def _check_empty(self) -> None:
        """:raises NotEmpty: naming what is stored."""
        found = [*await self._clickhouse_rows(), *await self._documents()]
        found += await self._bookkeeping()
        root = self._settings.lake_root
        if await asyncio.to_thread(files_of, root):
            found.append(f"files in {root}")
        if found:
            raise NotEmpty(
                f"There is something in the storage already: {', '.join(found)}.",
                remedy="Restore with --replace to put the backup in its place.",
            )

    async def _clickhouse_rows(self) -> list[str]:
        restore = ClickHouseRestore(self._stores.clickhouse, self._repository)
        counts = await self._stores.clickhouse.run(restore.counts)
        return [f"{rows} rows in {name}" for name, rows in counts.items() if rows]

    async def _documents(self) -> list[str]:
        names = [
            each["name"]
            for each in await collections_of(self._stores.mongo)
            if not each["name"].startswith(_OF_EMPTY)
        ]
        restore = MongoRestore(self._stores.mongo, self._repository)
        return [f"documents in {name}" for name in names if not await restore.is_empty([name])]

    async def _bookkeeping(self) -> Sequence[str]:
        from sqlalchemy import func, select

        from jts_storage.relational.tables import metadata

        found = []
        async with self._stores.database.transaction() as connection:
            for table in metadata.sorted_tables:
                rows = await connection.scalar(select(func.count()).select_from(table))
                if rows:
                    found.append(f"{rows} rows in {table.name}")
        return found
