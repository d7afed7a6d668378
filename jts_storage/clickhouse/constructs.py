"""What ClickHouse says and SQLAlchemy Core does not, and how a statement becomes text.

Statements are compiled once, by `text_of`, and run as text: values that never change stand in
it, and those of a call as ``%(name)s``, which the driver replaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Table, column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import ClauseElement, TableClause
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from jts_storage.clickhouse.sqlalchemy_internals import TextDialect


class Final(TableClause):
    """``table FINAL``: of the rows with one sort key the one with the highest version."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.name, *map(_plain, table.columns))


class Prewhere(TableClause):
    """``table PREWHERE condition``: only rows that fulfil it have their other columns read."""

    def __init__(self, table: Table, condition: ColumnElement[bool]) -> None:
        super().__init__(table.name, *map(_plain, table.columns))
        self.condition = condition


class LimitBy(ColumnElement[Any]):
    """``LIMIT rows BY columns``: the first rows of each combination; a suffix of a SELECT."""

    def __init__(self, *columns: ColumnElement[Any], rows: Any = None) -> None:
        """:param rows: a parameter, if more than one row is wanted."""
        self.columns, self.rows = columns, rows


class WithValue(ClauseElement):
    """``WITH (SELECT ...) AS name SELECT ...``: a value that is computed once for the statement.

    Core's ``cte()`` makes a table of it.
    """

    def __init__(self, name: str, value: ClauseElement, statement: ClauseElement) -> None:
        self.name, self.value, self.statement = name, value, statement


class InsertRows(ClauseElement):
    """``INSERT INTO table (columns) VALUES``: the driver sends the rows behind it."""

    def __init__(self, table: Table, columns: Iterable[Column[Any]]) -> None:
        self.table, self.columns = table, tuple(columns)


@compiles(Final)
def _final(element: Final, compiler: Any, **options: Any) -> str:
    return f"{compiler.visit_table(element, **options)} FINAL"


@compiles(Prewhere)
def _prewhere(element: Prewhere, compiler: Any, **options: Any) -> str:
    condition = compiler.process(element.condition)
    return f"{compiler.visit_table(element, **options)} PREWHERE {condition}"


@compiles(LimitBy)
def _limit_by(element: LimitBy, compiler: Any, **options: Any) -> str:
    rows = "1" if element.rows is None else compiler.process(element.rows, **options)
    columns = ", ".join(compiler.process(each, **options) for each in element.columns)
    return f"LIMIT {rows} BY {columns}"


@compiles(WithValue)
def _with_value(element: WithValue, compiler: Any, **options: Any) -> str:
    value, statement = (compiler.process(each) for each in (element.value, element.statement))
    return f"WITH ({value}) AS {element.name} {statement}"


@compiles(InsertRows)
def _insert_rows(element: InsertRows, compiler: Any, **options: Any) -> str:
    names = ", ".join(map(compiler.preparer.format_column, element.columns))
    return f"INSERT INTO {compiler.preparer.format_table(element.table)} ({names}) VALUES"


def text_of(statement: ClauseElement) -> str:
    """Compile a statement, values of a call as ``%(name)s``.

    Columns stand without their table, so each SELECT reads from one.
    """
    compiled = statement.compile(dialect=_DIALECT)
    # A statement without values of a call is sent as it is, so its percent signs are single.
    return str(compiled) if compiled.params else str(compiled) % ()


def ddl_of(statement: CreateTable) -> str:
    """Compile a CREATE TABLE to one line."""
    return " ".join(str(statement.compile(dialect=_DIALECT)).split())


def type_of(typed: Column[Any] | TypeEngine[Any]) -> str:
    """Return the type of a declared column as ClickHouse writes it."""
    wanted = typed.type if isinstance(typed, Column) else typed
    return str(wanted.compile(dialect=_DIALECT))


def _plain(declared: Column[Any]) -> Any:
    plain = column(declared.name, declared.type)
    plain.key = declared.key  # as Python calls it, whatever it is called in the table
    return plain


_DIALECT = TextDialect()
