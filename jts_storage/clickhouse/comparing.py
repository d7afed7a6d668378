"""How one table differs from its model, and what makes it agree.

What mends a difference is text, since a person runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from jts_storage.clickhouse.create_texts import (
    COLUMN_PARTS,
    ColumnText,
    TableText,
    items,
)
from jts_storage.clickhouse.rebuilding import NOT_STORED, is_wider, key_of, version_of
from jts_storage.clickhouse.renames import renamed_columns
from jts_storage.ports.schema import NOTHING, Difference

STORE: Final = "clickhouse"

REBUILD: Final = (
    "jts-storage migrate down --chain kit --store clickhouse --to 0001"
    " && jts-storage migrate up --store clickhouse"
)
"""What makes a table anew on a cluster; elsewhere another remedy takes its place."""

LIMITS: Final = (
    "parts_to_delay_insert",
    "parts_to_throw_insert",
    "inactive_parts_to_delay_insert",
    "inactive_parts_to_throw_insert",
    "max_parts_in_total",
    "number_of_mutations_to_throw",
    "table_readonly",
)
"""Settings of a table that make ClickHouse refuse or delay writes. 0 stands for no limit."""

_REPLICATED = re.compile(r"(Replicated\w+\()'[^']*', '[^']*'(?:, )?")
_DISTRIBUTED = re.compile(r"Distributed\('?([^',]+)'?, [^,]+, '?([^',]+)'?")
_EXPIRED: Final = "What has expired by it is gone already: restore or import it afterwards."


def compare(
    name: str, wanted: TableText, found: TableText, *, limits: Mapping[str, int] | None = None
) -> Iterator[Difference]:
    """How one table differs.

    :param limits: what the server has for `LIMITS`, if that is to be compared.
    """
    if found.is_view:
        yield Difference(STORE, name, "table", "a table", "a view", REBUILD)
        return
    yield from _compare_columns(name, wanted, found)
    yield from _compare_order(name, wanted, found)
    yield from _compare_extras(name, wanted, found)
    yield from _compare_clauses(name, wanted, found)
    yield from _compare_settings(name, wanted, found, limits or {})


def _compare_columns(name: str, wanted: TableText, found: TableText) -> Iterator[Difference]:
    renamed = renamed_columns(wanted, found)
    # ClickHouse alters nothing of these.
    fixed = {*key_of(wanted), version_of(wanted)}
    for position, (column, expected) in enumerate(wanted.columns.items()):
        actual, is_fixed = found.columns.get(column), column in fixed
        place = _position(list(wanted.columns), position)
        if column in renamed:
            yield _renamed(name, column, renamed[column], expected, place, is_fixed=is_fixed)
        elif actual is None:
            yield _lacking(name, column, expected, place, is_fixed=is_fixed)
        elif apart := list(_column_parts(name, column, expected, actual, is_fixed=is_fixed)):
            yield _as_one(f"{name}.{column}", apart, expected, actual)
    for column, surplus in found.columns.items():
        if column not in wanted.columns and column not in renamed.values():
            yield _surplus(name, column, surplus, wanted, found)


def _renamed(
    name: str, column: str, actual: str, expected: ColumnText, place: str, *, is_fixed: bool
) -> Difference:
    alter, definition = f"ALTER TABLE {name}", f"{column} {expected.definition}"
    mend = f"{alter} RENAME COLUMN {actual} TO {column}; {alter} MODIFY COLUMN {definition}{place}"
    warning = (
        f"{actual} is taken for {column} under another name, and keeps its values. If it is another"
        f" column: {alter} ADD COLUMN {definition}{place}."
    )
    mend = REBUILD if is_fixed else mend
    return Difference(STORE, f"{name}.{column}", "column", column, actual, mend, warning)


def _lacking(
    name: str, column: str, expected: ColumnText, place: str, *, is_fixed: bool
) -> Difference:
    mend = f"ALTER TABLE {name} ADD COLUMN {column} {expected.definition}{place}"
    warning = (
        "Values that it had went with it: rows get the default. Restore or import them afterwards."
    )
    return Difference(
        STORE,
        f"{name}.{column}",
        "column",
        expected.definition,
        NOTHING,
        REBUILD if is_fixed else mend,
        warning,
    )


def _surplus(
    name: str, column: str, surplus: ColumnText, wanted: TableText, found: TableText
) -> Difference:
    mend, warning = f"ALTER TABLE {name} DROP COLUMN {column}", ""
    if key_of(wanted) and not NOT_STORED & surplus.parts.keys():
        beside = [each for each in (*key_of(wanted), "version") if each in found.columns]
        kept = f"{name}_{column}"
        chosen = ", ".join(dict.fromkeys([*beside, column]))
        mend = (
            f"CREATE TABLE {kept} ENGINE = MergeTree ORDER BY tuple()"
            f" AS SELECT {chosen} FROM {name}; {mend}"
        )
        warning = f"Its values go with it: {kept} keeps them until somebody drops it."
    return Difference(
        STORE, f"{name}.{column}", "column", NOTHING, surplus.definition, mend, warning
    )


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
    name: str, column: str, expected: ColumnText, actual: ColumnText, *, is_fixed: bool
) -> Iterator[Difference]:
    alter = f"ALTER TABLE {name} MODIFY COLUMN {column}"
    where, mend = f"{name}.{column}", f"{alter} {expected.definition}"
    if expected.type != actual.type:
        in_place = is_wider(expected, actual) and not is_fixed
        remedy = mend if in_place else REBUILD
        yield Difference(STORE, where, "type", expected.type, actual.type, remedy)
    for part in COLUMN_PARTS:
        should, has = expected.parts.get(part, NOTHING), actual.parts.get(part, NOTHING)
        if should == has:
            continue
        mending = f"{alter} REMOVE {part}" if should == NOTHING else mend
        if part == "STATISTICS" and should == NOTHING:
            mending = f"ALTER TABLE {name} DROP STATISTICS {column}"
        warning = _EXPIRED if part == "TTL" else ""
        yield Difference(STORE, where, part.lower(), should, has, mending, warning)


def _as_one(
    where: str, apart: list[Difference], expected: ColumnText, actual: ColumnText
) -> Difference:
    """A column is one thing, whatever of it differs: another type often brings another codec."""
    if len(apart) == 1:
        return apart[0]
    what = " and ".join(each.what for each in apart)
    mend = "; ".join(dict.fromkeys(each.remedy for each in apart))
    warning = " ".join(filter(None, (each.warning for each in apart)))
    return Difference(STORE, where, what, expected.definition, actual.definition, mend, warning)


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
        mend = REBUILD
        if clause == "TTL":
            mend = f"ALTER TABLE {name} " + (
                "REMOVE TTL" if should == NOTHING else f"MODIFY TTL {should}"
            )
        warning = _EXPIRED if clause == "TTL" else ""
        yield Difference(STORE, name, label, should, has, mend, warning)


def _compare_settings(
    name: str, wanted: TableText, found: TableText, limits: Mapping[str, int]
) -> Iterator[Difference]:
    """Compare what the kit relies on, and what refuses writes; the rest is each server's own."""
    has_settings = _settings(found.clauses.get("SETTINGS", ""))
    for setting, value in _settings(wanted.clauses.get("SETTINGS", "")).items():
        has = has_settings.pop(setting, "the server's default")
        if has != value:
            mend = f"ALTER TABLE {name} MODIFY SETTING {setting} = {value}"
            yield Difference(STORE, name, f"setting {setting}", value, has, mend)
    for setting, usual in limits.items():
        has = has_settings.get(setting, "")
        if has.isdigit() and _is_stricter(setting, int(has), usual):
            mend = f"ALTER TABLE {name} RESET SETTING {setting}"
            yield Difference(STORE, name, f"setting {setting}", str(usual), has, mend)


def _is_stricter(setting: str, value: int, usual: int) -> bool:
    if setting == "table_readonly":
        return value > usual
    return value > 0 and (usual == 0 or value < usual)


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
