"""One door to the database of the bookkeeping: connections, retries, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying

from jts_storage._runtime.answers import Answers
from jts_storage._runtime.retries import repetitions
from jts_storage._runtime.unreadable import Unreadable
from jts_storage.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    StorageError,
    outcome_unknown,
)
from jts_storage.relational import sqlite
from jts_storage.relational.errors import (
    is_callers,
    is_driver_error,
    spares_connection,
    translate,
)
from jts_storage.relational.link import Link
from jts_storage.relational.lock_holder import holder
from jts_storage.relational.pool import ConnectionPool
from jts_storage.settings import DatabaseConfig

T = TypeVar("T")
log = logging.getLogger(__name__)


class DatabaseManager:
    """Opens nothing until it is used; serves one event loop after another.

    :param config: a `DatabaseConfig`, or the URL or SQLite path of one with the defaults.
    """

    def __init__(self, config: DatabaseConfig | str | Path) -> None:
        if not isinstance(config, DatabaseConfig | str | Path):
            raise InvalidConfiguration(
                f"a DatabaseManager is given a {type(config).__name__}",
                remedy="Give it a URL, the path of a SQLite file or a DatabaseConfig.",
            )
        self.config = config if isinstance(config, DatabaseConfig) else DatabaseConfig(str(config))
        self.unreadable = Unreadable()
        self._engine: AsyncEngine | None = None
        self._pool: ConnectionPool[Link] | None = None
        self._asking: asyncio.Task[bool] | None = None
        self._answering = Answers(log, "The bookkeeping")
        self._closed = False

    def __repr__(self) -> str:
        return f"DatabaseManager({self.config.redacted!r})"

    async def __aenter__(self) -> Self:
        await self.create_connection_pool()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine, for schema work; its connections are not the pool's, and its
        errors are SQLAlchemy's."""
        if self._engine is None:
            self._engine = _create_engine(self.config)
        return self._engine

    @property
    def pool(self) -> ConnectionPool[Link]:
        """The pool of the running event loop, made when it is first asked for.

        :raises StorageError: the manager is closed.
        """
        pool = self._pool
        if pool is not None and pool.loop is asyncio.get_running_loop():
            return pool
        if self._closed:
            raise StorageError(
                f"The database {self.config.redacted} is closed.",
                remedy="Open it again with create_connection_pool().",
            )
        if pool is not None:
            pool.abandon()
            self._engine = None
        self._pool = ConnectionPool(
            self._connect,
            max_connections=self.config.max_connections,
            connection_timeout=self.config.pool_timeout,
            recycle=float("inf") if self.config.is_memory else self.config.pool_recycle,
            target=self.config.redacted,
        )
        return self._pool

    async def create_connection_pool(self) -> ConnectionPool[Link]:
        """Open the pool, and a first connection to see that the database is there.

        :raises ConnectionFailed: it is not.
        """
        self._closed = False
        pool = self.pool
        await self.run(_nothing, doing="opening the pool", repeat=True)
        return pool

    async def close(self) -> None:
        """Refuse new work, wait up to `close_timeout` for what runs, then close everything."""
        self._closed = True
        pool, self._pool = self._pool, None
        engine, self._engine = self._engine, None
        await self._end_of_health_check()
        if pool is None:
            return
        if pool.loop is not asyncio.get_running_loop():
            pool.abandon()
        elif not await pool.close(self.config.close_timeout):
            log.warning("%s was closed with statements running.", self.config.redacted)
        if engine is not None:
            await engine.dispose()

    def translate(self, exc: BaseException, doing: str) -> StorageError:
        """Return our error for a driver's; if SQLite was locked, name the process that holds it."""
        error = translate(exc, doing=doing, hosts=self.config.hosts)
        path = self.config.path
        if path is not None and str(error.code).startswith("SQLITE_BUSY"):
            who = holder(path)
            if who is not None:
                error.args = (f"{error.args[0]} It is held by {who}.",)
        return error

    async def health_check(self) -> bool:
        """Whether the database answers within `health_timeout`.

        It opens a connection of its own, so neither a busy pool nor a hanging server holds it up.
        """
        if self._closed:
            return False
        if self.config.is_memory:
            return True
        loop = asyncio.get_running_loop()
        asking = self._asking
        if asking is None or asking.done() or asking.get_loop() is not loop:
            asking = self._asking = loop.create_task(self._answers())
        # The task goes on after this timeout: SQLite gives up a connection to a locked file only
        # after `lock_timeout`. Further health checks wait for the same task.
        await asyncio.wait([asking], timeout=self.config.health_timeout)
        return asking.done() and asking.result()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A pooled connection for reading; what is not committed is rolled back."""
        pool = self.pool
        link = await self._ready()
        link.connection.info[sqlite.READS_ONLY] = True
        async with self._returned(pool, link, "a transaction", lent=True):
            yield link.connection
            if link.connection.in_transaction():
                await link.connection.rollback()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A pooled connection in a transaction: committed at the end, rolled back on an error.

        Repositories made with ``connection=`` take part in it. On SQLite it holds the file for
        writing from the start; a second one waits for `lock_timeout`, then gets `Conflict`.
        """
        pool = self.pool
        link = await self._ready(start=True)
        async with self._returned(pool, link, "a transaction", lent=True):
            try:
                yield link.connection
            except Exception:
                if link.is_open:
                    await link.connection.rollback()
                raise
            await self._commit(link)

    async def run(
        self, work: Callable[[Link], Awaitable[T]], *, doing: str, repeat: bool = False
    ) -> T:
        """Do `work` with a pooled connection; errors are the kit's.

        :param repeat: whether it may be done again when the connection breaks; opening the
            connection always may.
        """
        pool = self.pool
        link = pool.take_idle()
        if link is None or monotonic() - link.idle_since > self.config.idle_check:
            link = await self._ready(link)
        try:
            result = await work(link)
        except BaseException as exc:
            error = self._take_back(pool, link, exc, doing)
            if error is None:
                raise
            if not (repeat and error.repeatable and self.config.max_retries):
                raise error from exc
        else:
            pool.release(link)
            return result
        log.warning("Repeating %s on another connection: %s", doing, error)
        return await self._attempts(doing)(self._anew, work, doing)

    async def _anew(self, work: Callable[[Link], Awaitable[T]], doing: str) -> T:
        pool = self.pool
        link = await pool.acquire()
        async with self._returned(pool, link, doing):
            return await work(link)

    async def _commit(self, link: Link) -> None:
        try:
            await link.connection.commit()
        except Exception as exc:
            if is_driver_error(exc):
                error = self.translate(exc, "committing")
                if isinstance(error, ConnectionFailed):
                    raise outcome_unknown(error) from exc
            raise

    @asynccontextmanager
    async def _returned(
        self, pool: ConnectionPool[Link], link: Link, doing: str, *, lent: bool = False
    ) -> AsyncIterator[None]:
        """
        :param pool: it came from; the manager may have been closed since.
        :param lent: to a caller, whose own errors stay what they are.
        """
        try:
            yield
        except BaseException as exc:
            error = self._take_back(pool, link, exc, doing)
            if error is None or (lent and is_callers(exc)):
                raise
            raise error from exc
        pool.release(link)

    def _take_back(
        self, pool: ConnectionPool[Link], link: Link, exc: BaseException, doing: str
    ) -> StorageError | None:
        """Give the connection back after an error, and return the kit's error for a driver's."""
        error = self.translate(exc, doing)
        if spares_connection(exc, error) and link.is_open and not link.in_transaction:
            pool.release(link)
        else:
            pool.discard(link)
        return error if is_driver_error(exc) else None

    async def _ready(self, link: Link | None = None, *, start: bool = False) -> Link:
        """Return a connection that just answered or was just opened.

        :param start: whether to begin a transaction on it.
        """
        try:
            return await self._prepared(link, start)
        except StorageError as exc:
            if not (exc.repeatable and self.config.max_retries):
                raise
        return await self._attempts("opening")(self._prepared, None, start)

    async def _prepared(self, link: Link | None, start: bool) -> Link:
        pool = self.pool
        link = link or await pool.acquire()
        try:
            if start:
                await begin(link)
            elif monotonic() - link.idle_since > self.config.idle_check:
                await link.execute("SELECT 1")
        except BaseException as exc:
            pool.discard(link)
            if is_driver_error(exc):
                raise self.translate(exc, "opening") from exc
            raise
        return link

    def _attempts(self, doing: str) -> AsyncRetrying:
        return AsyncRetrying(**repetitions(self.config, self.config.max_retries, doing=doing))

    async def _end_of_health_check(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None and asking.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([asking], timeout=self.config.close_timeout)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self.config.health_timeout):
                link = await self._connect()
                try:
                    await link.execute("SELECT 1")
                finally:
                    await link.break_off()
        except Exception as exc:
            if not isinstance(exc, StorageError) and not is_driver_error(exc):
                raise
            self._answering.seen(exc if str(exc) else type(exc).__name__)
            return False
        self._answering.seen()
        return True

    async def _connect(self) -> Link:
        try:
            connection = await self.engine.connect()
        except Exception as exc:
            if is_driver_error(exc):
                raise self.translate(exc, "connecting") from exc
            raise
        return await linked(connection)


def _create_engine(config: DatabaseConfig) -> AsyncEngine:
    if config.is_sqlite:
        return sqlite.create_engine(config)
    try:
        from jts_storage.relational import postgres
    except ImportError as exc:
        raise InvalidConfiguration(
            "PostgreSQL needs asyncpg, which is not installed",
            remedy="Run pip install 'jts-storage[postgres]'.",
        ) from exc
    return postgres.create_engine(config)


async def linked(connection: AsyncConnection) -> Link:
    """Return a link over a SQLAlchemy connection that the caller owns."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if isinstance(driver, aiosqlite.Connection):
        return sqlite.SqliteLink(connection, driver)
    from jts_storage.relational.postgres import PostgresLink

    return PostgresLink(connection, driver)


async def begin(link: Link) -> None:
    """Begin SQLAlchemy's transaction in the database now: it would wait for the first statement."""
    link.connection.info[sqlite.READS_ONLY] = False
    if not link.in_transaction:
        await link.connection.exec_driver_sql("SELECT 1")


async def _nothing(link: Link) -> None:
    await link.execute("SELECT 1")
