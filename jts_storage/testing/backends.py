"""Which stores the tests of one process use, by the name of a backend."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from jts_storage.errors import InvalidConfiguration
from jts_storage.testing.address import Address

if TYPE_CHECKING:
    from jts_storage.settings import StorageSettings
    from jts_storage.testing.stores.base import ScratchStore
    from jts_storage.testing.stores.clickhouse import ClickHouseStore
    from jts_storage.testing.stores.mongo import MongoStore

SUFFIX: Final = "_test"
CLICKHOUSE, MONGO, POSTGRES, REDIS = "clickhouse", "mongo", "postgres", "redis"
BOOKS: Final = "books"
_SLOWEST_FIRST: Final = (POSTGRES, MONGO, CLICKHOUSE, REDIS, BOOKS)


def default_backend() -> str:
    """``embedded`` if its extra is installed, else ``memory``."""
    has_chdb = importlib.util.find_spec("chdb") is not None
    has_mongod = shutil.which("mongod") or importlib.util.find_spec("fiftyone") is not None
    return "embedded" if has_chdb and has_mongod else "memory"


def database_name(worker: str | None, base: str = f"jts{SUFFIX}") -> str:
    """The database of a worker of pytest-xdist: its own, with the suffix of `base` kept."""
    if worker is None:
        return base
    if base.endswith(SUFFIX):
        return f"{base.removesuffix(SUFFIX)}_{worker}{SUFFIX}"
    return f"{base}_{worker}"


class Plan(Protocol):
    """How a backend comes by its stores; nothing starts before a store is prepared."""

    through_endpoint: bool
    """Whether storages reach ClickHouse over TCP even where no test asks for its faults."""

    def clickhouse(self) -> ClickHouseStore: ...

    def mongo(self) -> MongoStore: ...

    def bookkeeping(self) -> ScratchStore | None:
        """None where it is in the database of `postgres`."""
        ...

    def postgres(self) -> ScratchStore: ...

    def redis(self) -> ScratchStore: ...


class Stack:
    """The stores of one process. Each is prepared when it is first asked for."""

    def __init__(self, plan: Plan, scratch: Path) -> None:
        self._plan = plan
        self._scratch = scratch
        self._closing = ExitStack()
        self._closing.callback(shutil.rmtree, scratch, ignore_errors=True)
        self._threads = ThreadPoolExecutor(3, "jts-tests")
        self._closing.callback(self._threads.shutdown)
        self._stores: dict[str, ScratchStore] = {}
        self._cleaning: list[Future[None]] = []
        self._addresses: dict[str, Address] = {}
        self._settings: dict[frozenset[str], StorageSettings] = {}

    def clean(self, names: Iterable[str]) -> None:
        """Empty these of the stores; new ones are started and prepared first."""
        self.begin_cleaning(names)
        self.finish_cleaning()

    def begin_cleaning(self, names: Iterable[str]) -> None:
        """As `clean`, but what is left to do may go on until `finish_cleaning`."""
        wanted = set(names)
        self.finish_cleaning()
        _forget_rate_limits(self._limits_path)
        self._prepare(wanted - self._stores.keys())
        waiting = sorted(wanted - {BOOKS}, key=_SLOWEST_FIRST.index)
        self._cleaning = [self._threads.submit(self._stores[name].clean) for name in waiting]
        if BOOKS in wanted:
            self._stores[BOOKS].clean()

    def finish_cleaning(self) -> None:
        cleaning, self._cleaning = self._cleaning, []
        for each in cleaning:
            each.result()

    def break_off(self) -> None:
        """End what a test left running in any store."""
        for store in self._stores.values():
            store.break_off()

    def needed(self, asked: frozenset[str]) -> frozenset[str]:
        """The stores of a storage whose test asks for the addresses in `asked`."""
        books = POSTGRES if POSTGRES in asked or self._books_in_postgres else BOOKS
        return frozenset({CLICKHOUSE, MONGO, books})

    def settings(self, asked: frozenset[str]) -> StorageSettings:
        """Settings of the stores; those in `asked` are reached where they may fail."""
        if asked not in self._settings:
            self._settings[asked] = self._settings_of(asked)
        return self._settings[asked]

    def _settings_of(self, asked: frozenset[str]) -> StorageSettings:
        from pydantic import SecretStr

        from jts_storage.settings import StorageSettings

        through = asked | ({CLICKHOUSE} if self._plan.through_endpoint else frozenset())
        urls = {
            name: self.address(name).url if name in through else self._stores[name].url
            for name in self.needed(asked)
        }
        books = urls[POSTGRES] if POSTGRES in urls else urls[BOOKS]
        return StorageSettings(
            data_dir=self._scratch,
            clickhouse_url=SecretStr(urls[CLICKHOUSE]),
            mongo_url=SecretStr(urls[MONGO]),
            mongo_database=self._stores[MONGO].database,
            database_url=SecretStr(books),
            rate_limits_url=SecretStr(f"sqlite:///{self._limits_path}"),
            migrate=False,
        )

    def address(self, name: str) -> Address:
        """Where a store is for clients that shall meet faults; it must have been emptied before."""
        if name not in self._addresses:
            self._addresses[name] = self._stores[name].address
        return self._addresses[name]

    def clear_faults(self) -> None:
        """Let every store be well again."""
        for address in self._addresses.values():
            if address.can_fail and address.faults.hold:
                address.faults.clear()

    def close(self) -> None:
        """Close the stores and stop what was started for them."""
        self._closing.close()

    @property
    def _limits_path(self) -> Path:
        return self._scratch / "rate_limits.db"

    @property
    def _books_in_postgres(self) -> bool:
        return self._plan.bookkeeping() is None

    def _prepare(self, names: Iterable[str]) -> None:
        # Threads only wait for servers: two that import one library at once can fail. The slowest
        # to start come first, so that they start while drivers are imported.
        made: dict[str, ScratchStore] = {}
        for name in sorted(names, key=_SLOWEST_FIRST.index):
            made[name] = self._make(name)
            self._closing.callback(made[name].close)
        list(self._threads.map(lambda store: store.start(), made.values()))
        for name, store in made.items():
            store.prepare()
            self._stores[name] = store

    def _make(self, name: str) -> ScratchStore:
        if name == BOOKS:
            store = self._plan.bookkeeping()
            assert store is not None
            return store
        makers: dict[str, Callable[[], ScratchStore]] = {
            CLICKHOUSE: self._plan.clickhouse,
            MONGO: self._plan.mongo,
            POSTGRES: self._plan.postgres,
            REDIS: self._plan.redis,
        }
        return makers[name]()


class LocalPlan:
    """chDB in this process, a mongod that all workers share, SQLite or a PostgreSQL of ours."""

    def __init__(self, scratch: Path, shared: Path, worker: str | None, *, servers: bool) -> None:
        self.through_endpoint = servers
        self._scratch = scratch
        self._shared = shared
        self._database = database_name(worker)
        self._servers = servers

    def clickhouse(self) -> ClickHouseStore:
        from jts_storage.testing.stores.base import Given
        from jts_storage.testing.stores.clickhouse import ClickHouseStore

        url = f"clickhouse+embedded:///{self._scratch / 'clickhouse'}?fsync=0"
        return ClickHouseStore(Given(url), self._database)

    def mongo(self) -> MongoStore:
        from jts_storage.testing.stores.local import Early, Mongod

        mongod = Early(Mongod(self._shared / "jts-mongo"))
        from jts_storage.testing.stores.mongo import MongoStore

        return MongoStore(mongod, self._database)

    def bookkeeping(self) -> ScratchStore | None:
        from jts_storage.testing.stores.base import Given
        from jts_storage.testing.stores.sql import SqliteStore

        if self._servers:
            return None
        return SqliteStore(Given(f"sqlite:///{self._scratch / 'bookkeeping.db'}"))

    def postgres(self) -> ScratchStore:
        from jts_storage.testing.stores.local import Early, Postgres

        postgres = Early(Postgres())
        from jts_storage.testing.stores.sql import PostgresStore

        return PostgresStore(postgres, self._database)

    def redis(self) -> ScratchStore:
        from jts_storage.testing.stores.local import Redis
        from jts_storage.testing.stores.redis import RedisStore

        return RedisStore(Redis())


class EnvironmentPlan:
    """What `settings` name; what they leave out is local and scratch, never below `data_dir`."""

    through_endpoint = False

    def __init__(self, settings: StorageSettings, local: LocalPlan, worker: str | None) -> None:
        self._settings = settings
        self._local = local
        self._worker = worker
        self._own = partial(database_name, worker)

    def clickhouse(self) -> ClickHouseStore:
        from jts_storage.testing.stores.base import Given
        from jts_storage.testing.stores.clickhouse import ClickHouseStore

        if self._settings.clickhouse_url is None:
            return self._local.clickhouse()
        config = self._settings.clickhouse()
        url = config.url.render_as_string(hide_password=False)
        return ClickHouseStore(Given(url), self._own(config.database))

    def mongo(self) -> MongoStore:
        from jts_storage.testing.stores.base import Given
        from jts_storage.testing.stores.mongo import MongoStore

        if self._settings.mongo_url is None:
            return self._local.mongo()
        config = self._settings.mongo()
        return MongoStore(Given(config.uri), self._own(config.database))

    def bookkeeping(self) -> ScratchStore | None:
        from jts_storage.testing.stores.base import Given
        from jts_storage.testing.stores.sql import SqliteStore

        if self._settings.database_url is None:
            return self._local.bookkeeping()
        path = self._settings.database().path
        if path is None:
            return None
        own = path.with_stem(self._own(path.stem))
        return SqliteStore(Given(f"sqlite:///{own.absolute()}"))

    def postgres(self) -> ScratchStore:
        from jts_storage.settings.database import read_url
        from jts_storage.testing.stores.base import Given
        from jts_storage.testing.stores.sql import PostgresStore

        url = self._settings.database_url
        if url is None or self._settings.database().is_sqlite:
            return self._local.postgres()
        plain = read_url(url.get_secret_value())["url"]  # without options of ours
        return PostgresStore(Given(plain), self._own(database_of(plain)))

    def redis(self) -> ScratchStore:
        return self._local.redis()


def _forget_rate_limits(path: Path) -> None:
    """Let nothing count that a test before has used; its processes may have the file open."""
    if path.exists():
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM rate_limits")


def database_of(url: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(url).database or ""


def check_expendable(settings: StorageSettings, *, confirmed: bool) -> None:
    """Refuse to let tests empty a database that does not look like one for tests.

    :raises InvalidConfiguration: naming the databases.
    """
    if confirmed:
        return
    names = {
        "JTS_CLICKHOUSE_URL": _clickhouse_name(settings),
        "JTS_MONGO_DATABASE": settings.mongo().database if settings.mongo_url else None,
        "JTS_DATABASE_URL": _sql_name(settings),
    }
    precious = {v: n for v, n in names.items() if n is not None and not n.endswith(SUFFIX)}
    if precious:
        listed = ", ".join(f"{name!r} ({variable})" for variable, name in precious.items())
        raise InvalidConfiguration(
            f"tests empty the databases they use, and these do not end in {SUFFIX}: {listed}",
            remedy=f"Name databases that end in {SUFFIX}. If these may really be emptied, say so"
            " twice: jts_erase_any_database = true in pytest's configuration, and"
            " --jts-erase-any-database on its command line.",
        )


def _clickhouse_name(settings: StorageSettings) -> str | None:
    if settings.clickhouse_url is None:
        return None
    config = settings.clickhouse()
    if config.embedded_path is None:
        return config.database
    return None if config.embedded_path == ":memory:" else Path(config.embedded_path).name


def _sql_name(settings: StorageSettings) -> str | None:
    if settings.database_url is None:
        return None
    config = settings.database()
    if config.is_sqlite:
        return config.path.stem if config.path else None
    return database_of(config.url)


def open_stack(backend: str, worker: str | None, shared: Path, *, confirmed: bool = False) -> Stack:
    """The stores of `backend`; memory has none, so those of a test that asks are embedded.

    :param shared: a folder that all workers of this run know.
    :raises InvalidConfiguration: the environment names a database that must not be emptied.
    """
    scratch = Path(tempfile.mkdtemp(prefix="jts-tests-"))
    try:
        stack = Stack(_plan(backend, scratch, shared, worker, confirmed=confirmed), scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return stack


def _plan(
    backend: str, scratch: Path, shared: Path, worker: str | None, *, confirmed: bool
) -> Plan:
    local = LocalPlan(scratch, shared, worker, servers=backend == "servers")
    if backend == "env":
        from jts_storage.settings import StorageSettings

        settings = StorageSettings.load()
        check_expendable(settings, confirmed=confirmed)
        return EnvironmentPlan(settings, local, worker)
    if backend == "containers":
        from jts_storage.testing.containers import ContainerPlan

        return ContainerPlan(database_name(worker))
    return local
