"""Declared tables of services in ClickHouse: what they become, and how their rows move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import (
    MetaData,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse.blocks import Array, DictionaryColumn, Typed
from jts_storage.clickhouse.constructs import Final, ddl_of, text_of, type_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.readable_rows import MISFITS, readable, values_of
from jts_storage.clickhouse.sql import literal
from jts_storage.clickhouse.statements import write_settings
from jts_storage.clickhouse.tables import AnyTableModel, holding, table_of
from jts_storage.clickhouse.transport import WRITE_ROWS, Transport
from jts_storage.domain.arrow import decimals_of, plain_array
from jts_storage.errors import StorageError
from jts_storage.models.columns import cannot_be_read, in_blocks, keys_of
from jts_storage.models.conditions import applied_to, has_text
from jts_storage.models.names import GONE
from jts_storage.models.table_repository import TableQuery
from jts_storage.models.tables import DELETED

_DELETING = {"lightweight_deletes_sync": 2}

_DICTIONARY = "LowCardinality(String)"
_WORDS = range(10, 19)
"""Decimals of so many digits are a word of 64 bits, and travel as one; shorter ones have 32."""

_ATTEMPTS = 3

_LOOKED_AT = 10_000
"""Rows of a read in which those are looked for that could not be read before."""


class Torn(StorageError):
    """An insert has arrived in part."""


class DeclaredTable:
    """The rows of one model in one ClickHouse, its blocking work done in threads."""

    def __init__(
        self, manager: ClickHouseManager, model: AnyTableModel, *, table: Table | None = None
    ) -> None:
        """:param table: if it is not the one that the model declares."""
        self.model = model
        self._manager = manager
        self.table = table_of(model, MetaData(), manager.config.cluster) if table is None else table
        self._types = {column.key: type_of(column) for column in self.table.c}

    # ---- reading

    async def read(self, query: TableQuery) -> pa.Table:
        return await self._manager.run(self._read, query)

    async def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]:
        blocks = self._blocks(query, block_rows)
        try:
            while (block := await self._manager.run(next, blocks, None)) is not None:
                yield block
        finally:
            await self._manager.run(blocks.close)  # type: ignore[attr-defined]

    def _read(self, query: TableQuery) -> pa.Table:
        schema, asked = self._schema(query), query
        while True:
            statement = self._of_key(query.key) if query.key else text_of(self._select(asked))
            found = self._manager.read_columns(statement, stored=self._stored(schema))
            rows = self._readable(found, schema, strict=query.strict)
            count = len(next(iter(found.values()), ()))
            is_full = query.limit is None or rows.num_rows >= query.limit
            if asked.limit is None or is_full or count < asked.limit:
                return rows.slice(0, query.limit)
            # Rows were left out: as many others take their places.
            asked = replace(asked, limit=2 * asked.limit)

    def _blocks(self, query: TableQuery, block_rows: int) -> Iterator[pa.Table]:
        schema = self._schema(query)
        statement = text_of(self._select(query))
        for columns in self._manager.stream_columns(
            statement, block_rows=block_rows, stored=self._stored(schema)
        ):
            rows = self._readable(columns, schema, strict=query.strict)
            yield from in_blocks(rows, block_rows)

    def _readable(self, columns: dict[str, Array], schema: pa.Schema, *, strict: bool) -> pa.Table:
        """The rows without those that cannot be converted, which are counted.

        :raises InvalidData: naming the key of the first of these, if `strict`.
        """
        model, unreadable = self.model, self._manager.unreadable
        try:
            rows = _to_arrow(columns, schema)
        except MISFITS:
            rows, wrong = readable(columns, schema, _from_clickhouse)
            for row, why in wrong.items():
                key = values_of(columns, row, model.key, schema, _from_clickhouse)
                if strict:
                    raise cannot_be_read(model.name, key, why) from why
                unreadable.met(model.name, key, why)
            return rows
        if unreadable.count and rows.num_rows <= _LOOKED_AT:
            for key in keys_of(rows, model.key):
                unreadable.mended(model.name, key)
        return rows

    def _of_key(self, key: Sequence[Any]) -> str:
        return self._by_key % {f"key{n}": literal(value) for n, value in enumerate(key)}

    @cached_property
    def _by_key(self) -> str:
        """The statement that reads the row of a key, compiled once."""
        c = self.model.table.c
        sought = (c[name] == bindparam(f"key{n}") for n, name in enumerate(self.model.key))
        return text_of(self._select(TableQuery(and_(*sought), limit=1)))

    def _schema(self, query: TableQuery) -> pa.Schema:
        schema = self.model.schema
        return schema if query.columns is None else pa.schema(map(schema.field, query.columns))

    def _stored(self, schema: pa.Schema) -> dict[str, str]:
        """The columns that are read as the integers they are stored as."""
        return {field.name: self._types[field.name] for field in schema if _is_scaled(field.type)}

    def _select(self, query: TableQuery) -> Select[Any]:
        latest = self.model.mode == "upsert"
        rows = Final(self.table) if latest else self.table
        names = query.columns or self.model.schema.names
        columns = (self._as_read(rows.c[name]).label(name) for name in names)
        statement = select(*columns).select_from(rows)
        if query.where is not None:
            statement = statement.where(applied_to(query.where, self.model.table, rows))
        if self.model.deletes:
            statement = statement.where(not_(rows.c[DELETED]))
        order = (rows.c[name] for name in self.model.order_by)
        statement = statement.order_by(*(c.desc() if query.descending else c for c in order))
        return statement if query.limit is None else statement.limit(query.limit)

    def _as_read(self, column: Any) -> Any:
        """What a read asks for a column."""
        return column

    # ---- the unit of work writes through these

    def apply(self, rows: pa.Table, version: int) -> None:
        """Store what a unit of work makes of keys, or appends; twice is once."""
        if self.model.mode == "upsert":
            self.replace(self._latest(rows), version)
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._append(rows, version)
            except Torn:
                if attempt == _ATTEMPTS:
                    raise
                self.forget(version)
            else:
                return

    def is_one_part(self, rows: pa.Table) -> bool:
        """Return whether these make one part, which is there in whole or not at all."""
        if self.model.partition_by is not None or rows.num_rows > WRITE_ROWS:
            return False
        # One insert of two keys may be one on each of two shards, of which one fails.
        is_spread = self._manager.config.cluster is not None and rows.num_rows > 1
        return not is_spread or len(rows.column(self.model.key[0]).unique()) == 1

    def replace(self, rows: pa.Table, version: int) -> None:
        """Store rows in place of those of their keys and earlier versions; twice is once."""
        for piece in in_blocks(rows, WRITE_ROWS):
            self._insert(piece, version, None)

    def _append(self, rows: pa.Table, version: int) -> None:
        offset = 0
        for piece in in_blocks(rows, WRITE_ROWS):
            self._insert(piece, version, offset)
            offset += piece.num_rows

    def forget(self, version: int) -> None:
        """Delete what was appended under a version that does not count."""
        name = holding(self.table.name, self._manager.config.cluster)
        statement = _delete(name, self.table, self.model.version, version)
        self._manager.execute(statement, settings=_DELETING, idempotent=True)

    def write(self, rows: pa.Table, version: int, offset: int = 0) -> None:
        """Append a part of the rows of a commit.

        :param offset: how many of them come before.
        """
        self._insert(rows, version, offset)

    def _insert(self, rows: pa.Table, version: int, offset: int | None) -> None:
        """
        :param offset: how many appended rows of the version come before; None for an upsert, which
            may be repeated as it is.
        """
        there = None if offset is None else partial(self._is_there, version, offset, rows.num_rows)
        self._manager.insert_columns(
            self.table.name,
            self._typed(rows, version),
            settings=write_settings,
            idempotent=True,
            is_there=there,
        )

    def _latest(self, changes: pa.Table) -> pa.Table:
        """Rows as they are stored: one that is deleted says so, and holds no values."""
        import pyarrow.compute as pc

        gone = changes.column(GONE)
        filled = [
            pc.fill_null(changes.column(field.name), _nothing(field))
            if not field.nullable
            else changes.column(field.name)
            for field in self.model.schema
        ]
        rows = pa.Table.from_arrays(filled, schema=self.model.schema)
        return rows.append_column(DELETED, gone.cast(pa.uint8())) if self.model.deletes else rows

    def latest_version(self) -> int:
        """The highest version that is stored; 0 if there is none."""
        return int(self._manager.execute(_highest(self.table, self.model.version))[0][0])

    def check(self) -> None:
        """:raises SchemaDrift: the table is not there."""
        self._manager.execute(_nothing_of(self.table, self.model.version))

    def _is_there(self, version: int, before: int, rows: int, transport: Transport) -> bool:
        """Whether a part has arrived, of which the outcome is unknown; parts follow each other.

        :raises Torn: some of its rows have, as where it crosses partitions or shards.
        """
        count = int(transport.execute(_written(self.table, self.model.version, version))[0][0])
        if count not in (before, before + rows):
            raise Torn(
                f"Of {rows} rows for {self.table.name}, {count - before} are stored.",
                remedy="They are taken back and appended anew: run `recover`.",
            )
        return count > before

    def _typed(self, rows: pa.Table, version: int) -> dict[str, Typed]:
        typed = {
            name: Typed(self._types[name], _to_clickhouse(rows.column(name), self._types[name]))
            for name in rows.column_names
        }
        typed[self.model.version] = Typed(self._types[self.model.version], version)
        return {self.table.c[key].name: column for key, column in typed.items()}


def create_statements(model: AnyTableModel, cluster: str | None) -> list[str]:
    """What makes the tables of a model where they are not there yet."""
    metadata = MetaData()
    table_of(model, metadata, cluster)
    # The local table first: the one that spreads the rows names it.
    made = sorted(metadata.tables.values(), key=lambda table: table.name, reverse=True)
    return [ddl_of(CreateTable(table, if_not_exists=True)) for table in made]


@compiles(has_text)
def _has_text(element: has_text, compiler: Any, **options: Any) -> str:
    column, text = (compiler.process(each, **options) for each in element.clauses)
    return f"(positionCaseInsensitiveUTF8({column}, {text}) > 0)"


def _nothing(field: pa.Field) -> pa.Scalar:
    """What a row that is deleted holds in a column that must have a value."""
    declared = field.type
    if pa.types.is_string(declared):
        return pa.scalar("")
    if pa.types.is_decimal(declared):  # which takes no cast of a number that may have more digits
        return pa.scalar(Decimal(0), declared)
    if _is_moment(declared):
        return pa.scalar(0, declared)
    return pa.scalar(0, pa.int64()).cast(declared)


def _is_moment(declared: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(declared) or pa.types.is_date(declared))


def _delete(name: str, table: Table, version: str, number: int) -> str:
    """
    :param name: of the table that holds the rows, and what a cluster needs beside it.
    """
    return f"DELETE FROM {name} WHERE {text_of(table.c[version] == number)}"


@cache
def _highest(table: Table, version: str) -> str:
    return text_of(select(func.max(table.c[version])))


@cache
def _nothing_of(table: Table, version: str) -> str:
    """A statement that fails where the table is missing, and reads no row where it is there."""
    return text_of(select(table.c[version]).limit(literal_column("0")))


def _written(table: Table, name: str, version: int) -> str:
    return text_of(select(func.count()).where(table.c[name] == version))


def _is_scaled(declared: pa.DataType) -> bool:
    return _is_word(declared) or bool(pa.types.is_timestamp(declared))


def _is_word(declared: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(declared)) and declared.precision in _WORDS


def _to_arrow(columns: dict[str, Array], schema: pa.Schema) -> pa.Table:
    if not columns:
        return schema.empty_table()
    arrays = [_from_clickhouse(columns[field.name], field) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _from_clickhouse(values: Array, field: pa.Field) -> pa.Array:
    declared = field.type
    if pa.types.is_timestamp(declared):  # with None among its integers where it is nullable
        return _array(values, pa.int64()).view(declared)
    if pa.types.is_decimal(declared) and values.dtype != object:
        return decimals_of(values.view(np.int64), declared)
    if pa.types.is_boolean(declared) and values.dtype != object:
        return pa.array(values.astype(np.bool_))
    return _array(values, declared)


def _array(values: Array, declared: pa.DataType) -> pa.Array:
    made = plain_array(values, declared)
    return pa.array(values, declared) if made is None else made


def _to_clickhouse(column: pa.ChunkedArray, type_name: str) -> Any:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_timestamp(array.type):  # the integers it is stored as
        array = array.view(pa.int64())
    declared = array.type
    if array.null_count or type_name.startswith("Nullable"):
        return array.to_pylist()
    if _is_word(declared):
        start, stop = 2 * array.offset, 2 * (array.offset + len(array))
        return np.frombuffer(array.buffers()[1], np.int64)[start:stop:2].copy()
    if type_name == _DICTIONARY:
        encoded = array.dictionary_encode()
        words = tuple(encoded.dictionary.to_pylist())
        return DictionaryColumn(words, _smallest(encoded.indices.to_numpy(), len(words)))
    if pa.types.is_integer(declared) or pa.types.is_floating(declared):
        return array.to_numpy()
    return array.to_pylist()


def _smallest(keys: Array, words: int) -> Array:
    return keys.astype(next(d for d in _KEYS if words <= np.iinfo(d).max))


_KEYS = (np.uint8, np.uint16, np.uint32, np.uint64)
