"""What the tables of ClickHouse take, and what the engine does behind them: for people on call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Table, func, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.manager import ClickHouseManager


@dataclass(frozen=True, slots=True)
class TableUsage:
    """One table: its active parts, their rows with duplicates, and their bytes on disk."""

    table: str
    parts: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """All tables of a database.

    :param merges: how many merges run now.
    :param mutations: how many mutations are not done.
    """

    tables: tuple[TableUsage, ...]
    merges: int
    mutations: int


def usage(manager: ClickHouseManager) -> Usage:
    """Look at the engine's own tables."""
    tables = tuple(TableUsage(*row) for row in manager.execute(_select_parts()))
    merges, mutations = (
        int(manager.execute(query)[0][0]) for query in (_count_merges(), _count_mutations())
    )
    return Usage(tables, merges, mutations)


def newest(manager: ClickHouseManager, candles: Table) -> list[tuple[str, str, int]]:
    """The newest timestamp of each exchange and timeframe, in milliseconds.

    It looks at every row: a second for ten million. Deleted candles count as if they were there.
    """
    rows = manager.execute(_select_newest(candles))
    return [(str(exchange), str(timeframe), int(ms)) for exchange, timeframe, ms in rows]


def free_bytes(manager: ClickHouseManager) -> int | None:
    """The room that is left on the fullest of the server's own disks; None if it has none.

    An object store has no end that anybody could tell.
    """
    found = manager.execute(_select_free())[0]
    return int(found[1]) if int(found[0]) else None


def running(manager: ClickHouseManager) -> list[tuple[float, str]]:
    """The statements that run, the longest first: for how many seconds, and their first word.

    Nothing more of their text, which has values in it; this question is left out.
    """
    rows = manager.execute(_select_processes())
    return [(float(seconds), str(word)) for seconds, word in rows]


@cache
def _select_processes() -> str:
    c = system.processes.c
    word = func.upper(func.arrayElement(func.extractAll(c.query, "[A-Za-z]+"), 1))
    others = c.query.not_like("%system.processes%")
    return text_of(select(c.elapsed, word).where(others).order_by(c.elapsed.desc()))


@cache
def _select_free() -> str:
    c = system.disks.c
    is_local = func.lower(func.toString(c.type)) == "local"
    return text_of(select(func.count(), func.min(c.unreserved_space)).where(is_local))


@cache
def _select_parts() -> str:
    c = system.parts.c
    statement = (
        select(c.table, func.count(), func.sum(c.rows), func.sum(c.bytes_on_disk))
        .where(system.is_here(system.parts), c.active)
        .group_by(c.table)
    )
    return text_of(statement.order_by(c.table))


@cache
def _count_merges() -> str:
    merges = system.merges
    return text_of(select(func.count()).select_from(merges).where(system.is_here(merges)))


@cache
def _count_mutations() -> str:
    mutations = system.mutations
    unfinished = system.is_here(mutations) & (mutations.c.is_done == 0)
    return text_of(select(func.count()).select_from(mutations).where(unfinished))


@cache
def _select_newest(candles: Table) -> str:
    c = candles.c
    ms = func.toUnixTimestamp64Milli(func.max(c.timestamp))
    return text_of(select(c.exchange, c.timeframe, ms).group_by(c.exchange, c.timeframe))
