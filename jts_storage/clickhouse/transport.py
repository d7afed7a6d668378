"""What a pooled connection speaks through, over TCP; the embedded engine has its own.

`TcpTransport` is clickhouse-driver's client with four things changed: a connection is checked by
looking at its socket instead of asking the server before every statement, the greeting obeys
``connect_timeout``, whole columns move as NumPy arrays, and an unfinished stream is discarded.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from clickhouse_driver.block import ColumnOrientedBlock
from clickhouse_driver.client import Client
from clickhouse_driver.connection import Connection as DriverConnection
from clickhouse_driver.errors import NetworkError
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str

from jts_storage.clickhouse.blocks import (
    ColumnBlock,
    Columns,
    Typed,
    joined,
    number_of_rows,
    read_block,
    sliced,
    write_block,
)
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.sql import insert_into
from jts_storage.errors import SchemaDrift

READ_SETTINGS: Mapping[str, Any] = {
    "max_threads": 1,
    "max_block_size": 65_536,
    "preferred_block_size_bytes": 0,
}
"""What makes whole columns come fastest: one thread, and blocks that stay in the processor's cache
while they are copied."""

INSERT_BLOCK_ROWS = 1_048_576


def is_readable(file: Any, seconds: float = 0.0) -> bool:
    """Whether a socket or pipe has something to read, its end included.

    ``select.select`` knows no descriptor above 1,023, and services have more than that open.
    """
    watch = select.poll()
    watch.register(file, select.POLLIN)
    return bool(watch.poll(seconds * 1_000))


class Transport(Protocol):
    """One connection to ClickHouse; for one thread at a time."""

    def connect(self) -> None:
        """Open it now; nothing happens when it is open."""

    @property
    def execute(self) -> Callable[..., Any]:
        """As clickhouse-driver's ``Client.execute``."""

    @property
    def execute_iter(self) -> Callable[..., Iterator[Any]]:
        """As clickhouse-driver's ``Client.execute_iter``."""

    def read_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
    ) -> Columns:
        """The whole result as one array a column; the arrays own their memory.

        :param stored: see `ClickHouseManager.read_columns`.
        """

    def stream_columns(
        self, query: str, params: Any = None, settings: Mapping[str, Any] | None = None
    ) -> Generator[Columns, None, None]:
        """The result block by block; each block's arrays own their memory."""

    def insert_columns(
        self, table: str, columns: Mapping[str, Typed], settings: Mapping[str, Any] | None = None
    ) -> int:
        """Write columns into a table named as SQL names it; returns the number of rows."""

    def ping(self) -> bool:
        """Ask the server whether it is there."""

    def is_broken(self) -> bool:
        """Whether the connection has visibly gone, found out without asking the server."""

    def discard_unfinished(self) -> None:
        """Leave nothing of an abandoned stream behind for the next statement."""

    def disconnect(self) -> None:
        """Close it; the next statement opens it again."""

    def server_version(self) -> str:
        """Such as ``"26.9.2"``."""


class _Connection(DriverConnection):  # type: ignore[misc]
    columnar = False
    raw = False
    send_receive_timeout: float

    def force_connect(self) -> None:
        self.check_query_execution()
        if not self.connected:
            self.connect()
            self.is_query_executing = True

    def _init_connection(self, host: str, port: int) -> None:
        patient, self.send_receive_timeout = self.send_receive_timeout, self.connect_timeout
        try:
            super()._init_connection(host, port)
            self.socket.settimeout(patient)
        except EOFError as exc:
            self.disconnect()
            raise ConnectionResetError(f"{host}:{port} closed the connection at once") from exc
        except BaseException:
            self.disconnect()  # the driver forgets to when the server refuses the user
            raise
        finally:
            self.send_receive_timeout = patient

    def receive_data(self, may_be_compressed: bool = True, may_be_use_numpy: bool = False) -> Any:
        if not (self.columnar and may_be_use_numpy):
            return super().receive_data(may_be_compressed, may_be_use_numpy)
        self.fin.read(self.fin.read_one())  # the name of a temporary table, always empty here
        return read_block(self.block_in.fin, self.context, raw=self.raw)

    def send_columns(self, columns: Mapping[str, Typed]) -> None:
        write_varint(ClientPacketTypes.DATA, self.fout)
        write_binary_str("", self.fout)
        write_block(self.block_out.fout, self.context, columns)
        self.block_out.finalize()


