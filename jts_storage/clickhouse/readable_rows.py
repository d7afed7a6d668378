"""Rows of declared tables that columns of Arrow cannot hold, told from the others.

Whole columns are converted at once. Only where that fails are they halved until the rows are found
that do not fit, such as bytes in a String that are no text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from jts_storage.clickhouse.blocks import Array
from jts_storage.errors import InvalidData
from jts_storage.models.columns import rows_of

Convert: TypeAlias = Callable[[Array, pa.Field], pa.Array]

MISFITS: Final = (pa.ArrowException, ArithmeticError, TypeError, ValueError)


def readable(
    columns: Mapping[str, Array], schema: pa.Schema, convert: Convert
) -> tuple[pa.Table, dict[int, InvalidData]]:
    """The rows that can be converted, and of each other one, by its number, why it cannot."""
    wrong: dict[int, InvalidData] = {}
    for field in schema:
        values = columns[field.name]
        for row in _misfits(values, field, convert):
            error = InvalidData(f"does not fit {field.type}", field=field.name, value=values[row])
            wrong.setdefault(row, error)
    fits = np.ones(len(columns[schema.names[0]]), np.bool_)
    fits[list(wrong)] = False
    arrays = [convert(columns[field.name][fits], field) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema), wrong


def values_of(
    columns: Mapping[str, Array],
    row: int,
    names: Sequence[str],
    schema: pa.Schema,
    convert: Convert,
) -> tuple[Any, ...]:
    """Values of a row as entities have them, or as they are stored where they do not fit."""
    return tuple(
        _value(columns[name][row : row + 1], schema.field(name), convert)
        for name in names
        if name in schema.names
    )


def _value(values: Array, field: pa.Field, convert: Convert) -> Any:
    try:
        rows = pa.Table.from_arrays([convert(values, field)], schema=pa.schema([field]))
    except MISFITS:
        return values[0]
    return rows_of(rows)[0][field.name]


def _misfits(values: Array, field: pa.Field, convert: Convert, first: int = 0) -> Iterator[int]:
    try:
        convert(values, field)
    except MISFITS:
        if len(values) == 1:
            yield first
            return
        middle = len(values) // 2
        yield from _misfits(values[:middle], field, convert, first)
        yield from _misfits(values[middle:], field, convert, first + middle)
