"""SQL databases of the tests: a SQLite file, or one on a PostgreSQL server."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from jts_storage import migrate
from jts_storage.relational import DatabaseConfig, DatabaseManager
from jts_storage.settings.storage import named_migrations
from jts_storage.sync.portal import Portal
from jts_storage.testing.address import Address
from jts_storage.testing.stores.base import (
    BOOKS_OF_MIGRATIONS,
    Server,
    ServerStore,
    faults_of,
    proxied,
)

if TYPE_CHECKING:
    import asyncpg

_EMPTY_POSTGRES = """
DO $$
DECLARE name text; has_rows boolean; dirty text := '';
BEGIN
  FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
      WHERE schemaname = current_schema()
        AND tablename !~ '^(alembic_version|jts_schema)'
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', name) INTO has_rows;
    IF has_rows THEN dirty := concat_ws(', ', nullif(dirty, ''), name); END IF;
  END LOOP;
  IF dirty <> '' THEN EXECUTE format('TRUNCATE %s RESTART IDENTITY CASCADE', dirty); END IF;
END $$
"""


class SqliteStore:
    """A SQLite file."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._url = ""
        self._connection: sqlite3.Connection | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def database(self) -> str:
        return self._path.stem

    @property
    def _path(self) -> Path:
        path = DatabaseConfig(self.url).path
        assert path is not None, "a database in memory could not be shared"
        return path

    def start(self) -> None:
        self._url = self._server.start()

    def prepare(self) -> None:
        asyncio.run(_migrate(DatabaseConfig(self.url)))
        self._connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA synchronous = OFF")

    def clean(self) -> None:
        assert self._connection is not None, "prepare() comes first"
        with closing(self._connection.cursor()) as cursor:
            names = cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in names:
                if not name.startswith(("sqlite_", *BOOKS_OF_MIGRATIONS)):
                    cursor.execute(f'DELETE FROM "{name}"')

    @property
    def address(self) -> Address:
        raise AssertionError("a file has no address")

    def break_off(self) -> None:
        """Nothing: a lock ends with the connection that holds it."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class PostgresStore(ServerStore):
    """A PostgreSQL database."""

    def __init__(self, server: Server, database: str = "") -> None:
        super().__init__(server, database)
        self._portal = Portal()
        self._connection: asyncpg.Connection[Any] | None = None

    def prepare(self) -> None:
        base = self._url
        self._portal.start()
        self._closing.callback(self._portal.stop)
        parts = urlsplit(base)
        self._database = database = self._database or parts.path.strip("/")
        self._url = parts._replace(path=f"/{database}").geturl()
        self._portal.call(_create_postgres_database(base, database))
        self._portal.call(_migrate(DatabaseConfig(self._url)))
        self._connection = self._portal.call(_connected(self._url))
        self._closing.callback(lambda: self._portal.call(self._db.close(timeout=5)))

    def clean(self) -> None:
        self._portal.call(self._db.execute(_EMPTY_POSTGRES))

    def break_off(self) -> None:
        self._portal.call(
            self._db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
                " current_database() AND usename = current_user AND pid <> pg_backend_pid()"
            )
        )

    @property
    def _db(self) -> asyncpg.Connection[Any]:
        assert self._connection is not None, "prepare() comes first"
        return self._connection

    def _proxied(self) -> Address:
        url = make_url(self._url)
        host, port = url.host or "localhost", url.port or 5432
        secure = url.query.get("sslmode", "disable") not in ("disable", "allow", "prefer")
        proxy = proxied(host, port, self._closing, secure=secure)
        if proxy is not None:
            host, port = proxy.host, proxy.port
            url = url.set(host=host, port=port)
        return Address(
            url=url.render_as_string(hide_password=False),
            host=host,
            port=port,
            database=url.database or "",
            user=url.username or "",
            password=url.password or "",
            **faults_of(proxy),
        )


async def _create_postgres_database(base: str, database: str) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(
            _plain(urlsplit(base)._replace(path="/postgres").geturl())
        )
    except asyncpg.PostgresError:
        return  # without access to it, the database in the URL must exist already
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database)
        if known is None:
            await connection.execute('CREATE DATABASE "{}"'.format(database.replace('"', '""')))
    finally:
        await connection.close()


async def _migrate(config: DatabaseConfig) -> None:
    async with DatabaseManager(config) as manager:
        await migrate.up(migrate.Databases(database=manager, service=named_migrations()))


async def _connected(url: str) -> asyncpg.Connection[Any]:
    import asyncpg

    return await asyncpg.connect(_plain(url))


def _plain(url: str) -> str:
    return url.replace("+asyncpg", "", 1)