class TcpTransport(Client):  # type: ignore[misc]
    """A `Transport` over the native protocol."""

    def __init__(self, config: ClickHouseConfig) -> None:
        settings = dict(config.settings)
        if config.readonly:
            settings.setdefault("readonly", 2)
        options = _connection_options(config)
        super().__init__(settings=settings, **options)
        self._use(_Connection(**options))
        self._idle_check = config.idle_check
        self._used_at = time.monotonic()

    @classmethod
    def from_url(cls, url: str) -> TcpTransport:
        return cls(ClickHouseConfig.from_url(url))

    def _use(self, connection: _Connection) -> None:
        connection.context.settings = self.settings
        connection.context.client_settings = self.client_settings
        self.connection = connection

    def connect(self) -> None:
        if not self.connection.connected:
            self.connection.connect()
            self._used_at = time.monotonic()

    def execute(self, query: str, params: Any = None, **options: Any) -> Any:
        self.connection.columnar = False
        try:
            return super().execute(query, params, **options)
        finally:
            self._used_at = time.monotonic()

    def execute_iter(self, query: str, params: Any = None, **options: Any) -> Any:
        self.connection.columnar = False
        return super().execute_iter(query, params, **options)

    def read_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
    ) -> Columns:
        blocks = self._blocks(query, params, settings, raw=stored is not None)
        return joined(checked(blocks, stored))

    def stream_columns(
        self, query: str, params: Any = None, settings: Mapping[str, Any] | None = None
    ) -> Generator[Columns, None, None]:
        for block in self._blocks(query, params, settings):
            if block.num_rows:
                yield joined([block])

    def _blocks(
        self, query: str, params: Any, settings: Mapping[str, Any] | None, *, raw: bool = False
    ) -> Iterator[ColumnBlock]:
        settings = {**READ_SETTINGS, **(settings or {})}
        self.connection.columnar = True
        self.connection.raw = raw
        try:
            with self.disconnect_on_error(query, settings):
                if params is not None:
                    query = self.substitute_params(query, params, self.connection.context)
                self.connection.send_query(query)
                self.connection.send_external_tables(None)
            for packet in self.packet_generator():
                if isinstance(packet.block, ColumnBlock):
                    yield packet.block
        finally:
            self._used_at = time.monotonic()

    def insert_columns(
        self, table: str, columns: Mapping[str, Typed], settings: Mapping[str, Any] | None = None
    ) -> int:
        self.connection.columnar = False
        query = f"{insert_into(table, columns)} VALUES"
        try:
            with self.disconnect_on_error(query, settings):
                self.connection.send_query(query)
                self.connection.send_external_tables(None)
                sample = self.receive_sample_block()
                fitted = as_table_types(table, columns, dict(sample.columns_with_types))
                for piece in sliced(fitted, INSERT_BLOCK_ROWS):
                    self.connection.send_columns(piece)
                    self.receive_profile_events()
                self.connection.send_data(ColumnOrientedBlock())
                self.receive_profile_events()
                self.receive_end_of_insert_query()
        finally:
            self._used_at = time.monotonic()
        return number_of_rows(columns)

    def ping(self) -> bool:
        self.connect()
        return bool(self.connection.ping())

    def is_broken(self) -> bool:
        connection = self.connection
        if not connection.connected or connection.is_query_executing:
            return not connection.connected
        # A quiet connection has nothing to read; what there is, is its end.
        if is_readable(connection.socket) and not connection.secure_socket:
            return True
        return time.monotonic() - self._used_at > self._idle_check and not self._answers()

    def _answers(self) -> bool:
        try:
            alive = bool(self.connection.ping())
        except NetworkError:
            return False
        self._used_at = time.monotonic()
        return alive

    def discard_unfinished(self) -> None:
        if self.connection.connected and self.connection.is_query_executing:
            self.disconnect()

    def server_version(self) -> str:
        self.connect()
        return ".".join(map(str, self.connection.server_info.version_tuple()))


def as_table_types(
    table: str, columns: Mapping[str, Typed], actual: Mapping[str, str]
) -> dict[str, Typed]:
    """Label columns as the table does, where the bytes are the same.

    :raises SchemaDrift: where the table has another type: integers that mean scaled prices in
        one type mean something else in the next.
    """
    fitted = {}
    for name, column in columns.items():
        wanted = actual.get(name, column.type)
        if not _same_values(column.type, wanted):
            raise SchemaDrift(
                f"Column {name} of {table} is {wanted}; the rows to write hold {column.type}.",
                remedy="Apply the migrations, or write the type that the table has.",
            )
        fitted[name] = Typed(wanted, column.values)
    return fitted


def checked(
    blocks: Iterable[ColumnBlock], stored: Mapping[str, str] | None
) -> Iterator[ColumnBlock]:
    """
    :raises SchemaDrift: a column is not of the type that its integers are taken for.
    """
    for block in blocks:
        for name, actual in block.columns_with_types if stored else ():
            wanted = (stored or {}).get(name, actual)
            if not _same_values(actual, wanted):
                raise SchemaDrift(
                    f"Column {name} of the result is {actual} where {wanted} is expected: its "
                    "values would be read as others.",
                    remedy="`jts-storage check` tells what differs and which command mends it.",
                )
        yield block


def _same_values(given: str, wanted: str) -> bool:
    return _essence(given) == _essence(wanted)


def _essence(type_name: str) -> str:
    """The type without what does not change its values: time zone, dictionary, spelling."""
    bare = type_name.replace(" ", "")
    if bare.startswith("LowCardinality("):
        bare = bare.removeprefix("LowCardinality(").removesuffix(")")
    if bare.startswith("Decimal64("):
        return f"Decimal(18,{bare.removeprefix('Decimal64(')}"
    if bare.startswith("DateTime"):
        scale = bare.partition("(")[2].partition(",")[0].rstrip(")")
        return f"DateTime64({scale})" if bare.startswith("DateTime64") else "DateTime"
    return bare


def _connection_options(config: ClickHouseConfig) -> dict[str, Any]:
    options: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "database": config.database,
        "user": config.user,
        "password": config.password,
        "client_name": "jts-storage",
        "connect_timeout": config.connect_timeout,
        "send_receive_timeout": config.send_receive_timeout,
        "sync_request_timeout": min(config.connect_timeout, config.send_receive_timeout),
        "compression": config.wire_compression or False,
        "secure": config.secure,
        "verify": config.verify,
        "ca_certs": config.ca_file,
        "certfile": config.cert_file,
        "keyfile": config.key_file,
        "tcp_keepalive": True,
    }
    if config.alt_hosts:
        options["alt_hosts"] = ",".join(config.hosts[1:])
    return options
