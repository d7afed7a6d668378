"""Conditions on the columns of declared tables, applied to rows in memory.

A condition is a Core expression such as ``c.price > 5``. The stores get it as SQL; staged rows and
the in-memory twin are filtered by the same expression here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import reduce
from math import isnan
from operator import and_, or_
from typing import Any, TypeAlias

import pyarrow as pa
from clickhouse_sqlalchemy import types as clickhouse
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    FromClause,
    Numeric,
    Table,
    false,
    literal,
    true,
)
from sqlalchemy import and_ as sql_and
from sqlalchemy import or_ as sql_or
from sqlalchemy.sql import elements, operators
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import cloned_traverse, replacement_traverse

from jts_storage.domain import checks
from jts_storage.errors import InvalidData
from jts_storage.models.columns import LARGEST_PRECISION, array_of

Where: TypeAlias = Callable[[Any], ColumnElement[bool]]
"""Makes a condition of the columns of a table: ``lambda c: c.price > 5``."""


class has_text(FunctionElement[bool]):  # noqa: N801 - written like a function of Core
    """Whether a column contains a text, in capitals or not; every character counts as itself.

    ``where=lambda c: has_text(c.name, "sam")``, in ClickHouse and in memory.

    Of a few rare letters and signs, such as the Turkish dotted I and Roman numerals, ClickHouse
    knows no other case, and the rows in memory do.
    """

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: ColumnElement[str], text: str) -> None:
        super().__init__(column, literal(text))


_COMPARISONS: Mapping[Any, Callable[[Any, Any], Any]] = {
    operators.eq: lambda a, b: a == b,
    operators.ne: lambda a, b: a != b,
    operators.lt: lambda a, b: a < b,
    operators.le: lambda a, b: a <= b,
    operators.gt: lambda a, b: a > b,
    operators.ge: lambda a, b: a >= b,
}


_AS_IT_IS: Mapping[Any, bool] = {
    operators.inv: False,
    # How Core says that a function of a truth value is meant, or is not.
    operators.istrue: True,
    operators.isfalse: False,
}


def matching(rows: pa.Table, condition: ColumnElement[bool] | None) -> pa.Table:
    """The rows that meet a condition; all of them where there is none."""
    return rows if condition is None else rows.filter(_expression(condition, rows.schema))


def checked(condition: Any, schema: pa.Schema) -> ColumnElement[bool]:
    """A condition that every store and the rows in memory understand alike.

    :raises InvalidData: it compares a column with a value that the column cannot hold, or asks
        something else.
    """
    _expression(condition, schema)
    made: ColumnElement[bool] = condition
    return made


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

    spread = replacement_traverse(_typed(condition), {}, _each_compared)
    return replacement_traverse(spread, {}, its_column)


def _each_compared(element: Any, **_: Any) -> Any:
    """``in_`` of decimals as comparisons with each: a set would have to fit the column."""
    if not isinstance(element, elements.BinaryExpression) or not _is_exact(element.left.type):
        return None
    if element.operator is operators.in_op:
        return sql_or(false(), *(element.left == value for value in _values(element.right)))
    if element.operator is operators.not_in_op:
        return sql_and(true(), *(element.left != value for value in _values(element.right)))
    return None


def _is_exact(declared: Any) -> bool:
    if isinstance(declared, clickhouse.Nullable | clickhouse.LowCardinality):
        declared = declared.nested_type
    return isinstance(declared, Numeric) and not isinstance(declared, Float)


def _typed(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition with values of the types of their columns; Core takes a number for an Integer,
    which a time of nanoseconds is not, though it is given as one.
    """

    def give_types(comparison: elements.BinaryExpression[Any]) -> None:
        right: Any = comparison.right
        for value in getattr(right, "clauses", (right,)):
            if isinstance(value, elements.BindParameter):
                value.type = comparison.left.type
                if _is_exact(value.type):  # a bare number need not fit the column's digits
                    value.value = _as_decimals(value.value)

    return cloned_traverse(condition, {}, {"binary": give_types})


