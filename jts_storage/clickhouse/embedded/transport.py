"""The embedded engine behind the methods of clickhouse-driver's client.

Queries come back in Native format and are decoded by clickhouse-driver's own readers, so a row has
the very Python types that the network gives. Rows to insert go through its writers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from types import GeneratorType
from typing import Any

import numpy as np
from clickhouse_driver.errors import ErrorCodes

from jts_storage.clickhouse.blocks import (
    ArraysByName,
    ColumnBlock,
    MemoryReader,
    Typed,
    fixed_dtype,
    number_of_rows,
    read_block,
    sliced,
    write_block,
)
from jts_storage.clickhouse.change_log import Change, touching
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.driver_internals import (
    BlockInputStream,
    BlockOutputStream,
    ColumnOrientedBlock,
    CompressedBufferedReader,
    RowOrientedBlock,
    escape_params,
)
from jts_storage.clickhouse.embedded.handover import HandoverFile, HandoverWriter
from jts_storage.clickhouse.embedded.session import EmbeddedSession
from jts_storage.clickhouse.errors import EmbeddedError
from jts_storage.clickhouse.joining import joined
from jts_storage.clickhouse.sql import (
    bare_table,
    insert_into,
    insert_target,
    is_select,
    literal,
)
from jts_storage.clickhouse.transport import (
    INSERT_BLOCK_ROWS,
    READ_SETTINGS,
    as_table_types,
    checked,
)

# Without these, to read a file in memory takes a tenth longer.
_READ_AT_ONCE = "SETTINGS input_format_parallel_parsing = 0, max_threads = 1"
_OF_ONE = ("insert_deduplication_token", "optimize_on_insert")
_AS_DECLARED = ", input_format_native_allow_types_conversion = 0"


class ChdbTransport(EmbeddedSession):
    """A `Transport` without a network: one connection to the engine in this process."""

    def __init__(self, config: ClickHouseConfig) -> None:
        super().__init__(config)
        self._handover: HandoverFile | None = None

    @classmethod
    def from_url(cls, url: str) -> ChdbTransport:
        return cls(ClickHouseConfig.from_url(url))

    def disconnect(self) -> None:
        self._close_handover()
        super().disconnect()

    # ---- statements

    def execute(
        self,
        query: str,
        params: Any = None,
        with_column_types: bool = False,
        external_tables: Any = None,
        query_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
        types_check: bool = False,
        columnar: bool = False,
    ) -> Any:
        """As `clickhouse_driver.Client.execute`; external tables cannot be had here."""
        if external_tables:
            raise EmbeddedError("external tables need a server", ErrorCodes.NOT_IMPLEMENTED)
        self.apply(settings)
        if isinstance(params, list | tuple | GeneratorType):
            return self._insert_rows(query, params, types_check=types_check, columnar=columnar)
        text = self._substituted(query, params)
        blocks = list(self._decoded(self._query(text, query)))
        with_types = blocks[0].columns_with_types if blocks else []
        if not blocks and with_column_types:
            with_types = self.describe(text, query)
        rows = _columns_of_blocks(blocks) if columnar else _rows_of_blocks(blocks)
        return (rows, with_types) if with_column_types else rows

    def execute_iter(
        self,
        query: str,
        params: Any = None,
        with_column_types: bool = False,
        external_tables: Any = None,
        query_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
        types_check: bool = False,
        chunk_size: int = 1,
    ) -> Iterator[Any]:
        """As `clickhouse_driver.Client.execute_iter`."""
        if external_tables:
            raise EmbeddedError("external tables need a server", ErrorCodes.NOT_IMPLEMENTED)
        self.apply(settings)
        text = self._substituted(query, params)
        rows = self._iterate(text, query, with_column_types=with_column_types)
        return iter(lambda: list(islice(rows, chunk_size)), []) if chunk_size > 1 else rows

    def _iterate(self, query: str, template: str, *, with_column_types: bool) -> Iterator[Any]:
        header_due = with_column_types
        for chunk in self._chunks(query, template):
            for block in self._decoded(chunk):
                if header_due:
                    yield block.columns_with_types
                    header_due = False
                yield from block.get_rows()
        if header_due:
            yield self.describe(query, template)

    # ---- columns

    def read_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
        *,
        dictionaries: bool = False,
    ) -> ArraysByName:
        self.apply({**READ_SETTINGS, **(settings or {})})
        text, raw = self._substituted(query, params), stored is not None
        blocks = checked(self._blocks(text, query, raw=raw), stored)
        columns = joined(blocks, dictionaries=dictionaries)
        return columns or self._no_rows(text, query, raw=raw)

    def stream_columns(
        self,
        query: str,
        params: Any = None,
        settings: Mapping[str, Any] | None = None,
        stored: Mapping[str, str] | None = None,
    ) -> Generator[ArraysByName, None, None]:
        self.apply({**READ_SETTINGS, **(settings or {})})
        blocks = self._blocks(self._substituted(query, params), query, raw=stored is not None)
        for block in checked(blocks, stored):
            yield joined([block])

    def _blocks(self, query: str, template: str, *, raw: bool = False) -> Iterator[ColumnBlock]:
        """The arrays of a block point into memory that goes when the next is asked for."""
        for chunk in self._chunks(query, template):
            # To be held: chDB frees what a view points into together with this object.
            memory = chunk.get_memview()
            reader = MemoryReader(memory.view())
            while not reader.exhausted:
                yield read_block(reader, self._context, raw=raw)
            del reader, memory

    def insert_columns(
        self, table: str, columns: Mapping[str, Typed], settings: Mapping[str, Any] | None = None
    ) -> int:
        # Each insert has a token of its own; in its statement it takes no other to set it.
        given = settings or {}
        kept = {name: value for name, value in given.items() if name not in _OF_ONE}
        own = "".join(f", {name} = {literal(given[name])}" for name in _OF_ONE if name in given)
        self.apply(kept)
        with touching(Change(bare_table(table))):
            try:
                self._write_blocks(table, columns, own)
            except EmbeddedError as exc:
                if exc.code != ErrorCodes.TYPE_MISMATCH:
                    raise
                actual = dict(self.table_columns(table))
                self._write_blocks(table, as_table_types(table, columns, actual), own)
        return number_of_rows(columns)

    def _write_blocks(self, table: str, columns: Mapping[str, Typed], settings: str) -> None:
        # The engine compares the types: to ask for them first would take a tenth of a small insert.
        with self.native_writer(insert_into(table, columns), f"{_AS_DECLARED}{settings}") as out:
            for piece in sliced(columns, INSERT_BLOCK_ROWS):
                write_block(out, self._context, piece, out.write_array)

    def _insert_rows(
        self, query: str, rows: Iterable[Any], *, types_check: bool, columnar: bool
    ) -> int:
        data: list[Any] = list(rows)
        if not data or (columnar and not len(data[0])):
            return 0
        target, names = insert_target(query)
        actual = self.table_columns(target)
        types = [(n, t) for n, t in actual if not names or n in names]
        if names:
            types.sort(key=lambda column: names.index(column[0]))
        if not columnar:
            data = [dict(row) if isinstance(row, dict) else row for row in data]
        block_class = ColumnOrientedBlock if columnar else RowOrientedBlock
        block = block_class(types, data, types_check=types_check)
        with self.native_writer(insert_into(target, (name for name, _ in types))) as out:
            BlockOutputStream(out, self._context).write(block)
        return int(block.num_rows)

    # ---- the engine

    def stream_native(
        self, query: str, settings: Mapping[str, Any] | None = None
    ) -> Generator[Any, None, None]:
        """The result as the engine hands it over: chunks of bytes in Native format."""
        self.apply(settings)
        yield from self._chunks(query)

    @contextmanager
    def native_writer(self, statement: str, settings: str = "") -> Iterator[HandoverWriter]:
        """A buffered writer whose bytes, in Native format, become the rows of an INSERT.

        :param settings: further ones, as SQL after a comma.
        Leaving the block without an error means that the engine has stored them.
        """
        if self._handover is None:
            self._handover = HandoverFile()
        self._handover.rewind()
        out = HandoverWriter(self._handover)
        yield out
        out.flush()
        self._handover.end()
        source = f"FROM INFILE {literal(self._handover.path)} COMPRESSION 'none'"
        try:
            self._query(f"{statement} {source} {_READ_AT_ONCE}{settings} FORMAT Native")
        finally:
            self._handover.give_back()

    def _close_handover(self) -> None:
        handover, self._handover = self._handover, None
        if handover is not None:
            handover.close()

    def _decoded(self, result: Any) -> Iterator[Any]:
        data = result.bytes()
        if not data:
            return
        reader = CompressedBufferedReader(lambda: data, len(data))
        stream = BlockInputStream(reader, self._context)
        while reader.position < len(data):
            yield stream.read(use_numpy=False)

    def _substituted(self, query: str, params: Any) -> str:
        if params is None:
            return query
        if not isinstance(params, dict):
            raise ValueError("Parameters are expected in dict form")
        return str(query % escape_params(params, self._context))

    def describe(self, query: str, template: str | None = None) -> list[tuple[str, str]]:
        """Names and types of a query's result: Native leaves them out where there are no rows."""
        if not is_select(query):
            return []
        # Core knows no DESCRIBE, and no column is named here.
        asked = f"DESCRIBE ({query.strip().rstrip(';')})"
        described = self._query(asked, template and f"DESCRIBE ({template})")
        return [(row[0], row[1]) for block in self._decoded(described) for row in block.get_rows()]

    def table_columns(self, table: str) -> list[tuple[str, str]]:
        """Names and types of what can be inserted into a table."""
        described = self._query(f"DESCRIBE TABLE {table}")
        rows = [row for block in self._decoded(described) for row in block.get_rows()]
        return [(row[0], row[1]) for row in rows if row[2] not in {"MATERIALIZED", "ALIAS"}]

    def _no_rows(self, query: str, template: str, *, raw: bool) -> ArraysByName:
        return {
            name: np.empty(0, fixed_dtype(type_name, raw=raw) or object)
            for name, type_name in self.describe(query, template)
        }


def _rows_of_blocks(blocks: Sequence[Any]) -> list[Any]:
    return list(chain.from_iterable(block.get_rows() for block in blocks))


def _columns_of_blocks(blocks: Sequence[Any]) -> list[Any]:
    pieces = zip(*(block.get_columns() for block in blocks), strict=True)
    return [tuple(chain.from_iterable(piece)) for piece in pieces]
