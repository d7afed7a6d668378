"""The run that a ClickHouse migration is part of, and how it sends its statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jts_storage.migrate.copying import Execute, count_rows, table_names
from jts_storage.migrate.reports import Report, to_log

RUN_OPTION: Final = "jts_run"


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


def run() -> Run:
    """The run that the migration is part of."""
    from alembic import op

    found = op.get_context().opts[RUN_OPTION]
    assert isinstance(found, Run)
    return found


def execute(sql: str, *, settings: Mapping[str, Any] | None = None) -> Any:
    """Send a statement, or print it; ``{on_cluster}`` in it becomes what the run needs."""
    sql = sql.replace("{on_cluster}", run().on_cluster)
    send = run().execute
    if send is None:
        from alembic import op

        op.execute(sql)
        return []
    return send(sql, settings=settings)


def exists(name: str) -> bool:
    return name in table_names(execute)


def count(source: str) -> int:
    return count_rows(execute, source)
