"""What live tables should be, against what they are.

Alembic sees neither engine, sort key, partition key nor codec here. So both sides are read from
the same kind of text: the CREATE of the models, and the one that the server keeps of each table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import MetaData, select
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import ddl_of, text_of
from jts_storage.clickhouse.create_texts import (
    COLUMN_PARTS,
    ColumnText,
    TableText,
    items,
    parse,
)
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.tables import build, table_of
from jts_storage.models.tables import TableModel
from jts_storage.ports.schema import NOTHING, THERE, Difference

STORE: Final = "clickhouse"

_REPLICATED = re.compile(r"(Replicated\w+\()'[^']*', '[^']*'(?:, )?")
_DISTRIBUTED = re.compile(r"Distributed\('?([^',]+)'?, [^,]+, '?([^',]+)'?")
_REBUILD: Final = (
    "jts-storage migrate down --chain kit --store clickhouse --to 0001"
    " && jts-storage migrate up --store clickhouse"
)
_REMAKE: Final = (
    "jts-storage migrate stamp base --chain kit --store clickhouse"
    " && jts-storage migrate up --store clickhouse"
)


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
    expected = texts_of(build(cluster, partition_by_year=partition_by_year).metadata)
    declared = MetaData()
    for model in models:
        table_of(model, declared, cluster)
    remade = {table.name: ddl_of(CreateTable(table)) for table in declared.sorted_tables}
    expected |= texts_of(declared)
    c = system.tables.c
    query = select(c.name, c.create_table_query).where(
        system.is_here(system.tables), c.name.in_(expected)
    )
    rows = manager.execute(text_of(query))
    actual = {str(name): parse(text) for name, text in rows}
    return [
        difference
        for name, wanted in expected.items()
        for difference in compare(name, wanted, actual.get(name), remade.get(name, _REMAKE))
    ]


def texts_of(metadata: MetaData) -> dict[str, TableText]:
    """Return what the models say of each table."""
    return {table.name: parse(ddl_of(CreateTable(table))) for table in metadata.sorted_tables}


def compare(
    name: str, wanted: TableText, found: TableText | None, remake: str = _REMAKE
) -> Iterator[Difference]:
    """How one table differs; None means that there is none.

    :param remake: what makes it.
    """
    if found is None:
        yield Difference(STORE, name, "table", THERE, NOTHING, remake)
        return
    yield from _compare_columns(name, wanted, found)
    yield from _compare_order(name, wanted, found)
    yield from _compare_extras(name, wanted, found)
    yield from _compare_clauses(name, wanted, found)


# ---- comparing; what mends a difference is text, since a person runs it


def _compare_columns(name: str, wanted: TableText, found: TableText) -> Iterator[Difference]:
    for position, (column, expected) in enumerate(wanted.columns.items()):
        where = f"{name}.{column}"
        actual = found.columns.get(column)
        if actual is None:
            mend = f"ALTER TABLE {name} ADD COLUMN {column} {expected.definition}"
            mend += _position(list(wanted.columns), position)
            yield Difference(STORE, where, "column", expected.definition, NOTHING, mend)
            continue
        if apart := list(_column_parts(name, column, expected, actual)):
            yield _as_one(where, apart, expected, actual)
    for column, surplus in found.columns.items():
        if column not in wanted.columns:
            mend = f"ALTER TABLE {name} DROP COLUMN {column}"
            yield Difference(STORE, f"{name}.{column}", "column", NOTHING, surplus.definition, mend)


def _compare_order(name: str, wanted: TableText, found: TableText) -> Iterator[Difference]:
    """Compare the order too: statements that people write by hand often name no columns."""
    should = [column for column in wanted.columns if column in found.columns]
    has = [column for column in found.columns if column in wanted.columns]
    if should == has:
        return
    moves, order = [], list(has)
    for position, column in enumerate(should):
        if order[position] != column:
            order.remove(column)
            order.insert(position, column)
            definition = wanted.columns[column].definition
            moves.append(f"MODIFY COLUMN {column} {definition}{_position(should, position)}")
    mend = f"ALTER TABLE {name} {', '.join(moves)}"
    yield Difference(STORE, name, "column order", ", ".join(should), ", ".join(has), mend)


def _position(columns: list[str], position: int) -> str:
    return f" AFTER {columns[position - 1]}" if position else " FIRST"


def _column_parts(
    name: str, column: str, expected: ColumnText, actual: ColumnText
) -> Iterator[Difference]:
    alter = f"ALTER TABLE {name} MODIFY COLUMN {column}"
    where, mend = f"{name}.{column}", f"{alter} {expected.definition}"
    if expected.type != actual.type:
        yield Difference(STORE, where, "type", expected.type, actual.type, mend)
    for part in COLUMN_PARTS:
        should, has = expected.parts.get(part, NOTHING), actual.parts.get(part, NOTHING)
        if should != has:
            mending = f"{alter} REMOVE {part}" if should == NOTHING else mend
            yield Difference(STORE, where, part.lower(), should, has, mending)


def _as_one(
    where: str, apart: list[Difference], expected: ColumnText, actual: ColumnText
) -> Difference:
    """A column is one thing, whatever of it differs: another type often brings another codec."""
    if len(apart) == 1:
        return apart[0]
    what = " and ".join(each.what for each in apart)
    mend = "; ".join(dict.fromkeys(each.remedy for each in apart))
    return Difference(STORE, where, what, expected.definition, actual.definition, mend)


def _compare_extras(name: str, wanted: TableText, found: TableText) -> Iterator[Difference]:
    for extra in sorted(wanted.extras.keys() | found.extras.keys()):
        kind, _, title = extra.partition(" ")
        should, has = wanted.extras.get(extra, NOTHING), found.extras.get(extra, NOTHING)
        if should == has:
            continue
        mend = (
            f"ALTER TABLE {name} DROP {kind.upper()} {title}"
            if should == NOTHING
            else f"ALTER TABLE {name} ADD {kind.upper()} {title} {should}"
        )
        yield Difference(STORE, f"{name}.{title}", kind, should, has, mend)


def _compare_clauses(name: str, wanted: TableText, found: TableText) -> Iterator[Difference]:
    for clause, label in (
        ("ENGINE =", "engine"),
        ("ORDER BY", "order by"),
        ("PARTITION BY", "partition by"),
        ("PRIMARY KEY", "primary key"),
        ("SAMPLE BY", "sample by"),
        ("TTL", "ttl"),
    ):
        should = _canonical(clause, wanted.clauses.get(clause, NOTHING))
        has = _canonical(clause, found.clauses.get(clause, NOTHING))
        if should == has:
            continue
        mend = _REBUILD
        if clause == "TTL":
            mend = f"ALTER TABLE {name} " + (
                "REMOVE TTL" if should == NOTHING else f"MODIFY TTL {should}"
            )
        yield Difference(STORE, name, label, should, has, mend)
    # Only what the kit relies on: the rest may be set as each server likes.
    has_settings = _settings(found.clauses.get("SETTINGS", ""))
    for setting, value in _settings(wanted.clauses.get("SETTINGS", "")).items():
        has = has_settings.get(setting, "the server's default")
        if has != value:
            mend = f"ALTER TABLE {name} MODIFY SETTING {setting} = {value}"
            yield Difference(STORE, name, f"setting {setting}", value, has, mend)


def _canonical(clause: str, text: str) -> str:
    if clause == "ENGINE =":
        text = text.removesuffix("()")
        # Where replicas meet is each cluster's own business.
        text = _REPLICATED.sub(r"\1", text)
        return _DISTRIBUTED.sub(r"Distributed(\1, _, \2", text)
    if clause in {"ORDER BY", "PRIMARY KEY"} and text.startswith("(") and "," not in text:
        return text[1:-1]
    return text


def _settings(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in items(text))
    return {name.strip(): value.strip() for name, _, value in pairs if name}
