"""The columns of a declared table as Arrow has them: exact, and whole columns at once.

Staged rows, the journal, the in-memory twin and what a read gives all have this one form. Money is
decimal, moments are UTC, and a value that a column cannot hold exactly is refused, never rounded.
To a mapper a time of nanoseconds is a whole number, since a datetime cannot hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyarrow as pa
from clickhouse_sqlalchemy import types as clickhouse
from sqlalchemy import Column, Table
from sqlalchemy import types as sql
from sqlalchemy.types import TypeDecorator, TypeEngine

from jts_storage.domain import checks
from jts_storage.domain.arrow import texts_of
from jts_storage.errors import InvalidConfiguration, InvalidData

Row = Mapping[str, Any]

LARGEST_PRECISION = 38
_UNITS = {3: "ms", 6: "us", 9: "ns"}
_INTEGERS: Mapping[type[TypeEngine[Any]], pa.DataType] = {
    clickhouse.Int8: pa.int8(),
    clickhouse.Int16: pa.int16(),
    clickhouse.Int32: pa.int32(),
    clickhouse.Int64: pa.int64(),
    clickhouse.UInt8: pa.uint8(),
    clickhouse.UInt16: pa.uint16(),
    clickhouse.UInt32: pa.uint32(),
    clickhouse.UInt64: pa.uint64(),
}


def schema_of(table: Table, *, by_type: bool) -> pa.Schema:
    """The Arrow schema of a declared table, its columns called by their keys.

    :param by_type: whether a column's type says that it may be empty, as in ClickHouse.
    :raises InvalidConfiguration: naming the column whose type the kit cannot hold exactly.
    """
    return pa.schema([_field(table, column, by_type) for column in table.columns])


def _field(table: Table, column: Column[Any], by_type: bool) -> pa.Field:
    declared: Any = column.type
    nullable = not by_type and bool(column.nullable and not column.primary_key)
    while isinstance(declared, clickhouse.Nullable | clickhouse.LowCardinality):
        nullable = nullable or isinstance(declared, clickhouse.Nullable)
        declared = _instance(declared.nested_type)
    declared = _instance(declared)
    if isinstance(declared, TypeDecorator):
        declared = declared.impl_instance
    found = _arrow_type(declared)
    if found is None:
        raise InvalidConfiguration(
            f"column {table.name}.{column.key} has the type {type(declared).__name__}, which"
            " declared tables do not have",
            remedy="Use a string, a whole number, a float, a Decimal of at most"
            f" {LARGEST_PRECISION} digits, a flag, a date, or a time with a zone.",
        )
    return pa.field(column.key, found, nullable=nullable, metadata=_limits(declared, by_type))


def _instance(declared: Any) -> Any:
    return declared() if isinstance(declared, type) else declared


def _limits(declared: Any, by_type: bool) -> dict[str, str] | None:
    """Which values a column can hold, where these are less than Arrow's."""
    if isinstance(declared, sql.Float) and not by_type:
        return {"finite": "SQLite takes NaN for NULL"}
    if isinstance(declared, clickhouse.Date) and not isinstance(declared, clickhouse.Date32):
        return {"first": "1970-01-01", "last": "2149-06-06"}
    if isinstance(declared, sql.Date):
        return {"first": "1900-01-01", "last": "2299-12-31"}
    if isinstance(declared, sql.DateTime):
        is_short = getattr(declared, "precision", None) == 9
        return {"first": "1900-01-01", "last": "2262-04-10" if is_short else "2299-12-31"}
    return None


def check_limits(rows: pa.Table, what: str) -> pa.Table:
    """:raises InvalidData: a date or time is one that the store would change or refuse."""
    import pyarrow.compute as pc

    for field in rows.schema:
        if not field.metadata:
            continue
        if b"finite" in field.metadata:
            if pc.any(pc.invert(pc.is_finite(rows.column(field.name)))).as_py():
                raise InvalidData(f"{what} must be finite", field=field.name)
            continue
        ends = pc.min_max(rows.column(field.name).cast(pa.date32(), safe=False))
        first, last = (date.fromisoformat(field.metadata[key].decode()) for key in _ENDS)
        for value in (ends["min"].as_py(), ends["max"].as_py()):
            if value is not None and not first <= value <= last:
                raise InvalidData(
                    f"{what} must lie between {first} and {last}", field=field.name, value=value
                )
    return rows


_ENDS = (b"first", b"last")


