"""A pool of connections to ClickHouse that repeats what may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar, cast

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, Executable, Insert, PoolProxiedConnection, QueuePool, create_engine
from sqlalchemy.exc import TimeoutError as NoneFree
from tenacity import Retrying

from jts_storage._runtime.forks import tell_children
from jts_storage._runtime.pools import PoolStatus, PoolWaits
from jts_storage._runtime.retries import repetitions
from jts_storage._runtime.steps import WAITED, tell
from jts_storage._runtime.unreadable import Unreadable
from jts_storage.clickhouse import errors
from jts_storage.clickhouse.blocks import ArraysByName, Column, declared, number_of_rows
from jts_storage.clickhouse.change_log import ChangeLog
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.connector import Connection
from jts_storage.clickhouse.dialect import register
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.health import HealthProbe, ServerState
from jts_storage.clickhouse.query_threads import QueryThreads
from jts_storage.clickhouse.sql import first_word, only_reads, summary
from jts_storage.clickhouse.transport import Transport
from jts_storage.errors import StorageError

_P = ParamSpec("_P")
_T = TypeVar("_T")

StatementSettings: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None
"""Of one statement; a function is called for each attempt."""
_ACKNOWLEDGED: Mapping[str, Any] = {"wait_for_async_insert": 1, "distributed_foreground_insert": 1}
"""An insert is stored when it is acknowledged; the embedded engine knows no other way."""
_BORROWED = "work on a borrowed connection"


class ClickHouseManager:
    """Connections to one ClickHouse, opened when they are first needed.

    Made from a `ClickHouseConfig`, a URL, or the fields of one: by position, beginning with the
    host, or as keywords, which refine a configuration or a URL, too. Safe to share among threads; a
    forked child gets connections and threads of its own.

    Every statement runs on a pooled connection. Failures to connect are retried with growing
    pauses; so are statements that change nothing, and others when the caller calls them
    ``idempotent``. Errors are the kit's own.
    """

    def __init__(
        self, config: ClickHouseConfig | str | None = None, *more: Any, **fields: Any
    ) -> None:
        self.config = ClickHouseConfig.of(config, *more, **fields)
        register()
        self._engine = create_engine(
            self.config.url,
            poolclass=QueuePool,
            pool_size=self.config.pool_size,
            max_overflow=self.config.max_overflow,
            pool_timeout=self.config.pool_timeout,
            pool_recycle=int(self.config.pool_recycle),
            pool_pre_ping=True,
            pool_use_lifo=True,  # the one used last is the least likely to have been closed
        )
        attempts = self.config.max_retries + 1
        self._attempts = Retrying(**repetitions(self.config, attempts, doing="asking ClickHouse"))
        self.is_closed = False
        self.unreadable = Unreadable()
        self.is_embedded, self._hosts = self.config.is_embedded, self.config.hosts
        self.changes = engine.changes if self.is_embedded else ChangeLog()
        self._threads = QueryThreads(
            self.config.pool_size + self.config.max_overflow, is_embedded=self.is_embedded
        )
        self._begin()
        tell_children(self)

    def _begin(self) -> None:
        self._probe = HealthProbe(self.config)
        self._waits = PoolWaits(NoneFree)

    def begin_in_child(self) -> None:
        """After a fork the sockets are the parent's, and none of its threads is here."""
        self._engine.dispose(close=False)
        self._threads.begin_in_child()
        self._begin()

    def __repr__(self) -> str:
        return f"ClickHouseManager({self.config.redacted})"

    # ---- life

    def connect(self) -> Self:
        """Open a connection now, with retries.

        :raises ConnectionFailed: naming the hosts that were tried.
        """
        self._retrying(lambda: self._checked_out("connecting")).close()
        return self

    def close(self) -> None:
        """Close every connection; one in use is closed when it comes back. Safe to repeat."""
        self.is_closed = True
        self._threads.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open; `health_check` asks whether it works."""
        return not self.is_closed and self.pool_status().open > 0

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for Alembic and reflection; its errors are SQLAlchemy's."""
        return self._engine

    def pool_status(self) -> PoolStatus:
        pool = cast(QueuePool, self._engine.pool)
        in_use = pool.checkedout()
        return PoolStatus(
            capacity=self.config.pool_size + self.config.max_overflow,
            open=pool.checkedin() + in_use,
            in_use=in_use,
            waiting=self._waits.waiting,
            timeouts=self._waits.timeouts,
        )

    def health_check(self) -> bool:
        """Return whether ClickHouse answers ``SELECT 1`` within ``health_timeout``.

        It uses a connection of its own, so neither a busy pool nor a hanging server holds it up.
        """
        return self.state().answers

    def state(self) -> ServerState:
        """As `health_check`, and how many parts of the tables are broken."""
        return ServerState() if self.is_closed else self._probe.ask()

    # ---- statements

    def execute(
        self,
        query: str | Executable,
        params: Mapping[str, Any] | None = None,
        *,
        settings: StatementSettings = None,
        idempotent: bool | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows.

        :param query: SQL with ``%(name)s`` for each parameter, or a SQLAlchemy statement.
        :param idempotent: whether it may be repeated when the outcome is unknown; by default
            statements that only read may.
        """
        if not isinstance(query, str):
            repeat = bool(getattr(query, "is_select", False)) if idempotent is None else idempotent
            doing = type(query).__name__.lower()
            now = self._writing if isinstance(query, Insert) else _now
            work = partial(self._execute_core, query, params, now(settings), doing)
            return self._retrying(work) if repeat else work()
        given = dict(params) if params is not None else None
        inserts = first_word(query) == "INSERT"
        given_settings = partial(self._writing if inserts else _now, settings)
        rows = self._with_transport(
            lambda transport: transport.execute(query, given, settings=given_settings()),
            doing=summary(query),
            idempotent=only_reads(query) if idempotent is None else idempotent,
        )
        return cast(list[tuple[Any, ...]], rows)

    def execute_many(
        self,
        query: str,
        rows: Iterable[Mapping[str, Any] | Sequence[Any]],
        *,
        settings: StatementSettings = None,
        idempotent: bool = False,
    ) -> int:
        """Insert rows by ``INSERT INTO t (a, b) VALUES``; returns how many there were."""
        listed = [dict(row) if isinstance(row, Mapping) else tuple(row) for row in rows]
        if not listed:
            return 0
        return int(
            self._with_transport(
                lambda transport: transport.execute(
                    query,
                    [row.copy() if isinstance(row, dict) else row for row in listed],
                    settings=self._writing(settings),
                ),
                doing=summary(query),
                idempotent=idempotent,
            )
            or 0
        )

    # ---- columns

    def read_columns(
        self,
        query: str,
        params: Mapping[str, Any] | None = None,
        *,
        stored: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        dictionaries: bool = False,
    ) -> ArraysByName:
        """The whole result, one array a column, in the order of the query.

        Integers, floats and flags are NumPy's own; everything else is an array of objects. A result
        without rows has empty columns.

        :param stored: columns to be given as the integers they are stored as, which is quickest,
            and the type each must have, such as ``{"open": "Decimal(18, 4)"}``.
        :param dictionaries: with `stored`, give a column of LowCardinality texts as a
            `DictionaryColumn`: numbers, and the texts that they mean.
        :raises SchemaDrift: such a column has another type, so that its integers mean something
            else.
        """
        given = dict(params) if params is not None else None
        return self._with_transport(
            lambda transport: transport.read_columns(
                query, given, settings, stored, dictionaries=dictionaries
            ),
            doing=summary(query),
            idempotent=True,
        )

    def stream_columns(
        self,
        query: str,
        params: Mapping[str, Any] | None = None,
        *,
        block_rows: int = 262_144,
        stored: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Generator[ArraysByName, None, None]:
        """The result in blocks of about `block_rows` rows, in constant memory.

        It holds a connection until it is exhausted or closed. Only its beginning is retried.

        :param stored: as for `read_columns`.
        """
        given = dict(params) if params is not None else None
        wanted = {**(settings or {}), "max_block_size": block_rows}
        doing = summary(query)
        with self._borrowed(doing) as transport:
            blocks = transport.stream_columns(query, given, wanted, stored)
            try:
                with self._translated(doing):
                    yield from blocks
            finally:
                blocks.close()

    def insert_columns(
        self,
        table: str,
        columns: Mapping[str, Column],
        *,
        settings: StatementSettings = None,
        idempotent: bool = False,
        is_there: Callable[[Transport], bool] | None = None,
        may_be_there: bool = False,
    ) -> int:
        """Write whole columns in one insert; returns the number of rows.

        A column is an array (its type follows from its dtype), a sequence or one value of text,
        or ``Typed(type, values)``. One value stands for all rows. Types must be those of the
        table, so ``Typed("Decimal(18, 4)", int64_array)`` carries scaled prices untouched.

        :param table: as SQL names it; quote what needs it.
        :param is_there: asked before a repetition: whether the rows have arrived all the same.
        :param may_be_there: ask before the first attempt, too.
        :raises SchemaDrift: when the table has another type for a column, or lacks it.
        """
        typed = declared(columns)
        ask = may_be_there

        def insert(transport: Transport) -> int:
            nonlocal ask
            if ask and is_there is not None and is_there(transport):
                return number_of_rows(typed)
            ask = True
            return transport.insert_columns(table, typed, self._writing(settings))

        return self._with_transport(
            insert,
            doing=f"writing to {table}",
            idempotent=idempotent,
        )

    # ---- threads

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run blocking work in a thread; no more at once than the pool has connections."""
        return await self._threads.run(partial(function, *args, **kwargs))

    async def run_read(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """As `run`, for one of many reads: they leave a connection to everything else."""
        return await self._threads.run(partial(function, *args, **kwargs), is_read=True)

    # ---- inside

    @contextmanager
    def transport(self) -> Iterator[Transport]:
        """Borrow a connection of the pool for several statements; nothing is retried."""
        with self._borrowed(_BORROWED) as transport, self._translated(_BORROWED):
            yield transport

    def _with_transport(
        self, work: Callable[[Transport], _T], *, doing: str, idempotent: bool
    ) -> _T:
        if idempotent:
            return self._retrying(lambda: self._worked(self._checked_out(doing), work, doing))
        # Until a connection is there nothing was sent, so that much may always be repeated.
        return self._worked(self._retrying(lambda: self._checked_out(doing)), work, doing)

    def _worked(
        self, pooled: PoolProxiedConnection, work: Callable[[Transport], _T], doing: str
    ) -> _T:
        try:
            with self._translated(doing):
                return work(_transport_of(pooled))
        finally:
            self._give_back(pooled)

    @contextmanager
    def _borrowed(self, doing: str) -> Iterator[Transport]:
        pooled = self._retrying(lambda: self._checked_out(doing))
        try:
            yield _transport_of(pooled)
        finally:
            self._give_back(pooled)

    def _give_back(self, pooled: PoolProxiedConnection) -> None:
        if self.is_closed:
            pooled.detach()  # the pool that it came from is no more, so closing it closes it
        pooled.close()

    def _checked_out(self, doing: str) -> PoolProxiedConnection:
        if self.is_closed:
            raise StorageError(
                f"ClickHouse is closed: no {doing}.",
                remedy="Open the storage again, or make a new ClickHouseManager.",
            )
        with self._translated(doing), self._queue():
            return self._engine.raw_connection()

    def _connected(self) -> SqlConnection:
        with self._queue():
            return self._engine.connect()

    def _queue(self) -> PoolWaits:
        """Who waits for a connection is counted within it."""
        pool = self.pool_status()
        if pool.in_use >= pool.capacity:
            tell(WAITED)
        return self._waits

    def _execute_core(
        self, statement: Executable, params: Any, settings: Mapping[str, Any] | None, doing: str
    ) -> list[tuple[Any, ...]]:
        options: dict[str, Any] = {"settings": dict(settings)} if settings else {}
        with self._translated(doing), self._connected() as connection:
            result = connection.execute(statement, params, execution_options=options)
            return [tuple(row) for row in result.fetchall()] if result.returns_rows else []

    def _writing(self, settings: StatementSettings) -> Mapping[str, Any] | None:
        """The settings of an insert: a server's profile may say not to wait for it."""
        given = _now(settings)
        return given if self.is_embedded else {**_ACKNOWLEDGED, **(given or {})}

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return errors.translated(doing, self._hosts)

    def _retrying(self, work: Callable[[], _T]) -> _T:
        return self._attempts(work)


def _now(settings: StatementSettings) -> Mapping[str, Any] | None:
    return settings() if callable(settings) else settings


def _transport_of(pooled: PoolProxiedConnection) -> Transport:
    return cast(Connection, pooled.dbapi_connection).transport
