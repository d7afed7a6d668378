"""Stores that are brought up to date once: most tests want fresh ones, and few the migrations."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pymongo import MongoClient

from jts_storage import StorageSettings
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.testing.backends import EnvironmentPlan, LocalPlan, Stack
from jts_storage.testing.stores.base import BOOKS_OF_MIGRATIONS, Given
from jts_storage.testing.stores.mongo import MongoStore
from tests import forked

# In a process of its own: the embedded engine serves one folder a process, which a test may have.
_MIGRATE: Final = """
import asyncio, sys
from jts_storage import StorageSettings, migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import MongoDBManager
from jts_storage.relational.manager import DatabaseManager

async def main():
    settings = StorageSettings(data_dir=sys.argv[1])
    with ClickHouseManager(settings.clickhouse()) as clickhouse:
        async with DatabaseManager(settings.database()) as database:
            await migrate.up(migrate.Databases(clickhouse, None, database))
    if "mongod" in sys.argv:
        with LocalMongod.acquire(settings.data_dir / "mongo") as server:
            async with MongoDBManager(settings.mongo(server.uri)) as mongo:
                await migrate.up(migrate.Databases(mongo=mongo))

asyncio.run(main())
"""

_TABLES: Final = (
    "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase()"
)
_SQLITE_TABLES: Final = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"

Schema = dict[str, Any]


class Databases:
    """Databases on one MongoDB server, each emptied for the next test and not made anew."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self._numbers = count()
        self._idle: list[MongoStore] = []
        self._schema: Schema = {}

    @contextmanager
    def one(self) -> Iterator[str]:
        """The name of a database that is up to date and empty."""
        store = self._idle.pop() if self._idle else self._made()
        yield store.database
        store.break_off()
        for name in self._schema_of(store.database).keys() - self._schema.keys():
            self._client[store.database].drop_collection(name)
        if self._schema_of(store.database) == self._schema:
            store.clean()
            self._idle.append(store)
        else:  # whoever takes back migrations may leave anything
            self._client.drop_database(store.database)
            store.close()

    def close(self) -> None:
        for store in self._idle:
            store.close()
        self._client.close()

    def _made(self) -> MongoStore:
        store = MongoStore(Given(self.uri), f"prepared_{next(self._numbers)}_test")
        store.start()
        store.prepare()
        self._schema = self._schema_of(store.database)
        return store

    def _schema_of(self, database: str) -> Schema:
        db = self._client[database]
        schema: Schema = {}
        for each in db.list_collections():
            name = each["name"]
            indexes = db[name].index_information() if each["type"] == "collection" else {}
            schema[name] = (each["options"], indexes)
            if name.startswith(BOOKS_OF_MIGRATIONS):
                schema[name] = (*schema[name], db[name].count_documents({}))
        return schema


def stack_of(settings: StorageSettings, folder: Path) -> Stack:
    """The stores that `settings` name, and the others below `folder`, brought up to date.

    They are to be emptied for each test: opening finds at once that nothing is to be migrated.
    """
    return Stack(
        EnvironmentPlan(settings, LocalPlan(folder, folder, None, servers=False), None), folder
    )


def emptied(stack: Stack, *, migrate: bool | None = None) -> StorageSettings:
    """Of those stores, with every table there and nothing in it."""
    stack.clean(stack.needed(frozenset()))
    return stack.settings(frozenset()).model_copy(update={"migrate": migrate})


def _migrated(folder: Path, *options: str) -> Path:
    """Stores in that folder, made by the first worker that needs them; others wait for it."""
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = Path(tempfile.mkdtemp(dir=folder.parent))  # another's may lie there, half made
            forked.run(["-c", _MIGRATE, made, *options], check=True)
            made.rename(folder)
    return folder


