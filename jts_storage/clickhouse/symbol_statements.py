"""The statements on symbols, made of the columns of the declared table; see `statements`."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Table, bindparam, func, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import Final, text_of

FURTHEST_AHEAD = 100 * 365 * 86_400 * 10**9
"""Versions more than a hundred years ahead of the server's time are another program's mistake: the
clock of commits, which goes above every version, could not be counted up from them for long. The
limit goes with time, so the clock never catches up with it."""


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
def select_codes(symbols: Table) -> str:
    """Select the codes of the symbols of a market."""
    c = Final(symbols).c
    return text_of(select(c.code).where(c.market == bindparam("market")))


@cache
def select_columns(symbols: Table) -> str:
    c = system.columns.c
    return text_of(select(c.name).where(system.is_here(system.columns), c.table == symbols.name))
