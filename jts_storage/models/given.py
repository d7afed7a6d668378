"""Convert what callers pass as columns (frames, Arrow tables, mappings) to a table's schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import pyarrow as pa

from jts_storage.errors import InvalidData
from jts_storage.models.columns import array_of, check_limits, check_short, plain_value


def as_columns(given: Any, schema: pa.Schema, what: str) -> pa.Table:
    """Whole columns, cast to the schema where that changes no value.

    :param given: an Arrow table, anything that gives one (a Polars or pandas frame), or columns
        by name.
    :raises InvalidData: a column is missing, is unknown, or does not fit.
    """
    if isinstance(given, Mapping):
        _check_names(list(given), schema, what)
        arrays = [_given(given[field.name], field, what) for field in schema]
    else:
        try:
            table = pa.table(given)
        except (pa.ArrowException, TypeError, ValueError) as exc:
            raise InvalidData(f"{what} are no columns: {exc}") from exc
        _check_names(table.column_names, schema, what)
        arrays = [_cast(table.column(field.name), field, what) for field in schema]
    try:
        made = pa.Table.from_arrays(arrays, schema=schema)
    except pa.ArrowException as exc:  # such as columns of different lengths
        raise InvalidData(f"{what} are no columns: {exc}") from exc
    return check_limits(made, what)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a dictionary; Arrow itself takes none of Polars' texts."""
    import pyarrow.compute as pc

    values = column.type.value_type
    plain = pa.string() if _group(values) == "text" else values
    parts = [pc.take(chunk.dictionary.cast(plain), chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(parts, plain)


def _check_names(names: Sequence[str], schema: pa.Schema, what: str) -> None:
    unknown = sorted(set(names) - set(schema.names))
    missing = sorted(set(schema.names) - set(names))
    if unknown or missing:
        named = [*(f"no column {name}" for name in unknown), *(f"lacks {name}" for name in missing)]
        raise InvalidData(f"{what} do not match the table ({', '.join(named)})")


def _given(column: Any, field: pa.Field, what: str) -> pa.Array | pa.ChunkedArray:
    """A column by name: Python's values are looked at one by one, whole arrays as they are."""
    inner = getattr(column, "array", None)  # of an index of pandas, which Arrow does not take
    column = inner if hasattr(inner, "__arrow_array__") and not _is_whole(column) else column
    if _is_whole(column):
        try:
            made = column if isinstance(column, pa.ChunkedArray) else _chunked(column)
        except (pa.ArrowException, TypeError, ValueError) as exc:
            raise InvalidData(f"{what} are no column: {exc}", field=field.name) from exc
        return _cast(made, field, what)
    if isinstance(column, str | bytes | Mapping | Set) or not isinstance(column, Iterable):
        raise InvalidData(
            f"{what} are no column: give a list or an array",
            field=field.name,
            value=type(column).__name__,
        )
    values = _with_none(list(map(plain_value, column)))
    if not field.nullable and None in values:
        raise InvalidData(f"{what} must have values", field=field.name, row=values.index(None))
    return array_of(values, field, what)


def _with_none(values: list[Any]) -> list[Any]:
    """The values with None for what pandas has for it among others of Python."""
    kinds = {each for each in set(map(type, values)) if each.__module__.startswith("pandas.")}
    missing = tuple(each for each in kinds if each.__name__ in {"NAType", "NaTType"})
    return [None if isinstance(each, missing) else each for each in values] if missing else values


def _is_whole(column: Any) -> bool:
    if isinstance(column, pa.Array | pa.ChunkedArray) or hasattr(column, "__arrow_array__"):
        return True
    dtype = getattr(column, "dtype", None)
    is_numbers = getattr(dtype, "hasobject", None) is False
    return is_numbers or (hasattr(column, "__arrow_c_stream__") and str(dtype) != "object")


def _chunked(column: Any) -> pa.ChunkedArray:
    if type(column).__module__.startswith("polars"):  # pa.array would go through its datetimes
        return pa.chunked_array(column)
    made = column if isinstance(column, pa.Array) else pa.array(column)
    return made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])


def _cast(column: pa.ChunkedArray, field: pa.Field, what: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):  # what is checked below is the type of its values
        try:
            column = _decoded(column)
        except pa.ArrowException as exc:
            raise InvalidData(f"{what} are {column.type}: {exc}", field=field.name) from exc
    if pa.types.is_string(field.type):
        try:
            column.validate(full=True)
        except pa.ArrowException as exc:
            raise InvalidData(f"{what} are no texts in UTF-8: {exc}", field=field.name) from exc
    exact = pa.types.is_decimal(field.type) or pa.types.is_integer(field.type)
    if exact and pa.types.is_floating(column.type):
        raise InvalidData(
            f"{what} must be exact, and these are floats",
            field=field.name,
            remedy="Give Decimals, or whole numbers.",
        )
    if pa.types.is_timestamp(field.type) and getattr(column.type, "tz", "UTC") is None:
        raise InvalidData(f"{what} must carry a time zone", field=field.name)
    if _group(column.type) not in _FITTING[_group(field.type)]:
        raise InvalidData(f"{what} are {column.type}, not {field.type}", field=field.name)
    try:
        if pa.types.is_float32(field.type) and pa.types.is_float64(column.type):
            check_short(column, field, what)
        if pa.types.is_decimal(field.type) and pa.types.is_integer(column.type):
            # Arrow asks for room for every 64-bit number before it looks at those that are there.
            column = column.cast(pa.decimal256(72, field.type.scale))
        fitted = column if column.type == field.type else column.cast(field.type)
    except pa.ArrowException as exc:
        raise InvalidData(f"{what} do not fit {field.type}: {exc}", field=field.name) from exc
    if fitted.null_count and not field.nullable:
        raise InvalidData(f"{what} must have values", field=field.name)
    return fitted


def _group(declared: pa.DataType) -> str:
    if pa.types.is_dictionary(declared):
        declared = declared.value_type
    for name, belongs in _GROUPS.items():
        if belongs(declared):
            return name
    return "other"


_GROUPS: Mapping[str, Callable[[pa.DataType], bool]] = {
    "decimal": pa.types.is_decimal,
    "whole": pa.types.is_integer,
    "float": pa.types.is_floating,
    "time": pa.types.is_timestamp,
    "date": pa.types.is_date,
    "flag": pa.types.is_boolean,
    "text": lambda declared: (
        pa.types.is_string(declared)
        or pa.types.is_large_string(declared)
        or pa.types.is_string_view(declared)
    ),
    "none": pa.types.is_null,
}
_FITTING: Mapping[str, set[str]] = {name: {name, "none"} for name in _GROUPS} | {
    "decimal": {"decimal", "whole", "none"},
    "float": {"float", "whole", "none"},
}
"""Of which groups of types columns are taken; a cast from another would change values."""
