"""What a pooled connection speaks through, over TCP; the embedded engine has its own.

`TcpTransport` is clickhouse-driver's client with four things changed: a connection is checked by
looking at its socket instead of asking the server before every statement, the greeting obeys
``connect_timeout``, whole columns move as NumPy arrays, and an unfinished stream is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from jts_storage.clickhouse.blocks import (
    ArraysByName,
    ColumnBlock,
    Typed,
    number_of_rows,
    read_block,
    sliced,
    write_block,
)
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.driver_internals import WireClient, WriteBlock
from jts_storage.clickhouse.joining import joined
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
WRITE_ROWS = 1_000_000
"""Rows of one insert: below the server's block size, so that it is one part, all or nothing."""


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
        *,
        dictionaries: bool = False,
    ) -> ArraysByName:
        """The whole result as one array a column; the arrays own their memory.

        :param stored: see `ClickHouseManager.read_columns`, also of `dictionaries`.
        """

    def stream_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
    ) -> Generator[ArraysByName, None, None]:
        """The result block by block; each block's arrays own their memory.

        :param stored: see `ClickHouseManager.read_columns`.
        """

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


class TcpTransport(WireClient):
    """A `Transport` over the native protocol."""

    def __init__(self, config: ClickHouseConfig) -> None:
        super().__init__(_connection_options(config), config.idle_check)

    @classmethod
    def from_url(cls, url: str) -> TcpTransport:
        return cls(ClickHouseConfig.from_url(url))

    def read_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
        *,
        dictionaries: bool = False,
    ) -> ArraysByName:
        blocks = self._blocks(query, params, settings, raw=stored is not None)
        return joined(checked(blocks, stored), dictionaries=dictionaries)

    def stream_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
    ) -> Generator[ArraysByName, None, None]:
        blocks = self._blocks(query, params, settings, raw=stored is not None)
        for block in checked(blocks, stored):
            if block.num_rows:
                yield joined([block])

    def insert_columns(
        self, table: str, columns: Mapping[str, Typed], settings: Mapping[str, Any] | None = None
    ) -> int:
        def blocks(actual: Mapping[str, str]) -> Iterator[WriteBlock]:
            for piece in sliced(as_table_types(table, columns, actual), INSERT_BLOCK_ROWS):
                yield partial(write_block, columns=piece)

        self.insert_blocks(f"{insert_into(table, columns)} VALUES", settings, blocks)
        return number_of_rows(columns)

    def _blocks(
        self, query: str, params: Any, settings: Mapping[str, Any] | None, *, raw: bool = False
    ) -> Iterator[ColumnBlock]:
        settings = {**READ_SETTINGS, **(settings or {})}
        for block in self.read_blocks(query, params, settings, partial(read_block, raw=raw)):
            if isinstance(block, ColumnBlock):
                yield block


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
    settings = dict(config.settings)
    if config.cluster is not None:
        # A server's profile may say otherwise: half of the rows would then pass for all.
        settings.setdefault("skip_unavailable_shards", 0)
    if config.readonly:
        settings.setdefault("readonly", 2)
    options: dict[str, Any] = {
        "settings": settings,
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
