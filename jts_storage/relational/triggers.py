"""Triggers on the tables of the bookkeeping, which may change or refuse what the kit writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, MetaData, Select, column, func, select, table

from jts_storage.ports.schema import NOTHING, TRIGGER, Difference

_STORE: Final = "relational"

_SQLITE: Final = table("sqlite_master", column("type"), column("name"), column("tbl_name"))
_POSTGRES: Final = table(
    "triggers",
    *map(column, ("trigger_name", "event_object_table", "event_object_schema")),
    schema="information_schema",
)


def triggers(connection: Connection, metadata: MetaData) -> Iterator[Difference]:
    """Return a note for each: whoever made one knows why."""
    names = list(metadata.tables)
    is_sqlite = connection.dialect.name == "sqlite"
    query = _of_sqlite(names) if is_sqlite else _of_postgres(names)
    for name, trigger in connection.execute(query):
        drop = f"DROP TRIGGER {trigger}" if is_sqlite else f"DROP TRIGGER {trigger} ON {name}"
        yield Difference(
            _STORE,
            f"{name}.{trigger}",
            TRIGGER,
            NOTHING,
            "a trigger that runs at writes of the kit",
            drop,
            "It can change what is written, and a write fails with it. Keep its text.",
            is_note=True,
        )


def _of_sqlite(names: list[str]) -> Select[Any]:
    c = _SQLITE.c
    return (
        select(c.tbl_name, c.name)
        .where(c.type == "trigger", c.tbl_name.in_(names))
        .order_by(c.tbl_name, c.name)
    )


def _of_postgres(names: list[str]) -> Select[Any]:
    c = _POSTGRES.c
    here = c.event_object_schema == func.current_schema()
    # One line for each event that fires it.
    return (
        select(c.event_object_table, c.trigger_name)
        .where(here, c.event_object_table.in_(names))
        .distinct()
        .order_by(c.event_object_table, c.trigger_name)
    )