def _arrow_type(declared: Any) -> pa.DataType | None:
    for kind, found in _INTEGERS.items():
        if isinstance(declared, kind):
            return found
    if isinstance(declared, clickhouse.DateTime64):
        unit = _UNITS.get(declared.precision) if declared.timezone == "UTC" else None
        return unit and pa.timestamp(unit, "UTC")
    if isinstance(declared, clickhouse.Float32):
        return pa.float32()
    if isinstance(declared, sql.Numeric) and not isinstance(declared, sql.Float):
        return _decimal(declared)
    simple: Sequence[tuple[type[TypeEngine[Any]] | tuple[type[TypeEngine[Any]], ...], Any]] = (
        ((sql.Float,), pa.float64()),
        ((sql.Boolean,), pa.bool_()),
        ((clickhouse.DateTime,), None),
        ((sql.DateTime,), pa.timestamp("ms", "UTC")),
        ((sql.Date,), pa.date32()),
        ((sql.SmallInteger,), pa.int16()),
        ((sql.BigInteger, sql.Integer), pa.int64()),
        ((sql.Enum, clickhouse.UUID), None),
        ((sql.String,), pa.string()),
    )
    return next((found for kinds, found in simple if isinstance(declared, kinds)), None)


def _decimal(declared: Any) -> pa.DataType | None:
    precision, scale = declared.precision, declared.scale
    if precision is None or scale is None or precision > LARGEST_PRECISION:
        return None
    return pa.decimal128(precision, scale)


def table_of(rows: Iterable[Row], schema: pa.Schema, what: str) -> pa.Table:
    """Rows as columns.

    :raises InvalidData: naming the column, and the row, of a value that does not fit.
    """
    listed = list(rows)
    return table_of_columns([_given(listed, field, what) for field in schema], schema, what)


def table_of_columns(columns: Sequence[list[Any]], schema: pa.Schema, what: str) -> pa.Table:
    """As `table_of`, of the values of each column."""
    arrays = [_column(values, field, what) for values, field in zip(columns, schema, strict=True)]
    return check_limits(pa.Table.from_arrays(arrays, schema=schema), what)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Columns as rows, with times in UTC as `datetime` writes it."""
    columns = [_values(table.column(field.name), field.type) for field in table.schema]
    names = table.column_names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray, declared: pa.DataType) -> list[Any]:
    if not pa.types.is_timestamp(declared):
        return _as_list(column)
    whole = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
    if declared.unit == "ns":  # more than a datetime has
        return _as_list(whole)
    if whole.null_count:
        naive = pa.chunked_array(
            [chunk.view(pa.timestamp(declared.unit)) for chunk in whole.chunks]
        )
        return [value and value.replace(tzinfo=UTC) for value in naive.to_pylist()]
    moments = np.array(whole.to_pylist(), np.int64).view(f"M8[{declared.unit}]").tolist()
    return [value.replace(tzinfo=UTC) for value in moments]


def _as_list(column: pa.ChunkedArray) -> list[Any]:
    # NumPy makes decimals and dates several times quicker, and has no None among them. The others
    # go without: `to_numpy` imports pandas wherever it is installed.
    is_slow = pa.types.is_decimal(column.type) or pa.types.is_temporal(column.type)
    if is_slow and not column.null_count:
        return list(column.to_numpy().tolist())
    return list(column.to_pylist())


def in_blocks(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """The table in slices of at most so many rows, which share its memory."""
    return (table.slice(start, rows) for start in range(0, table.num_rows, rows))


def key_of(row: Row, key: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in key)


def keys_of(rows: pa.Table, key: Sequence[str]) -> list[tuple[Any, ...]]:
    """The keys of rows; none where their columns were not read."""
    if not set(key) <= set(rows.column_names):
        return []
    return [key_of(row, key) for row in rows_of(rows.select(list(key)))]


def cannot_be_read(name: str, key: Sequence[Any], why: InvalidData) -> InvalidData:
    """The error of a read that leaves no row out and meets one that cannot be converted."""
    shown = ", ".join(map(str, key)) or "a row"
    return InvalidData(
        f"{name} {shown} cannot be read: {why}",
        remedy="Mend the stored value, or ask for the other rows by `where`.",
    )


def version_of(row: Row | None, version: str) -> int:
    """The version of a record; 0 where there is none."""
    return int((row or {}).get(version) or 0)


def digest(row: Row | None) -> str:
    """What tells a row from every other one; rows are alike if it is equal."""
    if row is None:
        return ""
    values = repr(sorted(row.items())).encode()
    return blake2b(values, digest_size=16).hexdigest()


def _given(rows: Sequence[Row], field: pa.Field, what: str) -> list[Any]:
    try:
        return [row[field.name] for row in rows]
    except KeyError:
        number = next(n for n, row in enumerate(rows) if field.name not in row)
        raise InvalidData(f"{what} is missing", field=field.name, row=number) from None


def _column(values: list[Any], field: pa.Field, what: str) -> pa.Array:
    if not field.nullable and None in values:
        raise InvalidData(f"{what} must have a value", field=field.name, row=values.index(None))
    if any(issubclass(kind, Enum) for kind in set(map(type, values))):
        values = list(map(plain_value, values))
    return array_of(values, field, what)


def array_of(values: Sequence[Any], field: pa.Field, what: str) -> pa.Array:
    """:raises InvalidData: naming the row of a value that the column cannot hold exactly."""
    checked = _checked(list(values), field, what)
    if (texts := texts_of(checked, field.type)) is not None:
        return texts
    try:
        made = pa.array(checked, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise _misfit(values, field, what) from exc
    if pa.types.is_float32(field.type):
        check_short(pa.array(checked, pa.float64()), field, what)
    return made


def _checked(values: list[Any], field: pa.Field, what: str) -> list[Any]:
    """Refuse what Arrow itself would round or cut."""
    if pa.types.is_timestamp(field.type) and field.type.unit != "ns":
        return [value if value is None else _moment(value, field) for value in values]
    if pa.types.is_date(field.type):
        return [value if value is None else checks.day(value, field.name) for value in values]
    if set(map(type, values)) <= _AS_EXPECTED.get(_kind(field.type), frozenset()):
        return values
    if _kind(field.type) == "float":
        values = [_float(value, field, what, row) for row, value in enumerate(values)]
    expected: Any = _EXPECTED.get(_kind(field.type), object)
    for number, value in enumerate(values):
        if value is not None and (
            not isinstance(value, expected) or (expected is not object and isinstance(value, bool))
        ):
            raise InvalidData(
                f"{what} must be {_NAMES[_kind(field.type)]}, and this is a {type(value).__name__}",
                field=field.name,
                value=value,
                row=number,
            )
    return values


def _float(value: Any, field: pa.Field, what: str, row: int) -> Any:
    """A number of another type as a float of the same value."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return value
    whole = int(value)
    if abs(whole) > 2**1000 or int(float(whole)) != whole:
        raise InvalidData(
            f"{what} is no float, and would be rounded", field=field.name, value=whole, row=row
        )
    return float(whole)


