"""A DB-API connector whose connections can be pooled.

A cursor leaves the transport open, and the connection closes it. clickhouse-sqlalchemy's own
connector closes the TCP connection with every cursor and never with the connection.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from types import GeneratorType
from typing import Any

from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import PartiallyConsumedQueryError

from jts_storage.clickhouse import dbapi_errors
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.dbapi_errors import DatabaseError as DatabaseError
from jts_storage.clickhouse.dbapi_errors import DataError as DataError
from jts_storage.clickhouse.dbapi_errors import Error as Error
from jts_storage.clickhouse.dbapi_errors import IntegrityError as IntegrityError
from jts_storage.clickhouse.dbapi_errors import InterfaceError as InterfaceError
from jts_storage.clickhouse.dbapi_errors import InternalError as InternalError
from jts_storage.clickhouse.dbapi_errors import NotSupportedError as NotSupportedError
from jts_storage.clickhouse.dbapi_errors import OperationalError as OperationalError
from jts_storage.clickhouse.dbapi_errors import ProgrammingError as ProgrammingError
from jts_storage.clickhouse.dbapi_errors import Warning as Warning
from jts_storage.clickhouse.dbapi_types import BINARY as BINARY
from jts_storage.clickhouse.dbapi_types import DATETIME as DATETIME
from jts_storage.clickhouse.dbapi_types import NUMBER as NUMBER
from jts_storage.clickhouse.dbapi_types import ROWID as ROWID
from jts_storage.clickhouse.dbapi_types import STRING as STRING
from jts_storage.clickhouse.dbapi_types import Binary as Binary
from jts_storage.clickhouse.dbapi_types import Date as Date
from jts_storage.clickhouse.dbapi_types import DateFromTicks as DateFromTicks
from jts_storage.clickhouse.dbapi_types import Time as Time
from jts_storage.clickhouse.dbapi_types import TimeFromTicks as TimeFromTicks
from jts_storage.clickhouse.dbapi_types import Timestamp as Timestamp
from jts_storage.clickhouse.dbapi_types import TimestampFromTicks as TimestampFromTicks
from jts_storage.clickhouse.errors import shown
from jts_storage.clickhouse.transport import TcpTransport, Transport
from jts_storage.errors import StorageError

apilevel = "2.0"
threadsafety = 1
paramstyle = "pyformat"

_ONE_AT_A_TIME = (
    "A connection carries one statement at a time: read the rows of a stream to their end, or close"
    " its cursor, before the next."
)
_FAILED = "The rows that are left cannot be had: fetching them failed. Run the statement again."
_ENDED = "The rows that are left cannot be had: the connection has gone on to something else."

_INSERT = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*INSERT\b", re.IGNORECASE | re.DOTALL)
_ENDS_WITHOUT_ROWS = re.compile(r"\bVALUES\s*;?\s*\Z", re.IGNORECASE)


def connect(config: ClickHouseConfig) -> Connection:
    """Open a connection now, so that a pool learns at once when it cannot be had."""
    return Connection(config)


class Connection:
    """A pooled connection; `transport` is the way to whole columns."""

    def __init__(self, config: ClickHouseConfig) -> None:
        self.is_closed = False
        self.is_embedded = config.is_embedded
        self._last: weakref.ref[Cursor] | None = None
        self.transport = _transport(config)
        with _wrapped():
            self.transport.connect()

    def close(self) -> None:
        self.is_closed = True
        self.transport.disconnect()

    def begin(self, cursor: Cursor) -> None:
        """Make way for a statement of `cursor`.

        :raises InterfaceError: another cursor still reads its rows, and goes on with them.
        """
        last = self._last() if self._last is not None else None
        if last is not None and last is not cursor and last.is_streaming:
            raise InterfaceError(_ONE_AT_A_TIME)
        self.transport.discard_unfinished()
        self._last = weakref.ref(cursor)

    def leave(self, cursor: Cursor) -> None:
        """End the stream of `cursor`, unless the connection has gone on to another."""
        if self._last is not None and self._last() is cursor:
            self.transport.discard_unfinished()

    def revive(self) -> None:
        """Replace a transport that has gone; costs no round trip when it was just used."""
        if self.transport.is_broken():
            with _wrapped():
                self.transport.disconnect()
                self.transport.connect()

    def commit(self) -> None:
        """Nothing to do: ClickHouse stores each statement as it comes."""

    def rollback(self) -> None:
        """Nothing to undo; an abandoned stream ends here."""
        self._last = None
        self.transport.discard_unfinished()

    def cursor(self) -> Cursor:
        if self.is_closed:
            raise InterfaceError("The connection is closed.")
        return Cursor(self)


for _kind in dbapi_errors.ALL:  # an extension of PEP 249: whoever has the connection has them
    setattr(Connection, _kind.__name__, _kind)


class Cursor:
    """A cursor that leaves its connection open.

    :ivar arraysize: how many rows `fetchmany` gives unless told.
    :ivar description: name and type of each column, as PEP 249 has it.
    :ivar rowcount: the rows that an INSERT wrote, else -1.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Iterator[Any] | None = None
        self._stream: Any = None  # the generator of its rows, if they come as they are fetched
        self._is_closed = self._has_failed = False
        self.arraysize = 1
        self.rowcount = -1
        self.description: list[tuple[Any, ...]] = []

    @property
    def is_streaming(self) -> bool:
        """Whether rows of its statement are still to come."""
        return self._stream is not None and self._stream.gi_frame is not None

    def close(self) -> None:
        self._is_closed = True
        if self.is_streaming:
            self._connection.leave(self)
        self._forget()

    def execute(self, operation: str, parameters: Any = None, context: Any = None) -> None:
        """Run a statement.

        :param context: SQLAlchemy's, whose options may hold `settings`, `stream_results`,
            `max_row_buffer`, `external_tables` and `types_check`.
        """
        self._begin(operation)
        if not self._connection.is_embedded:  # which says so itself, with the engine's code
            _check_rows(operation, parameters)
        options = _options(context)
        arguments = _arguments(context, options) | {"with_column_types": True}
        with _wrapped():
            if options.get("stream_results"):
                arguments["settings"] = (arguments["settings"] or {}) | {
                    "max_block_size": options.get("max_row_buffer", 1000)
                }
                rows = self._connection.transport.execute_iter(operation, parameters, **arguments)
                self._take(rows, next(rows, ()))  # the first item of a stream is its columns
                self._stream = rows
                return
            answer = self._connection.transport.execute(operation, parameters, **arguments)
        if isinstance(answer, int):  # the number of rows of an INSERT
            self.rowcount, answer = answer, ((), ())
        self._take(*answer)

    def executemany(self, operation: str, seq_of_parameters: Any, context: Any = None) -> None:
        """Insert rows."""
        self._begin(operation)
        arguments = _arguments(context, _options(context))
        with _wrapped():
            written = self._connection.transport.execute(operation, seq_of_parameters, **arguments)
        self._take((), ())
        if isinstance(written, int):
            self.rowcount = written

    def fetchone(self) -> Any:
        with self._fetching() as rows:
            return next(rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        wanted: Any = self.arraysize if size is None else size
        if not isinstance(wanted, int) or wanted < 0:
            raise ProgrammingError(f"A number of rows to fetch is wanted, not {wanted!r}.")
        with self._fetching() as rows:
            return list(islice(rows, wanted))

    def fetchall(self) -> list[Any]:
        with self._fetching() as rows:
            return list(rows)

    def setinputsizes(self, sizes: Any) -> None:
        """Part of PEP 249; does nothing."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Part of PEP 249; does nothing."""

    def _begin(self, operation: Any) -> None:
        self._check_open()
        if not isinstance(operation, str):
            raise ProgrammingError(f"A statement is a text, not {type(operation).__name__}.")
        self._connection.begin(self)
        self._forget()

    def _check_open(self) -> None:
        if self._is_closed or self._connection.is_closed:
            what = "cursor" if self._is_closed else "connection"
            raise InterfaceError(f"The {what} is closed.")

    def _forget(self) -> None:
        self._rows, self._stream, self.rowcount, self.description = None, None, -1, []
        self._has_failed = False

    def _take(self, rows: Any, columns: Any) -> None:
        self._rows = iter(rows)
        self.description = [(name, kind, *[None] * 4, True) for name, kind in columns]

    @contextmanager
    def _fetching(self) -> Iterator[Iterator[Any]]:
        """The rows that are left; none, once fetching them has failed."""
        rows = self._result()
        try:
            with _wrapped():
                yield rows
        except BaseException:
            self._has_failed = True
            raise

    def _result(self) -> Iterator[Any]:
        self._check_open()
        if self._has_failed:
            raise InterfaceError(_FAILED)
        if self._rows is None:
            raise ProgrammingError("There is nothing to fetch: no statement was run.")
        return self._rows


def _check_rows(operation: str, parameters: Any) -> None:
    """:raises ProgrammingError: the server would wait for rows that never come."""
    is_several = isinstance(parameters, list | tuple | GeneratorType)
    if is_several or not _ENDS_WITHOUT_ROWS.search(operation, max(0, len(operation) - 64)):
        return
    if _INSERT.match(operation):
        raise ProgrammingError(
            "The INSERT ends with VALUES and brings no rows: pass them to `executemany`."
        )


def _options(context: Any) -> Mapping[str, Any]:
    return context.execution_options if context else {}


def _arguments(context: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    tables = options.get("external_tables")
    return {
        "settings": options.get("settings"),
        "types_check": options.get("types_check", False),
        "external_tables": tables and [_external(table, context.dialect) for table in tables],
    }


def _external(table: Any, dialect: Any) -> dict[str, Any]:
    """A table that is sent along with a statement, as clickhouse-driver wants it."""
    return {
        "name": table.name,
        "structure": [(c.name, dialect.type_compiler.process(c.type)) for c in table.columns],
        "data": table.dialect_options["clickhouse"]["data"],
    }


def _transport(config: ClickHouseConfig) -> Transport:
    if not config.is_embedded:
        return TcpTransport(config)
    from jts_storage.clickhouse.embedded.transport import ChdbTransport

    return ChdbTransport(config)


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except StorageError as exc:
        raise OperationalError(str(exc)) from exc
    except PartiallyConsumedQueryError as exc:
        raise InterfaceError(_ENDED) from exc
    except (DriverError, OSError, EOFError) as exc:
        code = getattr(exc, "code", None)
        text = f"Code: {code}. {shown(exc)}" if code and code > 0 else shown(exc)
        raise dbapi_errors.kind_of(code)(text) from exc
