"""What live tables should be, against what they are.

Alembic sees neither engine, sort key, partition key nor codec here. So both sides are read from
the same kind of text: the CREATE of the models, and the one that the server keeps of each table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import MetaData, func, select
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse import system
from jts_storage.clickhouse.comparing import LIMITS, REBUILD, STORE, compare
from jts_storage.clickhouse.constructs import ddl_of, text_of
from jts_storage.clickhouse.create_texts import TableText, parse
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.rebuilding import Rebuild
from jts_storage.clickhouse.renames import renamed_columns
from jts_storage.clickhouse.tables import build, on_all, table_of
from jts_storage.models.tables import TableModel
from jts_storage.ports.schema import NOTHING, THERE, Difference

_KEPT_BY_MIGRATIONS: Final = "_legacy"
_CHANGES: Final = re.compile(r"\b((?:ALTER|CREATE|ATTACH) TABLE \S+)(?! ON CLUSTER)(?=[\s;]|$)")


def differences(
    manager: ClickHouseManager,
    *,
    partition_by_year: bool = False,
    models: Iterable[TableModel[Any, Any]] = (),
) -> list[Difference]:
    """Return how the tables of the manager's database differ from the models.

    :param models: of services, beside the kit's own.
    """
    cluster = manager.config.cluster
    kits = build(cluster, partition_by_year=partition_by_year).metadata
    declared = MetaData()
    for model in models:
        table_of(model, declared, cluster)
    made = {
        table.name: ddl_of(CreateTable(table))
        for metadata in (kits, declared)
        for table in metadata.sorted_tables
    }
    c = system.tables.c
    query = select(c.name, c.create_table_query).where(system.is_here(system.tables))
    present = {str(name): str(text) for name, text in manager.execute(text_of(query))}
    found: list[Difference] = []
    limits = _limits(manager)
    for name, create in made.items():
        if name not in present:
            found.append(_missing(manager, name, create, made, present))
            continue
        wanted, actual = parse(create), parse(present[name])
        apart = list(compare(name, wanted, actual, limits=limits))
        if cluster is None:
            found += _with_rebuild(apart, name, create, present)
        else:
            found += [replace(each, remedy=everywhere(each.remedy, cluster)) for each in apart]
    return found


def everywhere(remedy: str, cluster: str) -> str:
    """What mends every server of the cluster: a table is one on each."""
    return _CHANGES.sub(rf"\1 ON CLUSTER {cluster}", remedy)


def texts_of(metadata: MetaData) -> dict[str, TableText]:
    """Return what the models say of each table."""
    return {table.name: parse(ddl_of(CreateTable(table))) for table in metadata.sorted_tables}


def _limits(manager: ClickHouseManager) -> Mapping[str, int]:
    """What the server has of the settings by which ClickHouse refuses writes to a table."""
    c = system.merge_tree_settings.c
    query = select(c.name, c.value).where(c.name.in_(LIMITS))
    rows = manager.execute(text_of(query))
    return {str(name): int(value) for name, value in rows if str(value).isdigit()}


def _with_rebuild(
    apart: list[Difference], name: str, create: str, present: Mapping[str, str]
) -> list[Difference]:
    """Give all differences of a table one remedy where one of them needs another table."""
    if not any(REBUILD in each.remedy for each in apart):
        return apart
    wanted, found = parse(create), parse(present[name])
    rebuild = Rebuild(name, create, wanted, found, renamed_columns(wanted, found), present)
    remedy = "; ".join(rebuild.statements())
    return [
        replace(each, remedy=remedy, warning=f"{_own_warning(each)} {rebuild.warning()}".strip())
        for each in apart
    ]


def _own_warning(each: Difference) -> str:
    """What a difference warns of beside the rebuild: a surplus column stays in the old table."""
    return "" if each.what == "column" and each.expected == NOTHING else each.warning


def _missing(
    manager: ClickHouseManager,
    name: str,
    create: str,
    made: Mapping[str, str],
    present: Mapping[str, str],
) -> Difference:
    cluster, remedy = manager.config.cluster, create
    warning = "If it had rows, they are not in this database: restore or import them afterwards."
    if name in _detached(manager):
        remedy, warning = f"ATTACH TABLE {on_all(name, cluster)}", ""
    elif alike := [
        other
        for other, text in present.items()
        if other not in made
        and _KEPT_BY_MIGRATIONS not in other
        and not list(compare(name, parse(create), parse(text)))
    ]:
        remedy = f"RENAME TABLE {alike[0]} TO {on_all(name, cluster)}"
        warning = (
            f"{', '.join(alike)} has just its form, and perhaps its rows. If that is another table,"
            f" create a new one: {create}."
        )
    return Difference(STORE, name, "table", THERE, NOTHING, remedy, warning)


def _detached(manager: ClickHouseManager) -> set[str]:
    """The tables that were detached; none where the server does not list them."""
    c = system.tables.c
    lists = select(func.count()).where(c.database == "system", c.name == "detached_tables")
    if not manager.execute(text_of(lists))[0][0]:
        return set()
    rows = system.detached_tables
    found = manager.execute(text_of(select(rows.c.table).where(system.is_here(rows))))
    return {str(name) for (name,) in found}
