"""The statements on symbols, made of the columns of the declared table; see `statements`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table, bindparam, func, or_, select, true
from sqlalchemy.sql import ColumnElement

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import Final, InsertRows, text_of

FURTHEST_AHEAD = 100 * 365 * 86_400 * 10**9
"""Versions more than a hundred years ahead of the server's time are another program's mistake: the
clock of commits, which goes above every version, could not be counted up from them for long. The
limit goes with time, so the clock never catches up with it."""

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
def select_versions(symbols: Table) -> str:
    """Select the highest version that counts, the highest of all, and the server's time as one."""
    version = symbols.c.version
    now = func.toUInt64(func.toUnixTimestamp64Nano(func.now64(9)))
    counts = version <= now + FURTHEST_AHEAD
    return text_of(select(func.maxIf(version, counts), func.max(version), now))


@cache
def select_above(symbols: Table) -> str:
    """Select the codes and versions of rows whose version is higher."""
    c = symbols.c
    statement = select(c.code, c.version).where(c.version > bindparam("version"))
    return text_of(statement.order_by(c.code, c.version))


@cache
def select_columns(symbols: Table) -> str:
    c = system.columns.c
    return text_of(select(c.name).where(system.is_here(system.columns), c.table == symbols.name))
