"""What ClickHouse migrations are written with: tables made, replaced, and dropped with care."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from alembic import op

from jts_storage.clickhouse.sql import literal
from jts_storage.errors import StorageError
from jts_storage.migrate.copying import Copy, Execute, RangeCopy
from jts_storage.migrate.reports import Report, to_log

RUN_OPTION: Final = "jts_run"
KEPT: Final = "_legacy"
"""What the name of a replaced table ends with while it is kept."""

_NEW: Final = "_new"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of migrations on one ClickHouse.

    :param execute: sends a statement; None when the statements are only to be printed.
    :param alive: called between parts of a long step; raises when the run must end.
    :param chunk_rows: about how many rows are copied at once.
    """

    execute: Execute | None = None
    cluster: str | None = None
    partition_by_year: bool = False
    report: Report = to_log
    alive: Callable[[], None] = lambda: None
    chunk_rows: int = 1_000_000

    @property
    def on_cluster(self) -> str:
        return f" ON CLUSTER {self.cluster}" if self.cluster else ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A table as a migration makes it: frozen here, whatever the models say later.

    :param marker: a column and its type by which this table is told from the one before it.
    :param sharded_by: the column by which a cluster spreads the rows.
    """

    columns: str
    engine: str
    order_by: str
    marker: tuple[str, str]
    arguments: str = ""
    partition_by: str | None = None
    sharded_by: str | None = None
    settings: Mapping[str, int] = field(default_factory=dict)

    def statements(self, name: str, final_name: str, cluster: str | None) -> list[str]:
        """What creates it as `name`; the rows of a cluster lie in ``<final_name>_local``."""
        if cluster is None or self.sharded_by is None:
            return [self._create(name, f"{self.engine}({self.arguments})", self.settings)]
        local = f"{final_name}_local"
        path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
        arguments = ", ".join(filter(None, (path, self.arguments)))
        settings = {
            name.replace("non_replicated", "replicated"): v for name, v in self.settings.items()
        }
        on = f" ON CLUSTER {cluster}"
        return [
            self._create(f"{local}{on}", f"Replicated{self.engine}({arguments})", settings),
            f"CREATE TABLE IF NOT EXISTS {name}{on} ({self.columns}) ENGINE = "
            f"Distributed({cluster}, currentDatabase(), {local}, cityHash64({self.sharded_by}))",
        ]

    def _create(self, name: str, engine: str, settings: Mapping[str, int]) -> str:
        partition = f" PARTITION BY {self.partition_by}" if self.partition_by else ""
        listed = ", ".join(f"{setting} = {value}" for setting, value in settings.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {name} ({self.columns}) ENGINE = {engine}{partition}"
            f" ORDER BY {self.order_by}" + (f" SETTINGS {listed}" if listed else "")
        )


def run() -> Run:
    """The run that the migration is part of."""
    found = op.get_context().opts[RUN_OPTION]
    assert isinstance(found, Run)
    return found


def execute(sql: str) -> Any:
    """Send a statement, or print it; ``{on_cluster}`` in it becomes what the run needs."""
    sql = sql.replace("{on_cluster}", run().on_cluster)
    send = run().execute
    if send is None:
        op.execute(sql)
        return []
    return send(sql)


def drop_if_empty(name: str) -> None:
    """Drop a table that holds nothing. One with rows stays: no older schema could hold them."""
    if run().execute is None:
        execute(f"-- drop {name} if it is empty")
    elif exists(name) and not count(name):
        execute(f"DROP TABLE {name}{{on_cluster}} SYNC")


def exists(name: str) -> bool:
    return bool(
        execute(
            "SELECT 1 FROM system.tables WHERE database = currentDatabase()"
            f" AND name = {literal(name)}"
        )
    )


def count(name: str) -> int:
    return int(execute(f"SELECT count() FROM {name}")[0][0])


def replace(name: str, definition: Definition, copy: Copy, *, keep: bool = True) -> None:
    """Put a table of another definition in the place of `name`, with all its rows.

    The new table is filled beside the old one and compared with it; then their names are
    exchanged. Whatever interrupts it, `name` is readable, and doing it again goes on.

    :param keep: keep the old table, if it holds rows, as ``<name>_legacy``.
    """
    if run().execute is None:
        _print_replacement(name, definition, copy)
        return
    old = f"{name}{_NEW}"
    if not _is_there_already(name, definition):
        _fill(name, definition, copy)
        execute(f"EXCHANGE TABLES {name} AND {old}{{on_cluster}}")
    if exists(old):
        _retire(name, old, copy, keep=keep)
    execute(f"DROP TABLE IF EXISTS {_journal(name)}{{on_cluster}} SYNC")


def _fill(name: str, definition: Definition, copy: Copy) -> None:
    new = f"{name}{_NEW}"
    if not copy.is_repeatable:
        execute(f"DROP TABLE IF EXISTS {new}{{on_cluster}} SYNC")
    for statement in definition.statements(new, name, run().cluster):
        execute(statement)
    if count(name):
        _range_copy(name, copy, name, new).run(compare=True)


def _retire(name: str, old: str, copy: Copy, *, keep: bool) -> None:
    """Bring over what was written while the names were exchanged, and put the old table away."""
    if keep and count(old):
        if copy.is_repeatable:
            _range_copy(name, copy, old, name).run(compare=False)
        execute(f"RENAME TABLE {old} TO {_free_name(name)}{{on_cluster}}")
    else:
        execute(f"DROP TABLE {old}{{on_cluster}} SYNC")


def _range_copy(name: str, copy: Copy, source: str, target: str) -> RangeCopy:
    current = run()
    assert current.execute is not None
    if current.cluster:
        # What JTS filled was replicated by nobody: each host may have rows of its own.
        source = f"clusterAllReplicas({current.cluster}, currentDatabase(), {source})"
    return RangeCopy(
        copy=copy,
        source=source,
        target=target,
        journal=_journal(name),
        execute=current.execute,
        report=current.report,
        alive=current.alive,
        chunk_rows=current.chunk_rows,
    )


def _is_there_already(name: str, definition: Definition) -> bool:
    column, kind = definition.marker
    found = execute(
        "SELECT type FROM system.columns WHERE database = currentDatabase()"
        f" AND table = {literal(name)} AND name = {literal(column)}"
    )
    if not exists(name):
        raise StorageError(
            f"Table {name} is missing, though an earlier migration made it.",
            remedy="Run `jts-storage migrate stamp base --store clickhouse`, then `migrate up`:"
            " what is there is kept.",
        )
    return [tuple(row) for row in found] == [(kind,)]


def _free_name(name: str) -> str:
    number = 1
    while exists(kept := f"{name}{KEPT}" + (f"_{number}" if number > 1 else "")):
        number += 1
    return kept


def _journal(name: str) -> str:
    return f"{name}_copied"


def _print_replacement(name: str, definition: Definition, copy: Copy) -> None:
    new = f"{name}{_NEW}"
    for statement in definition.statements(new, name, run().cluster):
        execute(statement)
    execute(copy.insert(name, new))
    execute(copy.comparison(name, new))
    execute("-- go on only if that found nothing")
    execute(f"EXCHANGE TABLES {name} AND {new}{{on_cluster}}")
    execute(f"RENAME TABLE {new} TO {name}{KEPT}{{on_cluster}}")