def check_short(values: pa.Array | pa.ChunkedArray, field: pa.Field, what: str) -> None:
    """:raises InvalidData: a float of 64 bits is none of 32."""
    import pyarrow.compute as pc

    short = values.cast(pa.float32(), safe=False).cast(pa.float64())
    is_same = pc.or_(pc.equal(short, values), pc.is_nan(values))
    row = pc.index(is_same, False).as_py()
    if row >= 0:
        raise InvalidData(
            f"{what} is no number of 32 bits, and would be rounded",
            field=field.name,
            value=values[row].as_py(),
            row=row,
            remedy="Declare Float64, or round it yourself: float(numpy.float32(value)).",
        )


def _kind(declared: pa.DataType) -> str:
    if pa.types.is_decimal(declared):
        return "decimal"
    if pa.types.is_integer(declared) or pa.types.is_timestamp(declared):
        return "whole"
    if pa.types.is_floating(declared):
        return "float"
    return "text" if pa.types.is_string(declared) else ""


_EXPECTED: Mapping[str, Any] = {
    "decimal": Decimal | int,
    "whole": int,
    "float": Real,
    "text": str,
}
_AS_EXPECTED: Mapping[str, frozenset[type]] = {
    "decimal": frozenset({Decimal, int, type(None)}),
    "whole": frozenset({int, type(None)}),
    "float": frozenset({float, int, type(None)}),
    "text": frozenset({str, type(None)}),
}
"""Types of values of which none has to be looked at; a flag is no number, and not among them."""
_NAMES = {"decimal": "exact", "whole": "a whole number", "float": "a float", "text": "a text"}


def _moment(value: Any, field: pa.Field) -> datetime:
    if field.type.unit == "ms":
        return checks.utc(value, field.name)
    is_plain = isinstance(value, datetime) and not getattr(value, "nanosecond", 0)
    checks.utc(value.replace(microsecond=0) if is_plain else value, field.name)
    moment: datetime = value.astimezone(UTC)
    return moment


def _misfit(values: Sequence[Any], field: pa.Field, what: str) -> InvalidData:
    for number, value in enumerate(values):
        try:
            pa.array([value], field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return InvalidData(
                f"{what} does not fit {field.type}", field=field.name, value=value, row=number
            )
    return InvalidData(f"{what} does not fit {field.type}", field=field.name)


def plain_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
