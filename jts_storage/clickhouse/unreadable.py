"""Rows that other programs wrote and no list of the kit gives: they are counted here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import func, or_, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import LimitBy, text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.rebuilding import free_name
from jts_storage.clickhouse.sql import literal
from jts_storage.clickhouse.symbol_model import symbol_from_row
from jts_storage.clickhouse.tables import Tables, build, holding
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.ports.schema import ROWS, Difference

_MOST: Final = 100
"""So many symbols are named at once."""

_FRAMES: Final = [frame.value for frame in Timeframe]


def differences(manager: ClickHouseManager) -> list[Difference]:
    """Return what of candles and symbols cannot be read."""
    tables = build(manager.config.cluster)
    c = system.columns.c
    known = text_of(select(c.table, c.name).where(system.is_here(system.columns)))
    present = {(str(table), str(name)) for table, name in manager.execute(known)}
    taken = {table for table, _ in present}
    found: list[Difference] = []
    if {("candles", "timeframe"), ("candles", "symbol")} <= present:
        found += _candles(manager, tables, taken)
    # A table without versions is one of JTS, which is read by the same rules.
    if {("symbols", column.name) for column in tables.symbols.c} <= present:
        found += _symbols(manager, tables, taken)
    return found


def _candles(manager: ClickHouseManager, tables: Tables, taken: set[str]) -> Iterator[Difference]:
    c = tables.candles.c
    frame: Any = func.toString(c.timeframe).label("frame")
    query = (
        select(frame, func.count())
        .where(or_(c.timeframe.notin_(_FRAMES), c.symbol == ""))
        .group_by(frame)
        .order_by(frame)
    )
    counted = manager.execute(text_of(query))
    if counted:
        shown = ", ".join(f"{rows} of timeframe {frame!r}" for frame, rows in counted)
        listed = ", ".join(map(literal, _FRAMES))
        where, cluster = f"timeframe NOT IN ({listed}) OR symbol = ''", manager.config.cluster
        yield _moved("candles", shown, where, taken, cluster)


def _symbols(manager: ClickHouseManager, tables: Tables, taken: set[str]) -> Iterator[Difference]:
    c = tables.symbols.c
    names = ("code", "name", "market", "sector")
    latest: Any = LimitBy(c.code)
    query = (
        select(*(c[name] for name in names)).order_by(c.code, c.version.desc()).suffix_with(latest)
    )
    wrong: dict[str, str] = {}
    for values in manager.execute(text_of(query)):
        row = dict(zip(names, values, strict=True)) | {"is_active": 1, "updated_at": None}
        try:
            symbol_from_row(row)
        except InvalidData as exc:
            wrong[row["code"]] = str(exc)
    if wrong:
        codes = ", ".join(map(literal, list(wrong)[:_MOST]))
        more = f" Look again for the other {len(wrong) - _MOST}." if len(wrong) > _MOST else ""
        cluster = manager.config.cluster
        other = (
            f" Or give those without a market one: ALTER TABLE {holding('symbols', cluster)}"
            f" UPDATE market = 'OTHER' WHERE market = ''.{more}"
        )
        shown = f"{len(wrong)} ({next(iter(wrong.values()))})"
        yield _moved("symbols", shown, f"code IN ({codes})", taken, cluster, other)


def _moved(
    table: str, shown: str, where: str, taken: set[str], cluster: str | None, more: str = ""
) -> Difference:
    """Say how to move rows out of the way, into a table of their own."""
    kept = free_name(f"{table}_unreadable", taken)
    return Difference(
        "clickhouse",
        table,
        ROWS,
        "all readable",
        f"left out of lists: {shown}",
        f"CREATE TABLE {kept} ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM {table}"
        f" WHERE {where}; ALTER TABLE {holding(table, cluster)} DELETE WHERE {where}",
        f"Another program may need them: {kept} keeps them until somebody drops it.{more}",
    )
