"""Whole columns in ClickHouse's Native format: NumPy where widths are fixed, the driver elsewhere.

A block is what travels at once: a number of rows, and for each column its name, its type and its
values. clickhouse-driver reads and writes every type; it makes Python objects of them. The types
that are plain machine words go straight between the wire and NumPy here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jts_storage.clickhouse.driver_internals import (
    BlockInfo,
    CompressedBufferedReader,
    Context,
    defines,
    read_binary_uint8,
    read_column,
    read_varint,
    write_binary_str,
    write_binary_uint8,
    write_column,
    write_varint,
)
from jts_storage.errors import InvalidData

Array = np.ndarray[Any, np.dtype[Any]]
ArraysByName = dict[str, Array]

_NUMBERS = {
    **{f"Int{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"UInt{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
    "Float32": np.dtype("<f4"),
    "Float64": np.dtype("<f8"),
    "Bool": np.dtype("?"),
}
# Types whose values travel as 64-bit integers: scaled prices, and ticks since 1970.
_SCALED = re.compile(r"Decimal64\(\d+\)|Decimal\((1[0-8]),\s*\d+\)|DateTime64\(.*\)")
_NULLABLE_TIME = re.compile(r"Nullable\(DateTime64\(.*\)\)")
_WORTH_A_VIEW = 1024  # bytes; fewer are copied sooner than a view of them is made
_LOW_CARDINALITY = "LowCardinality(String)"
_KEYS = (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4"), np.dtype("<u8"))
_LENGTHS = tuple(bytes([length]) for length in range(128))  # of texts, as one byte says them
_OWN_DICTIONARY = 0x600  # the keys' dictionary comes with the block


@dataclass(frozen=True, slots=True)
class Typed:
    """Values with the ClickHouse type they are meant for.

    :param type: such as ``"Decimal(18, 4)"``, ``"DateTime64(3, 'UTC')"``, ``"UInt64"``.
    :param values: one value for all rows, or a column. Integers in a column of Decimal64 or
        DateTime64 are the column's own representation: scaled prices, milliseconds. Nothing
        is multiplied or rounded on the way.
    """

    type: str
    values: Any

    @property
    def is_constant(self) -> bool:
        return isinstance(self.values, str | bytes) or not hasattr(self.values, "__len__")


Column = Typed | Array | Sequence[Any] | str | int


@dataclass(frozen=True, slots=True)
class DictionaryColumn:
    """A LowCardinality column of text as it travels: a dictionary, and a key into it a row."""

    dictionary: tuple[str, ...]
    keys: Array

    @classmethod
    def of(cls, dictionary: tuple[str, ...], numbers: Array) -> DictionaryColumn:
        """From the number in the dictionary of each row."""
        dtype = next(dtype for dtype in _KEYS if len(dictionary) <= np.iinfo(dtype).max)
        return cls(dictionary, numbers.astype(dtype))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: slice | Array) -> DictionaryColumn:
        return DictionaryColumn(self.dictionary, self.keys[rows])

    def to_array(self) -> Array:
        return object_array(self.dictionary)[self.keys]


class ByteReader(Protocol):
    def read(self, n: int) -> Any: ...
    def read_one(self) -> int: ...
    def read_strings(self, n_items: int, encoding: str | None = None) -> Any: ...


class ByteWriter(Protocol):
    def write(self, data: bytes) -> Any: ...


@dataclass(frozen=True, slots=True)
class ColumnBlock:
    """One block as columns; the stand-in for the driver's block classes."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    arrays: tuple[Any, ...]
    num_rows: int

    @property
    def columns_with_types(self) -> list[tuple[str, str]]:
        return list(zip(self.names, self.types, strict=True))

    @property
    def columns(self) -> ArraysByName:
        return dict(zip(self.names, self.arrays, strict=True))


