"""Conditions on the columns of declared tables, applied to rows in memory.

A condition is a Core expression such as ``c.price > 5``. The stores get it as SQL; staged rows and
the in-memory twin are filtered by the same expression here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from operator import and_, or_
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Column, ColumnElement, FromClause, Table
from sqlalchemy.sql import elements, operators
from sqlalchemy.sql.visitors import replacement_traverse

from jts_storage.errors import InvalidData

Where: TypeAlias = Callable[[Any], ColumnElement[bool]]
"""Makes a condition of the columns of a table: ``lambda c: c.price > 5``."""

_COMPARISONS: Mapping[Any, Callable[[Any, Any], Any]] = {
    operators.eq: lambda a, b: a == b,
    operators.ne: lambda a, b: a != b,
    operators.lt: lambda a, b: a < b,
    operators.le: lambda a, b: a <= b,
    operators.gt: lambda a, b: a > b,
    operators.ge: lambda a, b: a >= b,
    operators.is_: lambda a, _: a.is_null(),
    operators.is_not: lambda a, _: ~a.is_null(),
}


def matching(rows: pa.Table, condition: ColumnElement[bool] | None) -> pa.Table:
    """The rows that meet a condition; all of them where there is none."""
    return rows if condition is None else rows.filter(_expression(condition))


def behind(table: Table, key: Sequence[str], after: Sequence[Any]) -> ColumnElement[bool]:
    """The condition for rows that come after a key, where keys are in order."""
    first, *rest = key
    condition: ColumnElement[bool] = table.c[first] > after[0]
    if rest:
        condition |= (table.c[first] == after[0]) & behind(table, rest, after[1:])
    return condition


def of_key(table: Table, key: Sequence[str], values: Sequence[Any]) -> ColumnElement[bool]:
    first, *rest = key
    condition: ColumnElement[bool] = table.c[first] == values[0]
    return condition & of_key(table, rest, values[1:]) if rest else condition


def applied_to(condition: ColumnElement[bool], table: Table, rows: FromClause) -> Any:
    """The condition on other rows of the same columns; on two of them it would be a join."""

    def its_column(element: Any, **_: Any) -> Any:
        is_ours = isinstance(element, Column) and element.table is table
        return rows.c[element.key] if is_ours else None

    return replacement_traverse(condition, {}, its_column)


def _expression(element: Any) -> Any:
    if isinstance(element, elements.Grouping):
        return _expression(element.element)
    if isinstance(element, elements.BooleanClauseList):
        join = {operators.and_: and_, operators.or_: or_}[element.operator]
        first, *others = map(_expression, element.clauses)
        for other in others:
            first = join(first, other)
        return first
    if isinstance(element, elements.True_ | elements.False_):
        return pc.scalar(isinstance(element, elements.True_))
    if isinstance(element, elements.UnaryExpression) and element.operator is operators.inv:
        return ~_expression(element.element)
    if isinstance(element, elements.BinaryExpression):
        return _comparison(element)
    if isinstance(element, elements.ColumnClause):
        return pc.field(element.key)
    if isinstance(element, elements.BindParameter):
        return pc.scalar(plain(element.value))
    if isinstance(element, elements.Null):
        return pc.scalar(None)
    raise _unknown(element)


def _comparison(element: elements.BinaryExpression[Any]) -> Any:
    left = _expression(element.left)
    if element.operator in (operators.in_op, operators.not_in_op):
        found = left.isin([plain(value) for value in _values(element.right)])
        return ~found if element.operator is operators.not_in_op else found
    if element.operator is operators.between_op:
        low, high = map(_expression, element.right.clauses)
        return (left >= low) & (left <= high)
    compare = _COMPARISONS.get(element.operator)
    if compare is None:
        raise _unknown(element)
    return compare(left, _expression(element.right))


def _values(element: Any) -> Sequence[Any]:
    if not isinstance(element, elements.BindParameter):
        raise _unknown(element)
    values: Any = element.value
    return list(values)


def plain(value: Any) -> Any:
    """A value as columns hold it."""
    return value.value if isinstance(value, Enum) else value


def _unknown(element: Any) -> InvalidData:
    return InvalidData(
        f"cannot be applied to rows in memory: {element}",
        field="where",
        remedy="Compare columns with values: ==, !=, <, <=, >, >=, in_, between, &, | and ~.",
    )
