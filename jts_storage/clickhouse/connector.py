"""A DB-API connector whose connections can be pooled.

A cursor leaves the transport open, and the connection closes it. clickhouse-sqlalchemy's own
connector closes the TCP connection with every cursor and never with the connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from clickhouse_driver.errors import Error as DriverError

from jts_storage.clickhouse import dbapi_errors
from jts_storage.clickhouse.config import ClickHouseConfig

# PEP 249 has the exceptions in the module of the connector.
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
from jts_storage.clickhouse.errors import shown
from jts_storage.clickhouse.transport import TcpTransport, Transport
from jts_storage.errors import StorageError

apilevel = "2.0"
threadsafety = 1
paramstyle = "pyformat"


def connect(config: ClickHouseConfig) -> Connection:
    """Open a connection now, so that a pool learns at once when it cannot be had."""
    return Connection(config)


class Connection:
    """A pooled connection; `transport` is the way to whole columns."""

    def __init__(self, config: ClickHouseConfig) -> None:
        self.transport = _transport(config)
        with _wrapped():
            self.transport.connect()

    def close(self) -> None:
        self.transport.disconnect()

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
        self.transport.discard_unfinished()

    def cursor(self) -> Cursor:
        return Cursor(self)


for _kind in dbapi_errors.ALL:  # an extension of PEP 249: exceptions as attributes of it, too
    setattr(Connection, _kind.__name__, _kind)


class Cursor:
    """A cursor that leaves its connection open.

    :ivar arraysize: how many rows `fetchmany` gives when it is not given a number.
    :ivar description: name and type of each column, as PEP 249 has it.
    :ivar rowcount: the rows that an INSERT wrote, else -1.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Iterator[Any] | None = None
        self.arraysize = 1
        self.rowcount = -1
        self.description: list[tuple[Any, ...]] = []

    def close(self) -> None:
        self._connection.transport.discard_unfinished()

    def execute(self, operation: str, parameters: Any = None, context: Any = None) -> None:
        """Run a statement.

        :param context: SQLAlchemy's, whose options may hold `settings`, `stream_results`,
            `max_row_buffer`, `external_tables` and `types_check`.
        """
        self._forget()
        options = _options(context)
        arguments = _arguments(context, options) | {"with_column_types": True}
        with _wrapped():
            if options.get("stream_results"):
                # The engine sends blocks of so many rows, so a stream never holds more.
                arguments["settings"] = (arguments["settings"] or {}) | {
                    "max_block_size": options.get("max_row_buffer", 1000)
                }
                rows = self._connection.transport.execute_iter(operation, parameters, **arguments)
                self._take(rows, next(rows, ()))  # the first item of a stream is its columns
                return
            answer = self._connection.transport.execute(operation, parameters, **arguments)
        if isinstance(answer, int):  # the number of rows of an INSERT
            self.rowcount, answer = answer, ((), ())
        self._take(*answer)

    def executemany(self, operation: str, seq_of_parameters: Any, context: Any = None) -> None:
        """Insert rows."""
        self._forget()
        arguments = _arguments(context, _options(context))
        with _wrapped():
            written = self._connection.transport.execute(operation, seq_of_parameters, **arguments)
        self._take((), ())
        if isinstance(written, int):
            self.rowcount = written

    def fetchone(self) -> Any:
        with _wrapped():
            return next(self._result(), None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        with _wrapped():
            return list(islice(self._result(), self.arraysize if size is None else size))

    def fetchall(self) -> list[Any]:
        with _wrapped():
            return list(self._result())

    def setinputsizes(self, sizes: Any) -> None:
        """Part of PEP 249; does nothing."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Part of PEP 249; does nothing."""

    def _forget(self) -> None:
        self._rows, self.rowcount, self.description = None, -1, []

    def _take(self, rows: Any, columns: Any) -> None:
        self._rows = iter(rows)
        self.description = [(name, kind, *[None] * 4, True) for name, kind in columns]

    def _result(self) -> Iterator[Any]:
        if self._rows is None:
            raise ProgrammingError("There is nothing to fetch: no statement was run.")
        return self._rows


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
    except (DriverError, OSError, EOFError) as exc:
        code = getattr(exc, "code", None)
        text = f"Code: {code}. {shown(exc)}" if code and code > 0 else shown(exc)
        raise dbapi_errors.kind_of(code)(text) from exc
