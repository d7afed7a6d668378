"""One client's conversation with the endpoint, in ClickHouse's native protocol."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import ErrorCodes

from jts_storage.clickhouse.blocks import (
    ColumnBlock,
    MemoryReader,
    Typed,
    read_block,
    write_block,
)
from jts_storage.clickhouse.driver_internals import (
    BlockInfo,
    BlockInputStream,
    BlockOutputStream,
    BufferedSocketReader,
    BufferedSocketWriter,
    ClientPacketTypes,
    CompressedBlockInputStream,
    CompressedBlockOutputStream,
    CompressedBufferedWriter,
    Context,
    ServerInfo,
    ServerPacketTypes,
    defines,
    get_compressor_cls,
    read_binary_str,
    read_varint,
    write_binary_int32,
    write_binary_str,
    write_binary_uint8,
    write_varint,
)
from jts_storage.clickhouse.embedded.transport import ChdbTransport
from jts_storage.clickhouse.endpoint.query import read_query
from jts_storage.clickhouse.errors import EmbeddedError
from jts_storage.clickhouse.sockets import is_readable
from jts_storage.clickhouse.sql import first_word, insert_target, literal, quoted
from jts_storage.errors import StorageError

REVISION = defines.DBMS_MIN_REVISION_WITH_OPENTELEMETRY
"""54442: the newest revision whose packets are still few."""

_BUFFER = defines.BUFFER_SIZE
_AUTHENTICATION_FAILED = 516
_INLINE_DATA = re.compile(r"\bVALUES\s*\S|\bSELECT\b|\bWITH\b", re.IGNORECASE)
_SETTINGS = re.compile(r"\bSETTINGS\b.*?(?=\bVALUES\b|\bFORMAT\b|$)", re.IGNORECASE | re.DOTALL)
_INPUT = re.compile(r"\binput\s*\(\s*('(?:[^'\\]|\\.)*')\s*\)", re.IGNORECASE)


class NativeSession:
    """Serves one connection until the client goes.

    :param channel: the client's socket, or what stands before it: only `sendall` is used.
    """

    def __init__(
        self,
        sock: socket.socket,
        channel: Any,
        transport: ChdbTransport,
        credentials: Mapping[str, str],
    ) -> None:
        self._sock = sock
        self._in = BufferedSocketReader(sock, _BUFFER)
        self._out = BufferedSocketWriter(channel, _BUFFER)
        self._transport = transport
        self._credentials = credentials
        self._context = Context()
        self._plain_in = BlockInputStream(self._in, self._context)
        self._plain_out = BlockOutputStream(self._out, self._context)
        self._revision = 0
        self._compressed = False
        self._packed_in: Any = None
        self._packed_out: Any = None

    def serve(self) -> None:
        """Greet, then answer packet by packet."""
        if not self._greeted():
            return
        while True:
            packet = read_varint(self._in)
            if packet == ClientPacketTypes.PING:
                self._send(ServerPacketTypes.PONG)
            elif packet == ClientPacketTypes.QUERY:
                self._answer()
            elif packet != ClientPacketTypes.CANCEL:  # a late one means nothing
                return

    # ---- greeting

    def _greeted(self) -> bool:
        if read_varint(self._in) != ClientPacketTypes.HELLO:
            return False
        read_binary_str(self._in)
        read_varint(self._in), read_varint(self._in)
        self._revision = revision = min(read_varint(self._in), REVISION)
        database, user, password = (read_binary_str(self._in) for _ in range(3))
        if self._credentials and self._credentials.get(user) != password:
            self._send_error(EmbeddedError(f"{user}: wrong password.", _AUTHENTICATION_FAILED))
            return False
        engine = self._transport.context
        try:
            if database:
                self._transport.execute(f"USE {quoted(database)}")
        except DriverError as failure:
            self._send_error(failure)
            return False
        info = engine.server_info
        self._context.server_info = ServerInfo(
            "ClickHouse", *info.version_tuple(), REVISION, info.timezone, "test", revision
        )
        self._context.settings = {}
        self._context.client_settings = engine.client_settings
        write_varint(ServerPacketTypes.HELLO, self._out)
        write_binary_str("ClickHouse", self._out)
        write_varint(info.version_major, self._out)
        write_varint(info.version_minor, self._out)
        write_varint(REVISION, self._out)
        if revision >= defines.DBMS_MIN_REVISION_WITH_SERVER_TIMEZONE:
            write_binary_str(info.timezone, self._out)
        if revision >= defines.DBMS_MIN_REVISION_WITH_SERVER_DISPLAY_NAME:
            write_binary_str("test", self._out)
        if revision >= defines.DBMS_MIN_REVISION_WITH_VERSION_PATCH:
            write_varint(info.version_patch, self._out)
        self._out.flush()
        return True

    # ---- queries

    def _answer(self) -> None:
        query = read_query(self._in, self._revision)
        self._use_compression(query.compressed)
        tables: set[str] = set()
        try:
            self._take_external_tables(tables)
            if first_word(query.text) == "INSERT" and _expects_data(query.text):
                self._insert(query.text, query.settings)
            else:
                self._select(query.text, query.settings)
        except (DriverError, StorageError) as failure:
            self._transport.discard_unfinished()
            self._send_error(failure)
        else:
            self._send(ServerPacketTypes.END_OF_STREAM)
        finally:
            for name in tables:
                self._transport.execute(f"DROP TEMPORARY TABLE IF EXISTS {name}")

    def _take_external_tables(self, taken: set[str]) -> None:
        """Make the tables that came with a query; a block without columns ends them."""
        while (named := self._read_data())[1].names:
            name, block = quoted(named[0]), named[1]
            columns = zip(block.names, block.types, strict=True)
            listed = ", ".join(f"{quoted(column)} {type_name}" for column, type_name in columns)
            taken.add(name)
            self._transport.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({listed})")
            if block.num_rows:
                with self._transport.native_writer(f"INSERT INTO {name}") as out:
                    self._write(out, block)

    def _select(self, query: str, settings: Mapping[str, str]) -> None:
        header_due = True
        totals = [0, 0, 0]
        for chunk in self._transport.stream_native(query, settings):
            self._send_progress(chunk.storage_rows_read(), chunk.storage_bytes_read())
            for at, amount in enumerate((chunk.rows_read(), 1, chunk.bytes_read())):
                totals[at] += amount
            memory = chunk.get_memview()
            view = memory.view()
            if header_due:
                self._send_header(_first_block(view, self._transport.context).columns_with_types)
                header_due = False
            self._send_native(view)
            del view, memory
            if self._cancelled():
                return
        if header_due and (columns := self._transport.describe(query)):
            self._send_header(columns)
        self._send_profile(*totals)

    def _cancelled(self) -> bool:
        if not is_readable(self._sock):
            return False
        return bool(read_varint(self._in) == ClientPacketTypes.CANCEL)

    def _insert(self, query: str, settings: Mapping[str, str]) -> None:
        structure = _INPUT.search(query)
        if structure is None:
            target, names = insert_target(query)
            columns = _chosen(self._transport.table_columns(target), names)
            self._send_header(columns)
            listed = ", ".join(quoted(name) for name, _ in columns)
            self._transport.apply(settings)
            with self._transport.native_writer(f"INSERT INTO {target} ({listed})") as out:
                self._pass_on(out)
            return
        columns = self._transport.table_columns(f"null({structure[1]})")
        self._send_header(columns)
        with tempfile.NamedTemporaryFile(suffix=".native") as file:
            out = CompressedBufferedWriter(file, _BUFFER)
            rows = self._pass_on(out)
            out.flush()
            file.flush()
            if rows:
                source = f"file({literal(file.name)}, 'Native', {structure[1]})"
                filled = _INPUT.sub(lambda _: source, query)
                self._transport.execute(filled, settings=settings)

    def _pass_on(self, out: Any) -> int:
        rows = 0
        while (block := self._read_data()[1]).num_rows:
            rows += block.num_rows
            self._write(out, block)
        return rows

    def _write(self, out: Any, block: ColumnBlock) -> None:
        columns = zip(block.names, block.types, block.arrays, strict=True)
        write_block(out, self._transport.context, {n: Typed(t, a) for n, t, a in columns})

    # ---- blocks

    def _use_compression(self, wanted: bool) -> None:
        self._compressed = wanted
        if wanted and self._packed_in is None:
            self._packed_in = CompressedBlockInputStream(self._in, self._context)
            self._packed_out = CompressedBlockOutputStream(
                get_compressor_cls("lz4"),
                defines.DEFAULT_COMPRESS_BLOCK_SIZE,
                self._out,
                self._context,
            )

    def _read_data(self) -> tuple[str, ColumnBlock]:
        """A block, and the name of the table that it is for, if that is an external one."""
        packet = read_varint(self._in)
        if packet != ClientPacketTypes.DATA:
            raise EOFError(f"expected data, got packet {packet}")
        name = read_binary_str(self._in)
        source = self._packed_in if self._compressed else self._plain_in
        return name, read_block(source.fin, self._context, raw=True)

    @contextmanager
    def _data_packet(self) -> Iterator[Any]:
        write_varint(ServerPacketTypes.DATA, self._out)
        write_binary_str("", self._out)
        stream = self._packed_out if self._compressed else self._plain_out
        BlockInfo().write(stream.fout)
        yield stream.fout
        stream.finalize()

    def _send_header(self, columns: list[tuple[str, str]]) -> None:
        with self._data_packet() as out:
            write_varint(len(columns), out)
            write_varint(0, out)
            for name, type_name in columns:
                write_binary_str(name, out)
                write_binary_str(type_name, out)

    def _send_native(self, view: memoryview) -> None:
        with self._data_packet() as out:
            out.write(bytes(view))

    def _send_progress(self, rows: int, size: int) -> None:
        write_varint(ServerPacketTypes.PROGRESS, self._out)
        for number in (rows, size, rows):  # the last is how many there will be: so many are known
            write_varint(number, self._out)
        if self._revision >= defines.DBMS_MIN_REVISION_WITH_CLIENT_WRITE_INFO:
            write_varint(0, self._out), write_varint(0, self._out)

    def _send_profile(self, rows: int, blocks: int, size: int) -> None:
        write_varint(ServerPacketTypes.PROFILE_INFO, self._out)
        for number in (rows, blocks, size):
            write_varint(number, self._out)
        write_binary_uint8(0, self._out)  # no limit was applied, as far as is known,
        write_varint(rows, self._out)  # so that there were as many rows before it,
        write_binary_uint8(1, self._out)  # and old clients need not find out: they would crash

    def _send(self, packet: int) -> None:
        write_varint(packet, self._out)
        self._out.flush()

    def _send_error(self, failure: Exception) -> None:
        code = getattr(failure, "code", None)
        write_varint(ServerPacketTypes.EXCEPTION, self._out)
        write_binary_int32(code if isinstance(code, int) else 1002, self._out)
        write_binary_str("DB::Exception", self._out)
        write_binary_str(f"DB::Exception: {getattr(failure, 'message', failure)}", self._out)
        write_binary_str("", self._out)
        write_binary_uint8(0, self._out)
        self._out.flush()


def _expects_data(query: str) -> bool:
    if _INPUT.search(query):
        return True
    _, _, rest = query.partition(insert_target(query)[0])
    return not _INLINE_DATA.search(_SETTINGS.sub("", rest))


def _chosen(columns: list[tuple[str, str]], names: list[str]) -> list[tuple[str, str]]:
    if not names:
        return columns
    types = dict(columns)
    missing = [name for name in names if name not in types]
    if missing:
        raise EmbeddedError(
            f"No such column {missing[0]} in table", ErrorCodes.NO_SUCH_COLUMN_IN_TABLE
        )
    return [(name, types[name]) for name in names]


def _first_block(view: memoryview, context: Context) -> ColumnBlock:
    reader = MemoryReader(view)
    block = read_block(reader, context, raw=True)
    if not reader.exhausted:
        raise EmbeddedError("a chunk holds more than one block", ErrorCodes.LOGICAL_ERROR)
    return block
