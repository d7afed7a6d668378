"""Conditions on declared tables as the wire has them: the few that every store knows, as lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, false, not_, or_, true
from sqlalchemy.sql import elements, operators

from jts_storage.errors import InvalidData
from jts_storage.models.conditions import has_text

_NAMES: Final = {
    operators.eq: "==",
    operators.ne: "!=",
    operators.lt: "<",
    operators.le: "<=",
    operators.gt: ">",
    operators.ge: ">=",
}
_OPERATORS: Final = {name: operator for operator, name in _NAMES.items()}
_LISTS: Final = {operators.in_op: "in", operators.not_in_op: "not in"}
_RANGES: Final = {operators.between_op: "between", operators.not_between_op: "not between"}
_NULLS: Final = {operators.is_: "is null", operators.is_not: "is not null"}
_NOT: Final = frozenset({operators.inv, operators.isfalse})
_DEEPEST: Final = 50


def written(condition: ColumnElement[bool] | None) -> list[Any] | None:
    """A condition that was checked, as lists of names and values; None for none."""
    return None if condition is None else _written(condition)


def _written(element: Any) -> list[Any]:
    if isinstance(element, elements.Grouping):
        return _written(element.element)
    if isinstance(element, elements.BooleanClauseList):
        name = "and" if element.operator is operators.and_ else "or"
        return [name, *map(_written, element.clauses)]
    if isinstance(element, elements.True_ | elements.False_):
        return ["all" if isinstance(element, elements.True_) else "none"]
    if isinstance(element, elements.UnaryExpression):
        found = _written(element.element)
        return ["not", found] if element.operator in _NOT else found
    if isinstance(element, has_text):
        column, text = element.clauses
        return ["has text", column.key, text.value]
    return _comparison(element)


def _comparison(element: Any) -> list[Any]:
    column, right, operator = element.left.key, element.right, element.operator
    if operator in _LISTS:
        return [_LISTS[operator], column, list(right.value)]
    if operator in _RANGES:
        return [_RANGES[operator], column, *(_value(each) for each in right.clauses)]
    if operator in _NULLS:
        return [_NULLS[operator], column]
    if isinstance(right, elements.ColumnClause):
        return ["column", _NAMES[operator], column, right.key]
    return [_NAMES[operator], column, _value(right)]


def _value(element: Any) -> Any:
    if isinstance(element, elements.True_ | elements.False_):
        return isinstance(element, elements.True_)
    return element.value


def read(given: Any, table: Table) -> ColumnElement[bool] | None:
    """The condition on a table that lists say.

    :raises InvalidData: they say none.
    """
    return None if given is None else _read(given, table, 0)


def _read(given: Any, table: Table, depth: int) -> ColumnElement[bool]:
    is_one = isinstance(given, list) and bool(given) and isinstance(given[0], str)
    if not is_one or depth > _DEEPEST:
        raise _refused()
    name, *rest = given
    if name in ("and", "or"):
        join, start = (and_, true()) if name == "and" else (or_, false())
        made: ColumnElement[bool] = join(start, *(_read(each, table, depth + 1) for each in rest))
        return made
    if name == "not" and len(rest) == 1:
        return not_(_read(rest[0], table, depth + 1))
    if name in ("all", "none") and not rest:
        return true() if name == "all" else false()
    compared: ColumnElement[bool] = _read_comparison(name, rest, table)
    return compared


def _read_comparison(name: Any, rest: Sequence[Any], table: Table) -> Any:
    match name, *rest:
        case "has text", column, str(text):
            return has_text(_column(table, column), text)
        case "in", column, list(values):
            return _column(table, column).in_(values)
        case "not in", column, list(values):
            return _column(table, column).not_in(values)
        case "between", column, low, high:
            return _column(table, column).between(low, high)
        case "not between", column, low, high:
            return ~_column(table, column).between(low, high)
        case "is null", column:
            return _column(table, column).is_(None)
        case "is not null", column:
            return _column(table, column).is_not(None)
        case "column", str(operator), column, other if operator in _OPERATORS:
            found = _column(table, other)
            return _column(table, column).operate(_OPERATORS[operator], found)
        case operator, column, value if operator in _OPERATORS and value is not None:
            return _column(table, column).operate(_OPERATORS[operator], value)
    raise _refused()


def _column(table: Table, name: Any) -> Any:
    found = table.c.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidData(f"{table.name} has no such column", field="where", value=name)
    return found


def _refused() -> InvalidData:
    return InvalidData("is no condition that is known here", field="where")
