"""What ClickHouse migrations are written with: tables altered, replaced, and dropped with care.

They are text: a migration is frozen and must not follow today's models.
"""

from __future__ import annotations

from jts_storage.migrate.copying import Copy, on_every_host
from jts_storage.migrate.definition import LOCAL, Definition
from jts_storage.migrate.replacing import Replacement
from jts_storage.migrate.running import count, execute, exists, run

__all__ = ["Definition", "alter", "create", "drop_if_empty", "execute", "exists", "replace", "run"]


def alter(name: str, change: str) -> None:
    """Alter a table; on a cluster first those that hold its rows, then the one that spreads them.

    :param change: what follows ``ALTER TABLE <name>``. It may be sent twice.
    """
    for table in (f"{name}{LOCAL}", name) if run().cluster else (name,):
        execute(f"ALTER TABLE {table}{{on_cluster}} {change}")


def create(name: str, definition: Definition) -> None:
    """Create a table that no release before this one had. It may be sent twice."""
    cluster = run().cluster
    for statement in definition.statements(name, name, cluster):
        execute(statement)


def drop_if_empty(name: str) -> None:
    """Drop a table that holds nothing. One with rows stays: no older schema could hold them."""
    if run().execute is None:
        execute(f"-- if {name} is empty: DROP TABLE {name}{{on_cluster}} SYNC")
    elif exists(name) and not count(on_every_host(name, run().cluster)):
        execute(f"DROP TABLE {name}{{on_cluster}} SYNC")


def replace(
    name: str, definition: Definition, copy: Copy, *, keep: bool = True, first_number: int = 1
) -> None:
    """Put a table of another definition in the place of `name`, with all its rows.

    The new table is filled beside the old one and compared with it; then their names are
    exchanged. Whatever interrupts it, `name` is readable, and doing it again goes on. On a cluster
    what is distributed before and after stays so: the tables beneath it are replaced.

    :param keep: keep the old table, if it holds rows, as ``<name>_legacy``.
    :param first_number: how many old tables are kept with this one; from the second on, names end
        with a number.
    """
    replacement = Replacement(name, definition, copy, keep, first_number)
    if run().execute is None:
        replacement.print()
    else:
        replacement.run()
