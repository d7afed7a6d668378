"""A DB-API connector whose connections can be pooled.

clickhouse-sqlalchemy's own closes the TCP connection with every cursor and never with the
connection. Here a cursor leaves the transport open, and the connection closes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from clickhouse_driver.errors import Error as DriverError
from clickhouse_sqlalchemy.drivers.native import connector as native

from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.errors import WrappedDriverError
from jts_storage.clickhouse.transport import TcpTransport, Transport
from jts_storage.errors import StorageError

apilevel = native.apilevel
threadsafety = 1
paramstyle = native.paramstyle


Error = WrappedDriverError


class DatabaseError(Error):
    """The server, or the way to it, reported a failure."""


def connect(config: ClickHouseConfig) -> Connection:
    """Open a connection now, so that a pool learns at once when it cannot be had."""
    return Connection(config)


class Connection(native.Connection):  # type: ignore[misc]
    """A pooled connection; `transport` is the way to whole columns."""

    transport: Transport

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

    def rollback(self) -> None:
        """Nothing to undo; an abandoned stream ends here."""
        self.transport.discard_unfinished()

    def cursor(self) -> Cursor:
        return Cursor(self)


class Cursor(native.Cursor):  # type: ignore[misc]
    """A cursor that leaves its connection open."""

    _rows: Any

    def close(self) -> None:
        self._connection.transport.discard_unfinished()

    def execute(self, operation: str, parameters: Any = None, context: Any = None) -> None:
        self._run(operation, parameters, context, with_column_types=True)

    def executemany(self, operation: str, seq_of_parameters: Any, context: Any = None) -> None:
        self._run(operation, seq_of_parameters, context)

    def _run(self, operation: str, parameters: Any, context: Any, **options: Any) -> None:
        self._reset_state()
        self._begin_query()
        execute, arguments = self._prepare(context)
        with _wrapped():
            response = execute(operation, params=parameters, **options, **arguments)
            if not options:
                self._rowcount = response
                response = None
            self._process_response(response)
        self._rows = iter(self._rows)
        self._end_query()

    def _process_response(self, response: Any, executemany: bool = False) -> None:
        # An empty stream has no header to take; the generator's end must not look like an error.
        if self._stream_results and response is not None:
            header = next(response, None)
            response = chain([header], response) if header is not None else None
        super()._process_response(response, executemany)

    def fetchone(self) -> Any:
        self.check_query_started()
        with _wrapped():
            return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        self.check_query_started()
        with _wrapped():
            return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        self.check_query_started()
        with _wrapped():
            return list(self._rows)


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
        raise DatabaseError(str(exc)) from exc
    except (DriverError, OSError, EOFError) as exc:
        raise DatabaseError(type(exc).__name__) from exc