class Prepared:
    """Settings of embedded stores that are up to date and empty, each test's its own.

    :param folder: where those lie that are copied, for all workers of a run.
    """

    def __init__(self, folder: Path, databases: Databases) -> None:
        self._folder = folder
        self._databases = databases

    @cached_property
    def _without_mongod(self) -> Path:
        return _migrated(self._folder / "without")

    @cached_property
    def _with_mongod(self) -> Path:
        return _migrated(self._folder / "with", "mongod")

    def copy(self, folder: Path) -> None:
        """Make it a data folder that has been opened before, with a mongod of its own."""
        shutil.copytree(self._with_mongod, folder, symlinks=True, dirs_exist_ok=True)

    @contextmanager
    def stores(self, folder: Path, **fields: Any) -> Iterator[StorageSettings]:
        """A copy of ClickHouse and SQLite in `folder`, and a database on the shared mongod."""
        shutil.copytree(self._without_mongod, folder, symlinks=True, dirs_exist_ok=True)
        with self._databases.one() as database:
            usual: dict[str, Any] = {"migrate": True, "mongo_database": database}
            yield StorageSettings(
                data_dir=folder, mongo_url=SecretStr(self._databases.uri), **usual | fields
            )

    @contextmanager
    def shared_stores(self, folder: Path, **fields: Any) -> Iterator[StorageSettings]:
        """The same for storages that are opened one after the other: the engine goes on."""
        with (
            self.stores(folder, **fields) as settings,
            ClickHouseManager(settings.clickhouse()) as manager,
        ):
            manager.connect()
            yield settings

    @contextmanager
    def emptied(self, folder: Path) -> Iterator[Emptied]:
        """The same for a file's tests, whose stores are emptied and not made anew."""
        with ExitStack() as closing:

            def make(name: str) -> Stack:
                settings = closing.enter_context(self.stores(folder / name))
                return stack_of(settings, folder / name)

            stores = Emptied(make)
            closing.callback(lambda: stores.close())
            yield stores


class Emptied:
    """Stores that each test finds empty, with the tables that migrations made and no others.

    Those of declared models go. If a test changed a table, the next one gets new stores.
    """

    def __init__(self, make: Callable[[str], Stack]) -> None:
        self._make = make
        self._numbers = count()
        self._begin()

    def _begin(self) -> None:
        self._stack = self._make(str(next(self._numbers)))
        self._closing = ExitStack()
        self._closing.callback(self._stack.close)
        self._settings = emptied(self._stack, migrate=True)
        clickhouse = ClickHouseManager(self._settings.clickhouse(), pool_size=1)
        self._clickhouse = self._closing.enter_context(clickhouse)
        mongo = self._settings.mongo()
        client: MongoClient[dict[str, Any]] = MongoClient(mongo.uri)
        self._mongo = self._closing.enter_context(client)[mongo.database]
        path = self._settings.database().path
        assert path is not None
        self._sqlite = sqlite3.connect(path, isolation_level=None)
        self._closing.callback(self._sqlite.close)
        self._tables = self._found()

    def settings(self) -> StorageSettings:
        """Of the stores, for the next test."""
        found = self._found()
        if self._tables.items() - found.items():
            self.close()
            self._begin()
        else:
            for store, name in found.keys() - self._tables.keys():
                self._drop(store, name)
            # Where a test stopped them, what the next one deletes would never be gone.
            self._clickhouse.execute("SYSTEM START MERGES")
            emptied(self._stack)
        return self._settings

    def close(self) -> None:
        self._closing.close()

    def _found(self) -> dict[tuple[str, str], str]:
        """Every table and how it is made."""
        collections = self._mongo.list_collections()
        given = [
            *(("clickhouse", *row) for row in self._clickhouse.execute(_TABLES)),
            *(("sqlite", *row) for row in self._sqlite.execute(_SQLITE_TABLES)),
            *(("mongo", each["name"], repr(each["options"])) for each in collections),
        ]
        return {(store, name): made for store, name, made in given}

    def _drop(self, store: str, name: str) -> None:
        if store == "clickhouse":
            self._clickhouse.execute(f"DROP TABLE `{name}` SYNC")
        elif store == "sqlite":
            self._sqlite.execute(f'DROP TABLE "{name}"')
        else:
            self._mongo.drop_collection(name)