class MemoryReader:
    """Lets the driver's readers, and `read_block`, read from memory without copying it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    @property
    def exhausted(self) -> bool:
        return self._at >= len(self._view)

    def read(self, n: int) -> Any:
        start, self._at = self._at, self._at + n
        if self._at > len(self._view):
            raise EOFError("a block ends too early")
        piece = self._view[start : self._at]
        return piece if n >= _WORTH_A_VIEW else bytes(piece)

    def read_one(self) -> int:
        self._at += 1
        return self._view[self._at - 1]

    def read_strings(self, n_items: int, encoding: str | None = None) -> Any:
        rest = CompressedBufferedReader(lambda: bytes(self._view[self._at :]), 0)
        strings = rest.read_strings(n_items, encoding=encoding)
        self._at += rest.position
        return strings

    def read_fixed_strings(self, n_items: int, length: int, encoding: str | None = None) -> Any:
        rest = CompressedBufferedReader(lambda: bytes(self._view[self._at :]), 0)
        strings = rest.read_fixed_strings(n_items, length, encoding=encoding)
        self._at += rest.position
        return strings


def fixed_dtype(type_name: str, *, raw: bool = False) -> np.dtype[Any] | None:
    """The NumPy type with the same bytes, if there is one.

    :param raw: count Decimal64 and DateTime64 in, as the integers they are.
    """
    if raw and _SCALED.fullmatch(type_name):
        return _NUMBERS["Int64"]
    return _NUMBERS.get(type_name)


def read_block(reader: ByteReader, context: Context, *, raw: bool = False) -> ColumnBlock:
    """Read one block. Arrays may point into the reader's memory: copy before that goes.

    Columns without a fixed width come as arrays of the objects that the driver makes; with `raw`,
    dictionaries stay dictionaries, and nullable times are the integers they are stored as.
    """
    revision = context.server_info.used_revision
    if revision >= defines.DBMS_MIN_REVISION_WITH_BLOCK_INFO:
        BlockInfo().read(reader)
    n_columns, n_rows = read_varint(reader), read_varint(reader)
    names, types, arrays = [], [], []
    for _ in range(n_columns):
        names.append(_read_name(reader))
        types.append(_read_name(reader))
        sparse = revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION and bool(
            read_binary_uint8(reader)
        )
        arrays.append(_read_array(reader, context, types[-1], n_rows, sparse=sparse, raw=raw))
    return ColumnBlock(tuple(names), tuple(types), tuple(arrays), n_rows)


def _read_name(reader: ByteReader) -> str:
    """Read a name of any length: a column without one is named as its expression."""
    return bytes(reader.read(read_varint(reader))).decode()


def _read_array(
    reader: ByteReader, context: Context, type_name: str, n_rows: int, *, sparse: bool, raw: bool
) -> Array | DictionaryColumn:
    dtype = fixed_dtype(type_name, raw=raw)
    if n_rows == 0:
        return np.empty(0, dtype or object)
    if type_name == _LOW_CARDINALITY and not sparse:
        column = _read_dictionary(reader)
        return column if raw else column.to_array()
    if dtype is not None and not sparse:
        return np.frombuffer(reader.read(n_rows * dtype.itemsize), dtype, n_rows)
    # What is scaled is read as the integers it is, not as the Decimals the driver would make.
    plain = type_name if dtype is None or type_name in _NUMBERS else "Int64"
    if raw and _NULLABLE_TIME.fullmatch(type_name):
        plain = "Nullable(Int64)"
    items = read_column(
        context, plain, n_rows, reader, use_numpy=False, has_custom_serialization=sparse
    )
    return object_array(items) if dtype is None else np.asarray(items, dtype)


def _read_dictionary(reader: ByteReader) -> DictionaryColumn:
    # A version, flags whose low bits say how wide a key is, and how many words follow.
    _version, kind, size = np.frombuffer(reader.read(24), "<i8").tolist()
    dictionary = tuple(reader.read_strings(size, encoding="utf-8"))
    n_keys = int(np.frombuffer(reader.read(8), "<i8")[0])
    dtype = _KEYS[kind & 0xF]
    keys = np.frombuffer(reader.read(n_keys * dtype.itemsize), dtype, n_keys)
    return DictionaryColumn(dictionary, keys)


def object_array(items: Sequence[Any]) -> Array:
    """A one-dimensional array of just these objects, whatever they are."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def declared(columns: Mapping[str, Column]) -> dict[str, Typed]:
    """Give every column a type; bare arrays and texts have an obvious one.

    :raises InvalidData: for a column without an obvious type, or of another length.
    """
    typed = {name: _declared(name, column) for name, column in columns.items()}
    lengths = {name: len(t.values) for name, t in typed.items() if not t.is_constant}
    if not lengths:
        raise InvalidData("at least one column must hold rows, not a constant")
    if len(set(lengths.values())) > 1:
        raise InvalidData(f"columns differ in length: {lengths}")
    return typed


def number_of_rows(columns: Mapping[str, Typed]) -> int:
    return next(len(c.values) for c in columns.values() if not c.is_constant)


