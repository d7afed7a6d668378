"""The statements on symbols, made of the columns of the declared table; see `statements`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table, bindparam, func, or_, select, true
from sqlalchemy.sql import ColumnElement

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import Final, InsertRows, text_of

Columns = Any
Condition = Callable[[Columns], ColumnElement[bool]]


def has_code(c: Columns) -> ColumnElement[bool]:
    found: ColumnElement[bool] = c.code == bindparam("code")
    return found


def is_of_market(c: Columns) -> ColumnElement[bool]:
    found: ColumnElement[bool] = c.market == bindparam("market")
    return found


def is_active(c: Columns) -> ColumnElement[bool]:
    found: ColumnElement[bool] = c.is_active == 1
    return found


def contains(c: Columns) -> ColumnElement[bool]:
    """Whether the code or the name contains a text, in capitals or not."""
    sought: ColumnElement[str] = bindparam("query")
    return or_(*(func.positionCaseInsensitiveUTF8(where, sought) > 0 for where in (c.code, c.name)))


def is_any(c: Columns) -> ColumnElement[bool]:
    return true()


@cache
def select_page(symbols: Table, condition: Condition, *, goes_on: bool) -> str:
    """Select the symbols that meet a condition, in order of codes.

    :param goes_on: only those after a code.
    """
    c = Final(symbols).c
    statement = select(
        c.code,
        c.name,
        c.market,
        c.sector,
        c.is_active,
        # The original schema has seconds without a zone; an explicit one keeps the moment.
        func.toDateTime64(c.updated_at, 3, "UTC").label("updated"),
    ).where(condition(c))
    if goes_on:
        statement = statement.where(c.code > bindparam("after"))
    return text_of(statement.order_by(c.code).limit(bindparam("limit")))


@cache
def insert_rows(symbols: Table, keys: Sequence[str]) -> str:
    return text_of(InsertRows(symbols, [symbols.c[key] for key in keys]))


@cache
def select_highest_version(symbols: Table) -> str:
    return text_of(select(func.max(symbols.c.version)))


@cache
def select_next_version(symbols: Table) -> str:
    """Select a version by the server's clock, above all that is stored."""
    now = func.toUInt64(func.toUnixTimestamp64Nano(func.now64(9)))
    return text_of(select(func.greatest(now, func.max(symbols.c.version) + 1)))


@cache
def select_columns(symbols: Table) -> str:
    c = system.columns.c
    return text_of(select(c.name).where(system.is_here(system.columns), c.table == symbols.name))
