"""The statements that erase what candles were; see `purging`.

All take the parameter ``before``: the first version that is still to be read. None has a subquery,
so every replica comes to the same rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Table, and_, bindparam, func, literal_column, or_, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.candle_rows import Expression, TableColumns, is_among_keys
from jts_storage.clickhouse.constructs import Final, text_of
from jts_storage.domain.columns import PRICES

IN_ORDER = {"optimize_aggregation_in_order": 1}
"""Rows come in the order of their candles, so that few are in memory at once."""


@cache
def select_known(table: Table) -> str:
    """Those of some series of which there is any row."""
    c = table.c
    return text_of(select(c.symbol, c.exchange, c.timeframe).distinct().where(is_among_keys(c)))


@cache
def count_former(history: Table, *, of_all: bool) -> str:
    """Count the former candles that are to be erased, each once."""
    rows = Final(history)
    return text_of(select(func.count()).select_from(rows).where(_is_former(rows.c, of_all)))


@cache
def count_former_rows(history: Table, *, of_all: bool) -> str:
    """Count the rows that lie there of them."""
    return text_of(select(func.count()).select_from(history).where(_is_former(history.c, of_all)))


@cache
def erase_former(history: Table, name: str, *, of_all: bool) -> str:
    """
    :param name: of the table that holds the rows, and what a cluster needs beside it.
    """
    return f"ALTER TABLE {name} DELETE WHERE {text_of(_is_former(history.c, of_all))}"


@cache
def count_masked(table: Table) -> str:
    """Count the parts with rows that were deleted without being taken out."""
    c = system.parts.c
    return text_of(
        select(func.count()).where(
            system.is_here(system.parts), c.table == table.name, c.active, c.has_lightweight_delete
        )
    )


def erase_masked(name: str) -> str:
    return f"ALTER TABLE {name} APPLY DELETED MASK"


@cache
def count_superseded(candles: Table, *, of_all: bool) -> str:
    """Count the timestamps at which there still are rows that a later one has replaced."""
    c = candles.c
    place = (c.timeframe, c.symbol, c.exchange, c.timestamp)
    several = (
        select(*place)
        .where(_among(c, of_all), c.version <= bindparam("before"))
        .group_by(*place)
        .having(func.min(c.version) < func.max(c.version))
        .subquery("several")
    )
    return text_of(select(func.count()).select_from(several))


def merge(name: str) -> str:
    """Take out the rows that a later one has replaced."""
    return f"OPTIMIZE TABLE {name} FINAL"


@cache
def count_deleted(candles: Table, *, of_all: bool) -> str:
    """Count the rows of deleted candles that still have their values."""
    return text_of(select(func.count()).select_from(candles).where(_has_values(candles.c, of_all)))


@cache
def blank_deleted(candles: Table, name: str, *, of_all: bool) -> str:
    """Take the values from deleted candles, and let the rows say on that there are none.

    Without them a commit that another process finishes late could bring a candle back.
    """
    c = candles.c
    values = ", ".join(f"{c[each].name} = 0" for each in (*PRICES, "volume"))
    return f"ALTER TABLE {name} UPDATE {values} WHERE {text_of(_has_values(c, of_all))}"


def _is_former(c: TableColumns, of_all: bool) -> Expression:
    return and_(_among(c, of_all), c.ended <= bindparam("before"))


def _has_values(c: TableColumns, of_all: bool) -> Expression:
    any_value = or_(*(c[name] != literal_column("0") for name in (*PRICES, "volume")))
    return and_(_among(c, of_all), c.is_deleted, c.version <= bindparam("before"), any_value)


def _among(c: Any, of_all: bool) -> Expression:
    return literal_column("1") if of_all else is_among_keys(c)