def _declared(name: str, column: Column) -> Typed:
    if isinstance(column, Typed):
        dtype = fixed_dtype(column.type, raw=True)
        if dtype is None or column.is_constant:
            return column
        return Typed(column.type, _exact(name, np.asarray(column.values), dtype))
    if isinstance(column, str):
        return Typed("String", column)
    if isinstance(column, np.ndarray) and column.dtype != object:
        for type_name, dtype in _NUMBERS.items():
            if column.dtype.newbyteorder("<") == dtype:
                return Typed(type_name, np.ascontiguousarray(column, dtype))
        raise InvalidData("no ClickHouse type for this array", field=name, value=column.dtype)
    if isinstance(column, Sequence | np.ndarray):
        return Typed("String", column)
    raise InvalidData("needs its type: write Typed(type, value)", field=name, value=column)


def _exact(name: str, values: Array, dtype: np.dtype[Any]) -> Array:
    if values.dtype.kind != dtype.kind or values.dtype.itemsize > dtype.itemsize:
        raise InvalidData(f"must be an array of {dtype}", field=name, value=values.dtype)
    return np.ascontiguousarray(values, dtype)


WriteArray = Callable[[Array], object]


def write_block(
    out: ByteWriter,
    context: Context,
    columns: Mapping[str, Typed],
    write_array: WriteArray | None = None,
) -> None:
    """Write one block; `declared` has made sure of the columns.

    :param write_array: appends a contiguous array to `out`, where it needs no copy as bytes.
    """
    write_array = write_array or (lambda array: out.write(array.tobytes()))
    revision = context.server_info.used_revision
    n_rows = number_of_rows(columns)
    if revision >= defines.DBMS_MIN_REVISION_WITH_BLOCK_INFO:
        BlockInfo().write(out)
    write_varint(len(columns), out)
    write_varint(n_rows, out)
    for name, column in columns.items():
        write_binary_str(name, out)
        write_binary_str(column.type, out)
        if revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
            write_binary_uint8(0, out)  # values in full, none in a sparse form
        if n_rows:
            _write_column(out, context, name, column, n_rows, write_array)


def _write_column(
    out: ByteWriter,
    context: Context,
    name: str,
    column: Typed,
    n_rows: int,
    write_array: WriteArray,
) -> None:
    dtype = fixed_dtype(column.type, raw=True)
    if dtype is not None:
        values = column.values
        write_array(np.full(n_rows, values, dtype) if column.is_constant else values)
    elif column.type == _LOW_CARDINALITY:
        _write_dictionary(out, _as_dictionary(column, n_rows), write_array)
    else:
        values = column.values
        if isinstance(values, DictionaryColumn):
            values = values.to_array()
        items = [values] * n_rows if column.is_constant else list(values)
        write_column(context, name, column.type, items, out)


def _as_dictionary(column: Typed, n_rows: int) -> DictionaryColumn:
    values = column.values
    if isinstance(values, DictionaryColumn):
        return values
    if column.is_constant:
        return DictionaryColumn((values,), np.zeros(n_rows, _KEYS[0]))
    index = {word: key for key, word in enumerate(dict.fromkeys(values))}
    numbers = np.fromiter(map(index.__getitem__, values), np.int64, n_rows)
    return DictionaryColumn.of(tuple(index), numbers)


def _write_dictionary(out: ByteWriter, column: DictionaryColumn, write_array: WriteArray) -> None:
    kind = _KEYS.index(column.keys.dtype) | _OWN_DICTIONARY
    out.write(np.array([1, kind, len(column.dictionary)], "<i8").tobytes())
    _write_words(column.dictionary, out)
    out.write(np.array([len(column)], "<i8").tobytes())
    write_array(np.ascontiguousarray(column.keys))


def _write_words(words: Sequence[str], out: ByteWriter) -> None:
    """Each behind its length; thousands of short ones at once."""
    texts = [word.encode() for word in words]
    if max(map(len, texts), default=0) < len(_LENGTHS):
        out.write(b"".join([part for text in texts for part in (_LENGTHS[len(text)], text)]))
        return
    for word in words:
        write_binary_str(word, out)


def sliced(columns: Mapping[str, Typed], rows: int) -> Iterator[dict[str, Typed]]:
    """The same columns in blocks of at most so many rows."""
    total = number_of_rows(columns)
    if total <= rows:
        yield dict(columns)
        return
    for start in range(0, total, rows):
        yield {
            name: c if c.is_constant else Typed(c.type, c.values[start : start + rows])
            for name, c in columns.items()
        }
