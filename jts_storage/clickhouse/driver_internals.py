"""All that the kit uses of clickhouse-driver beside its documented client and its errors.

A new release of the driver is to be compared with this file alone; `DEPENDS_ON` and the imports say
what it must still have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

# The driver's readers and writers know every type of ClickHouse. The embedded engine, which speaks
# in the same format, the transport of whole columns and the test server are built on them; without
# them the kit would need a codec of its own.
from clickhouse_driver import defines as defines
from clickhouse_driver.block import BlockInfo as BlockInfo
from clickhouse_driver.block import ColumnOrientedBlock as ColumnOrientedBlock
from clickhouse_driver.block import RowOrientedBlock as RowOrientedBlock
from clickhouse_driver.bufferedreader import BufferedSocketReader as BufferedSocketReader
from clickhouse_driver.bufferedreader import CompressedBufferedReader as CompressedBufferedReader
from clickhouse_driver.bufferedwriter import BufferedSocketWriter as BufferedSocketWriter
from clickhouse_driver.bufferedwriter import CompressedBufferedWriter as CompressedBufferedWriter
from clickhouse_driver.client import Client
from clickhouse_driver.columns import service
from clickhouse_driver.columns.mapcolumn import MapColumn
from clickhouse_driver.columns.service import read_column as read_column
from clickhouse_driver.columns.service import write_column as write_column
from clickhouse_driver.compression import get_compressor_cls as get_compressor_cls
from clickhouse_driver.connection import Connection
from clickhouse_driver.connection import ServerInfo as ServerInfo
from clickhouse_driver.context import Context as Context
from clickhouse_driver.errors import NetworkError, PartiallyConsumedQueryError
from clickhouse_driver.protocol import ClientPacketTypes as ClientPacketTypes
from clickhouse_driver.protocol import ServerPacketTypes as ServerPacketTypes
from clickhouse_driver.reader import read_binary_str as read_binary_str
from clickhouse_driver.reader import read_binary_uint8 as read_binary_uint8
from clickhouse_driver.reader import read_binary_uint64 as read_binary_uint64
from clickhouse_driver.reader import read_binary_uint128 as read_binary_uint128

# Older clients send these settings as numbers, which the test server must read.
from clickhouse_driver.settings.available import settings as available_settings
from clickhouse_driver.settings.types import SettingBool, SettingMaxThreads, SettingUInt64
from clickhouse_driver.streams.compressed import (
    CompressedBlockInputStream as CompressedBlockInputStream,
)
from clickhouse_driver.streams.compressed import (
    CompressedBlockOutputStream as CompressedBlockOutputStream,
)
from clickhouse_driver.streams.native import BlockInputStream as BlockInputStream
from clickhouse_driver.streams.native import BlockOutputStream as BlockOutputStream

# Values are written into a statement as the driver writes them, over TCP or not.
from clickhouse_driver.util.escape import escape_param as escape_param
from clickhouse_driver.util.escape import escape_params as escape_params
from clickhouse_driver.varint import read_varint as read_varint
from clickhouse_driver.varint import write_varint as write_varint
from clickhouse_driver.writer import write_binary_int32 as write_binary_int32
from clickhouse_driver.writer import write_binary_str as write_binary_str
from clickhouse_driver.writer import write_binary_uint8 as write_binary_uint8

from jts_storage.clickhouse.sockets import is_readable

DEPENDS_ON = {
    "clickhouse_driver.connection:Connection": (
        # Overridden; `WireConnection` says why.
        *("force_connect", "_init_connection", "receive_data"),
        # A statement of whole columns is put together from these.
        *("send_query", "send_external_tables", "send_data"),
        *("block_in", "block_out", "fin", "fout", "context"),
        # By these it is found out, without asking the server, that a connection has gone.
        *("connect", "disconnect", "connected", "ping", "socket", "secure_socket"),
        *("is_query_executing", "check_query_execution", "server_info"),
        *("connect_timeout", "send_receive_timeout"),
    ),
    "clickhouse_driver.client:Client": (
        *("connection", "settings", "client_settings", "disconnect_on_error", "substitute_params"),
        *("packet_generator", "receive_sample_block", "receive_profile_events"),
        "receive_end_of_insert_query",
    ),
    "clickhouse_driver.connection:ServerInfo": ("version_tuple", "used_revision"),
    "clickhouse_driver.context:Context": ("server_info", "settings", "client_settings"),
    "clickhouse_driver.bufferedreader:CompressedBufferedReader": (
        *("position", "read_one", "read_strings", "read_fixed_strings"),
    ),
}
"""What is used of a class. That a name can be imported is seen by importing this module."""


def _map_column(spec: str, column_of: Callable[[str], Any], options: Any) -> Any:
    """The reader of a ``Map(K, V)``, whatever V is.

    The driver's own splits at each comma that no closing bracket follows, and fails where the
    values are maps of maps, or maps of decimals.
    """
    inner = spec[len("Map(") : -1]
    depth = 0
    for place, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            key, value = inner[:place], inner[place + 1 :]
            return MapColumn(column_of(key.strip()), column_of(value.strip()), **options)
    raise ValueError(f"{spec} is no type of a map")


service.create_map_column = _map_column

CLIENT_SETTINGS: Mapping[str, Any] = Client("nowhere").client_settings
"""The settings that are meant for the driver and never sent, with their defaults."""

SENT_AS_NUMBERS = frozenset(
    name
    for name, kind in available_settings.items()
    if kind in {SettingBool, SettingMaxThreads, SettingUInt64}
)
"""The settings that older clients send as a number; everything else is a text."""

ReadBlock = Callable[[Any, Context], Any]
WriteBlock = Callable[[Any, Context], None]


class WireConnection(Connection):  # type: ignore[misc]
    """A connection that can leave the reading of blocks to somebody else.

    :ivar read_block: reads a block of a result; None leaves it to the driver, which makes Python
        objects of all values.
    """

    read_block: ReadBlock | None = None
    send_receive_timeout: float

    def force_connect(self) -> None:
        """Connect if need be; the driver would ask the server before each statement, too."""
        self.check_query_execution()
        if not self.connected:
            self.connect()
            self.is_query_executing = True

    def _init_connection(self, host: str, port: int) -> None:
        """Let the greeting obey ``connect_timeout``; the driver waits ``send_receive_timeout``."""
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
        if self.read_block is None or not may_be_use_numpy:
            return super().receive_data(may_be_compressed, may_be_use_numpy)
        self.fin.read(self.fin.read_one())  # the name of a temporary table, always empty here
        return self.read_block(self.block_in.fin, self.context)

    def send_block(self, write: WriteBlock) -> None:
        """Send what `write` writes as a block of rows."""
        write_varint(ClientPacketTypes.DATA, self.fout)
        write_binary_str("", self.fout)
        write(self.block_out.fout, self.context)
        self.block_out.finalize()


class WireClient(Client):  # type: ignore[misc]
    """The driver's client with statements of whole blocks, and a connection that is looked at.

    :param idle_check: after so many idle seconds the server is asked whether it is still there.
    """

    def __init__(self, options: Mapping[str, Any], idle_check: float) -> None:
        super().__init__(**options)
        self.connection = WireConnection(
            **{name: value for name, value in options.items() if name != "settings"}
        )
        self.connection.context.settings = self.settings
        self.connection.context.client_settings = self.client_settings
        self._idle_check = idle_check
        self._used_at = time.monotonic()

    def connect(self) -> None:
        if not self.connection.connected:
            self.connection.connect()
            self._used_at = time.monotonic()

    def execute(self, query: str, params: Any = None, **options: Any) -> Any:
        self._begin(None)
        try:
            return super().execute(query, params, **options)
        finally:
            self._used_at = time.monotonic()

    def execute_iter(self, query: str, params: Any = None, **options: Any) -> Any:
        self._begin(None)
        return super().execute_iter(query, params, **options)

    def read_blocks(
        self, query: str, params: Any, settings: Mapping[str, Any], read: ReadBlock
    ) -> Iterator[Any]:
        """The blocks of a result as `read` makes them, among others that it did not read."""
        self._begin(read)
        try:
            with self.disconnect_on_error(query, settings):
                if params is not None:
                    query = self.substitute_params(query, params, self.connection.context)
                self.connection.send_query(query)
                self.connection.send_external_tables(None)
            for packet in self.packet_generator():
                yield packet.block
        finally:
            self._used_at = time.monotonic()

    def insert_blocks(
        self,
        query: str,
        settings: Mapping[str, Any] | None,
        blocks: Callable[[dict[str, str]], Iterable[WriteBlock]],
    ) -> None:
        """Insert rows.

        :param blocks: gives, for the names and types of the columns, what writes each block.
        """
        self._begin(None)
        try:
            with self.disconnect_on_error(query, settings):
                self.connection.send_query(query)
                self.connection.send_external_tables(None)
                sample = self.receive_sample_block()
                for write in blocks(dict(sample.columns_with_types)):
                    self.connection.send_block(write)
                    self.receive_profile_events()
                self.connection.send_data(ColumnOrientedBlock())
                self.receive_profile_events()
                self.receive_end_of_insert_query()
        finally:
            self._used_at = time.monotonic()

    def _begin(self, read: ReadBlock | None) -> None:
        """Refuse a statement while another is under way; the driver would end both."""
        if self._is_busy():
            raise PartiallyConsumedQueryError
        self.connection.read_block = read

    def _is_busy(self) -> bool:
        return bool(self.connection.connected and self.connection.is_query_executing)

    def packet_generator(self) -> Iterator[Any]:
        """As the driver's, but never of the connection that has replaced the statement's own."""
        socket, packets = self.connection.socket, super().packet_generator()
        while self.connection.socket is socket is not None:
            try:
                packet = next(packets)
            except StopIteration:
                return
            yield packet
        raise PartiallyConsumedQueryError

    def ping(self) -> bool:
        self.connect()
        return bool(self.connection.ping())

    def is_broken(self) -> bool:
        connection = self.connection
        if not connection.connected or self._is_busy():
            return not connection.connected
        # A quiet connection has nothing to read; what there is, is its end.
        if is_readable(connection.socket) and not connection.secure_socket:
            return True
        return time.monotonic() - self._used_at > self._idle_check and not self._answers()

    def discard_unfinished(self) -> None:
        if self._is_busy():
            self.disconnect()

    def server_version(self) -> str:
        self.connect()
        return ".".join(map(str, self.connection.server_info.version_tuple()))

    def _answers(self) -> bool:
        try:
            alive = bool(self.connection.ping())
        except NetworkError:
            return False
        self._used_at = time.monotonic()
        return alive
