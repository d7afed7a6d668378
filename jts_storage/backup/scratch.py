"""Stores that are filled from a backup beside those of a storage, and are gone afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from jts_storage.backup.manifest import Manifest
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.stores import clickhouse_tables, lake, mongo, sqlite
from jts_storage.backup.stores.clickhouse import ClickHouseRestore
from jts_storage.backup.stores.clickhouse_parts import FROZEN
from jts_storage.backup.stores.lake import LakeRestore
from jts_storage.backup.stores.mongo import MongoRestore
from jts_storage.backup.stores.relational import PostgresRestore, is_sqlite
from jts_storage.backup.stores.sqlite import SqliteRestore
from jts_storage.mongo.leases import DURATION, Leases, renewing
from jts_storage.unit_of_work.participants import Stores

FOLDER = "jts-backup-"


def name_of(stores: Stores) -> str:
    """What scratch databases of a storage begin with: others may share its servers."""
    # Not the hosts: the port of an embedded mongod is another one each time.
    names = stores.mongo.config.database, stores.clickhouse.config.database
    named = hashlib.sha256("/".join(names).encode())
    return f"jts_backup_{named.hexdigest()[:12]}_"


def new_name(stores: Stores) -> str:
    return f"{name_of(stores)}{uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where a backup is restored to in order to look at it.

    :param name: of the databases in ClickHouse, MongoDB and PostgreSQL.
    """

    stores: Stores
    repository: BackupRepository
    name: str
    folder: Path

    async def differing(self, manifest: Manifest) -> list[str]:
        """Restore a backup into scratch stores; what is otherwise there than its manifest says."""
        faults: list[str] = []
        for each in (self._clickhouse, self._mongo, self._database, self._lake):
            faults += await each(manifest)
        return faults

    def clickhouse(self) -> ClickHouseRestore:
        return ClickHouseRestore(self.stores.clickhouse, self.repository, self.name)

    async def _clickhouse(self, manifest: Manifest) -> list[str]:
        contents = manifest.stores[clickhouse_tables.NAME].contents
        restore = self.clickhouse()
        run = self.stores.clickhouse.run
        await run(restore.make_database)
        await run(lambda: restore.fill(contents, merges=False))
        return await run(restore.differing, contents)

    async def _mongo(self, manifest: Manifest) -> list[str]:
        async with self.stores.mongo.beside(self.name) as manager:
            restore = MongoRestore(manager, self.repository)
            await restore.fill(manifest.stores[mongo.NAME])
            return await restore.differing(manifest.stores[mongo.NAME])

    async def _database(self, manifest: Manifest) -> list[str]:
        copy = manifest.stores[sqlite.NAME]
        if not is_sqlite(copy):
            restore = PostgresRestore(self.stores.database, self.repository, self.name)
            return await restore.tried(copy)
        (contents,) = copy.contents
        file = self.folder / "bookkeeping.db"
        from_file = SqliteRestore(self.repository)
        await asyncio.to_thread(from_file.write, contents, file)
        return await asyncio.to_thread(from_file.differing, contents, file)

    async def _lake(self, manifest: Manifest) -> list[str]:
        copy = manifest.stores.get(lake.NAME)
        if copy is None:
            return []
        (contents,) = copy.contents
        restore, root = LakeRestore(self.repository), self.folder / "lake"
        await asyncio.to_thread(restore.fill, contents, root)
        return await asyncio.to_thread(restore.differing, contents, root)


@asynccontextmanager
async def scratch(stores: Stores, repository: BackupRepository) -> AsyncIterator[Scratch]:
    """Scratch stores beside these, which are gone after the block.

    A lease on their name keeps a backup that is made meanwhile from sweeping them.
    """
    name = new_name(stores)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=FOLDER))
    made = Scratch(stores, repository, name, folder)
    async with Leases(stores.mongo).taken(name) as lease:
        assert lease is not None  # the name is nobody else's
        try:
            async with renewing(DURATION, lease.renewed):
                yield made
        finally:
            await stores.clickhouse.run(made.clickhouse().drop_database)
            await stores.mongo.client.drop_database(name)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def swept(stores: Stores) -> None:
    """Remove the scratch databases that a process which was killed has left behind."""
    prefix, postgres = name_of(stores), PostgresRestore(stores.database, None)
    rows = await stores.clickhouse.run(
        stores.clickhouse.execute,
        "SELECT name FROM system.databases WHERE startsWith(name, %(prefix)s)",
        {"prefix": prefix},
    )
    tables = {name for (name,) in rows}
    documents = set(await stores.mongo.client.list_database_names())
    schemas: set[str] = set()
    if not stores.database.config.is_sqlite:
        schemas = await postgres.schemas(prefix)
    # In this order: what is made while this looks is held before it is there.
    held = await Leases(stores.mongo).held()
    for name in tables - held:
        await stores.clickhouse.run(ClickHouseRestore(stores.clickhouse, None, name).drop_database)
    for name in documents - held:
        if name.startswith(prefix):
            await stores.mongo.client.drop_database(name)
    if schemas - held:
        await postgres.drop(schemas - held)
    config = stores.clickhouse.config
    if config.is_embedded:
        shadow = Path(str(config.embedded_path)) / "shadow"
        for frozen in await asyncio.to_thread(lambda: list(shadow.glob(f"{FROZEN}*"))):
            await asyncio.to_thread(shutil.rmtree, frozen, ignore_errors=True)