def _as_decimals(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [Decimal(each) for each in value]
    return Decimal(value)


def _expression(element: Any, schema: pa.Schema) -> Any:
    import pyarrow.compute as pc

    if isinstance(element, elements.Grouping):
        return _expression(element.element, schema)
    if isinstance(element, elements.BooleanClauseList):
        join = {operators.and_: and_, operators.or_: or_}[element.operator]
        if not element.clauses:
            raise InvalidData(
                "joins no comparisons, which SQLAlchemy takes for no condition",
                field="where",
                remedy="Leave `where` out for all rows; begin and_ by true(), and or_ by false().",
            )
        return reduce(join, (_expression(each, schema) for each in element.clauses))
    if isinstance(element, elements.True_ | elements.False_):
        return pc.scalar(isinstance(element, elements.True_))
    if isinstance(element, elements.UnaryExpression) and element.operator in _AS_IT_IS:
        found = _expression(element.element, schema)
        return found if _AS_IT_IS[element.operator] else ~found
    if isinstance(element, elements.BinaryExpression):
        return _comparison(element, schema)
    if isinstance(element, has_text):
        column, text = element.clauses
        return _has_text(column, text, schema)
    raise _unknown(element)


def _has_text(column: Any, text: Any, schema: pa.Schema) -> Any:
    import pyarrow.compute as pc

    field, sought = _field(column, schema), _value(text)
    if not pa.types.is_string(field.type) or not isinstance(sought, str):
        raise InvalidData("is asked for a text, and is none", field=field.name, value=sought)
    array_of([sought], field, "what is looked for")
    lowered = pc.utf8_lower(pa.scalar(sought)).as_py()
    return pc.match_substring(pc.utf8_lower(pc.field(field.name)), lowered)


def _comparison(element: elements.BinaryExpression[Any], schema: pa.Schema) -> Any:
    import pyarrow.compute as pc

    left, right, operator = element.left, element.right, element.operator
    if not _is_column(left):
        raise _unknown(element)
    field = _field(left, schema)
    column = _compared(field)
    if operator in (operators.in_op, operators.not_in_op):
        values = [_scalar(value, field) for value in _values(right)]
        if pa.types.is_floating(field.type) and 0 in _values(right):
            raise InvalidData(
                "is looked for among floats with zero, which has two signs",
                field=field.name,
                remedy="Ask for zero by c.column == 0.",
            )
        if not values:  # not even NULL is among them
            return pc.scalar(operator is operators.not_in_op)
        found = reduce(or_, (column == value for value in values))
        return found if operator is operators.in_op else ~found
    if operator in (operators.between_op, operators.not_between_op):
        bounds: Any = right
        low, high = (_scalar(_value(each), field) for each in bounds.clauses)
        if operator is operators.between_op:
            return (column >= low) & (column <= high)
        return (column < low) | (column > high)  # as SQL says it: NaN is neither
    if operator in (operators.is_, operators.is_not) and isinstance(right, elements.Null):
        is_null = pc.field(field.name).is_null()
        return is_null if operator is operators.is_ else ~is_null
    compare = _COMPARISONS.get(operator)
    if compare is None:
        raise _unknown(element)
    if _is_column(right):
        other = _field(right, schema)
        if other.type != field.type:
            raise _unknown(element)
        return compare(column, _compared(other))
    return compare(column, _scalar(_value(right), field))


def _is_column(element: Any) -> bool:
    return isinstance(element, elements.ColumnClause)


def _field(column: Any, schema: pa.Schema) -> pa.Field:
    if column.key not in schema.names:
        raise InvalidData("is filled by the kit, and not for conditions", field=str(column.key))
    return schema.field(column.key)


def _compared(field: pa.Field) -> Any:
    """A column as it is compared: decimals with room for values of more digits."""
    import pyarrow.compute as pc

    is_decimal = pa.types.is_decimal(field.type)
    return pc.field(field.name).cast(_WIDE) if is_decimal else pc.field(field.name)


def _scalar(value: Any, field: pa.Field) -> Any:
    import pyarrow.compute as pc

    if value is None:
        raise InvalidData(
            "is compared with None", field=field.name, remedy="Write c.column.is_(None)."
        )
    plain_value = plain(value)
    if isinstance(plain_value, float) and isnan(plain_value):
        raise InvalidData(
            "is compared with NaN, which is neither more nor less than a number, nor equal to it",
            field=field.name,
            remedy="Keep None where there is no number, and ask c.column.is_(None).",
        )
    if pa.types.is_floating(field.type) and type(plain_value) not in (float, int, bool):
        raise InvalidData(
            f"is compared with a {type(plain_value).__name__}, which is written otherwise",
            field=field.name,
            remedy="Write float(value).",
        )
    if pa.types.is_decimal(field.type):
        number = checks.decimal(plain_value, field.name, digits=LARGEST_PRECISION)
        _check_digits(number, field)
        try:
            return pc.scalar(pa.scalar(number, _WIDE))
        except pa.ArrowException as exc:
            raise InvalidData("has too many digits", field=field.name, value=value) from exc
    what = "what a column is compared with"
    return pc.scalar(array_of([plain_value], field, what)[0])


def _check_digits(number: Decimal, field: pa.Field) -> None:
    """:raises InvalidData: the engine would need more digits than it has to compare both."""
    declared = field.type
    if (field.metadata or {}).get(b"exact"):  # what the column cannot hold is not compared
        array_of([number], field, "what a column is compared with")
        return
    _, digits, exponent = number.as_tuple()
    scale = max(declared.scale, -int(exponent))
    whole = max(declared.precision - declared.scale, len(digits) + int(exponent))
    if whole + scale > LARGEST_PRECISION:
        raise InvalidData("has too many digits", field=field.name, value=str(number))


_WIDE = pa.decimal256(72, 36)


def _value(element: Any) -> Any:
    if isinstance(element, elements.Null):
        return None
    if isinstance(element, elements.True_ | elements.False_):
        return isinstance(element, elements.True_)
    if not isinstance(element, elements.BindParameter):
        raise _unknown(element)
    return element.value


def _values(element: Any) -> Sequence[Any]:
    return list(_value(element))


def plain(value: Any) -> Any:
    """A value as columns hold it."""
    return value.value if isinstance(value, Enum) else value


def _unknown(element: Any) -> InvalidData:
    return InvalidData(
        f"is no condition that every store knows: {element}",
        field="where",
        remedy="Compare columns with values: ==, !=, <, <=, >, >=, in_, between, is_(None), and"
        " join comparisons by &, | and ~.",
    )
