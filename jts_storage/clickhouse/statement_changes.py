"""Whether rows of a table change by statements alone.

They do not where an UPDATE that was acknowledged is still under way, where rows expire, where a
view or a buffer writes into the table later on, and where the rows lie somewhere else.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from sqlalchemy import Table, func, not_, or_, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.candle_rows import KEY
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import IDENTIFIER, bare

HOLDING = ("MergeTree", "ReplacingMergeTree")
"""Engines whose rows all lie in this table, and nowhere else."""

_PASSIVE = (
    *("View", "Memory", "Log", "TinyLog", "StripeLog", "Null", "Set", "Join", "Dictionary"),
    *("File", "URL", "S3", "GenerateRandom", "EmbeddedRocksDB", "PostgreSQL", "MySQL", "MongoDB"),
)
"""Engines of other tables that never write into a table by themselves; a MergeTree does not."""

_ACTIVE = ("MaterializedView", "Buffer")
_SYSTEM = ("system", "INFORMATION_SCHEMA", "information_schema")
_EXPIRES = re.compile(r"\bTTL\b")
_TARGET = re.compile(rf"\bTO\s+(?:{IDENTIFIER}\.)?({IDENTIFIER})")


def changes_by_statements_alone(manager: ClickHouseManager, table: Table) -> bool:
    """Return whether from now on only statements can change the rows of `table`."""
    if any(manager.execute(each)[0][0] for each in (_select_unfinished(table), _SELECT_RESTORING)):
        return False
    found = manager.execute(_select_active(table))
    ours = [row for here, *row in found if here]
    return len(ours) == 1 and _holds(table, *ours[0]) and _only_views(table, found)


def _holds(table: Table, engine: str, sorting_key: str, created: str) -> bool:
    """Return whether the rows lie in the table, none expires, and none replaces that of another
    series or moment.
    """
    key = {table.c[name].name for name in (*KEY, "timestamp")}
    sorted_by = set(sorting_key.replace("`", "").split(", "))
    return engine in HOLDING and key <= sorted_by and not _EXPIRES.search(created)


def _only_views(table: Table, found: Any) -> bool:
    """Return whether there are only views beside the table, and none of them writes into it."""
    return all(
        here or (engine == "MaterializedView" and table.name not in _targets_of(created))
        for here, engine, _, created in found
    )


def _targets_of(created: str) -> list[str]:
    return [bare(name) for name in _TARGET.findall(created)]


@cache
def _select_unfinished(table: Table) -> str:
    c = system.mutations.c
    return text_of(
        select(func.count()).where(
            system.is_here(system.mutations), c.table == table.name, not_(c.is_done)
        )
    )


@cache
def _select_active(table: Table) -> str:
    """Select the table itself, and all others that may do more than hold rows."""
    c = system.tables.c
    is_ours = system.is_here(system.tables) & (c.name == table.name)
    is_passive = or_(func.endsWith(c.engine, "MergeTree"), c.engine.in_(_PASSIVE))
    return text_of(
        select(is_ours.label("ours"), c.engine, c.sorting_key, c.create_table_query).where(
            or_(c.database.not_in(_SYSTEM), c.engine.in_(_ACTIVE)), or_(is_ours, not_(is_passive))
        )
    )


_SELECT_RESTORING = text_of(
    select(func.count())
    .select_from(system.backups)
    .where(func.startsWith(func.toString(system.backups.c.status), "RESTORING"))
)
