"""Views, dictionaries, settings, mutations and parts that affect the tables of the kit.

No CREATE TABLE shows them: views that every insert runs through, dictionaries that read a table,
changes of rows that fail again and again, and parts that nobody merges. No system table says
whether SYSTEM STOP MERGES stopped merges; only the parts left unmerged show it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from sqlalchemy import MetaData, exists, func, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import literal, quoted
from jts_storage.clickhouse.tables import AnyTableModel, build, table_of
from jts_storage.ports.schema import MUTATION, NOTHING, PARTS, READER, SETTING, VIEW, Difference

_STORE: Final = "clickhouse"
_SKIPPING: Final = "skip_unavailable_shards"
_SHOWN: Final = 200
"""Characters of what ClickHouse says of a failure."""


def differences(
    manager: ClickHouseManager, models: Collection[AnyTableModel] = ()
) -> list[Difference]:
    """Return what keeps the tables from being written as the models say.

    :param models: of services, beside the kit's own.
    """
    declared = MetaData()
    for model in models:
        table_of(model, declared, manager.config.cluster)
    names = [*build(manager.config.cluster).metadata.tables, *declared.tables]
    return [
        *_views(manager, names),
        *_dictionaries(manager, names),
        *_failing_mutations(manager, names),
        *_unmerged(manager, names),
        *_skipping(manager, names),
    ]


def _views(manager: ClickHouseManager, names: Collection[str]) -> Iterator[Difference]:
    c = system.tables.c
    columns = (c.name, c.dependencies_database, c.dependencies_table)
    query = select(*columns).where(system.is_here(system.tables), c.name.in_(names))
    for name, databases, views in manager.execute(text_of(query)):
        for database, view in zip(databases, views, strict=True):
            full = f"{quoted(database)}.{quoted(view)}"
            yield Difference(
                _STORE,
                f"{name}.{view}",
                VIEW,
                NOTHING,
                "a view that every insert runs through",
                f"DETACH TABLE {full} PERMANENTLY",
                "Each insert waits for it and fails with it, and it counts rows that later ones"
                f" replace or delete. It keeps its rows, and comes back with ATTACH TABLE {full}.",
            )


def _dictionaries(manager: ClickHouseManager, names: Collection[str]) -> Iterator[Difference]:
    if "loading_dependent_table" not in _columns_of_tables(manager):
        return
    c = system.tables.c
    columns = (c.name, c.loading_dependent_database, c.loading_dependent_table)
    query = select(*columns).where(system.is_here(system.tables), c.name.in_(names))
    for name, databases, readers in manager.execute(text_of(query)):
        for database, reader in zip(databases, readers, strict=True):
            yield Difference(
                _STORE,
                f"{name}.{reader}",
                READER,
                NOTHING,
                "a dictionary or table that needs it",
                f"DETACH DICTIONARY {quoted(database)}.{quoted(reader)} PERMANENTLY",
                "As long as it is there ClickHouse refuses to rename or drop the table, as some"
                " migrations do.",
                is_note=True,
            )


def _columns_of_tables(manager: ClickHouseManager) -> set[str]:
    """Name the columns of system.tables: older servers do not have all."""
    c = system.columns.c
    query = select(c.name).where(c.database == "system", c.table == "tables")
    return {str(name) for (name,) in manager.execute(text_of(query))}


def _failing_mutations(manager: ClickHouseManager, names: Collection[str]) -> Iterator[Difference]:
    c = system.mutations.c
    query = select(c.table, c.mutation_id, c.command, c.latest_fail_reason).where(
        system.is_here(system.mutations),
        c.table.in_(names),
        c.is_done == 0,
        c.latest_fail_reason != "",
    )
    for name, identity, command, reason in manager.execute(text_of(query)):
        yield Difference(
            _STORE,
            name,
            MUTATION,
            "done",
            f"{identity} {command[:_SHOWN]}, which fails: {reason[:_SHOWN]}",
            f"KILL MUTATION WHERE database = currentDatabase() AND table = {literal(name)}"
            f" AND mutation_id = {literal(identity)} SYNC",
            "Parts that it has changed stay changed, and the others are not: look at its rows, and"
            " alter them anew if that was wanted.",
        )


def _unmerged(manager: ClickHouseManager, names: Collection[str]) -> Iterator[Difference]:
    limit = _delaying(manager)
    c = system.parts.c
    count: Any = func.count()
    query = (
        select(c.table, c.partition, count)
        .where(system.is_here(system.parts), c.table.in_(names), c.active == 1)
        .group_by(c.table, c.partition)
        .having(count >= limit)
    )
    for name, partition, parts in manager.execute(text_of(query)) if limit else ():
        yield Difference(
            _STORE,
            name,
            PARTS,
            f"fewer than {limit} in a partition, or inserts are delayed",
            f"{parts} in {partition}",
            f"SYSTEM START MERGES {quoted(name)}; OPTIMIZE TABLE {quoted(name)} FINAL",
            "Merges were stopped, or do not keep up with many small inserts. No row is lost.",
        )


def _skipping(manager: ClickHouseManager, names: Collection[str]) -> Iterator[Difference]:
    """Whoever names the cluster is safe from this setting, and nobody else is."""
    c, tables = system.settings.c, system.tables.c
    is_spread = exists().where(
        system.is_here(system.tables), tables.name.in_(names), tables.engine == "Distributed"
    )
    query = select(c.value).where(c.name == _SKIPPING, c.value != "0", is_spread)
    for (value,) in manager.execute(text_of(query)):
        yield Difference(
            _STORE,
            _SKIPPING,
            SETTING,
            "0",
            str(value),
            f"ALTER USER {quoted(manager.config.user)} SETTINGS {_SKIPPING} = 0",
            "While a shard is away, reads give the rows of the others as if they were all. Where"
            " the user or its profile stands in a file of the server, change it there; a connection"
            " that names its cluster asks for 0 itself.",
        )


def _delaying(manager: ClickHouseManager) -> int:
    """Return how many parts of a partition make the server delay inserts; 0 for never."""
    c = system.merge_tree_settings.c
    query = select(c.value).where(c.name == "parts_to_delay_insert")
    return int(manager.execute(text_of(query))[0][0])
