"""What live tables should be, against what they are, by Alembic's own comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Dialect, MetaData, Table, inspect
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateColumn, CreateTable

from jts_storage.models.tables import RecordModel
from jts_storage.ports.schema import NOTHING, THERE, Difference
from jts_storage.relational.manager import DatabaseManager
from jts_storage.relational.tables import metadata
from jts_storage.relational.triggers import triggers

STORE: Final = "relational"

DatabaseKind: TypeAlias = Literal["sqlite", "postgresql"]

_REMAKE: Final = (
    "jts-storage migrate stamp base --chain kit --store relational"
    " && jts-storage migrate up --store relational"
)

_LOST: Final = (
    "Values that it had went with it, or it was renamed: then rename it back instead. Where rows"
    " are and it may not be null, give it a DEFAULT in the same statement."
)


async def differences(
    manager: DatabaseManager,
    models: Iterable[RecordModel[Any, Any]] = (),
    told_for: DatabaseKind | None = None,
) -> list[Difference]:
    """Compare the tables of the bookkeeping with the models; other tables are ignored.

    :param models: of services, beside the kit's own.
    :param told_for: the database whose statements are to be told, if it is not this one.
    """
    wanted = MetaData()
    for table in (*metadata.sorted_tables, *(model.table for model in models)):
        table.to_metadata(wanted)
    async with manager.connection() as connection:
        told = None if told_for is None else registry.load(told_for)()
        return await connection.run_sync(_compare, wanted, told)


def _compare(connection: Connection, metadata: MetaData, told: Dialect | None) -> list[Difference]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in metadata.tables

    context = MigrationContext.configure(
        connection,
        opts={"compare_type": True, "compare_server_default": _other_default, "include_name": ours},
    )
    # Alembic puts the alterations of one column into a list.
    changes = [
        each
        for change in compare_metadata(context, metadata)
        for each in (change if isinstance(change, list) else [change])
    ]
    dialect = told or connection.dialect
    renamed, rest = _renamed(dialect, changes)
    found = [*renamed, *(_difference(dialect, change) for change in rest)]
    return [*found, *_primary_keys(connection, metadata), *triggers(connection, metadata)]


def _other_default(
    context: Any, inspected: Any, column: Any, has: str | None, default: Any, should: str | None
) -> bool | None:
    """Alembic takes SQLite's empty text for an expression in brackets; the rest is left to it."""
    if has is None or should is None:
        return None
    return False if has.strip("()'") == should.strip("()'") else None


def _renamed(
    dialect: Dialect, changes: list[tuple[Any, ...]]
) -> tuple[list[Difference], list[tuple[Any, ...]]]:
    """Find columns that are there under another name; and the changes that are something else.

    A missing column and a surplus one are one where a table has a single such pair of a type.
    """
    found: list[Difference] = []
    rest = list(changes)

    def of_type(kind: str, like: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        wanted = (str(like[2]), like[3].type.compile(dialect))
        columns = [each for each in changes if each[0] == kind]
        return [c for c in columns if (str(c[2]), c[3].type.compile(dialect)) == wanted]

    for added in [each for each in changes if each[0] == "add_column"]:
        surplus = of_type("remove_column", added)
        if len(surplus) != 1 or len(of_type("add_column", added)) != 1:
            continue
        table, name, actual = added[2], added[3].name, surplus[0][3].name
        mend = f"ALTER TABLE {table} RENAME COLUMN {actual} TO {name}"
        warning = (
            f"{actual} is taken for {name} under another name, and keeps its values. If it is"
            f" another column: ALTER TABLE {table} ADD COLUMN {_definition(dialect, added[3])}."
        )
        found.append(Difference(STORE, f"{table}.{name}", "column", name, actual, mend, warning))
        rest = [each for each in rest if each is not added and each is not surplus[0]]
    return found, rest


def _difference(dialect: Dialect, change: tuple[Any, ...]) -> Difference:
    kind = change[0]
    if kind == "add_table":
        table = change[1]
        return Difference(STORE, table.name, "table", THERE, NOTHING, _made(dialect, table))
    if kind in {"add_column", "remove_column"}:
        _, _, table, column = change
        definition = _definition(dialect, column)
        where = f"{table}.{column.name}"
        if kind == "add_column":
            mend = f"ALTER TABLE {table} ADD COLUMN {definition}"
            return Difference(STORE, where, "column", definition, NOTHING, mend, _LOST)
        kept = f"{table}_{column.name}"
        mend = (
            f"CREATE TABLE {kept} AS SELECT * FROM {table};"
            f" ALTER TABLE {table} DROP COLUMN {column.name}"
        )
        warning = f"Its values go with it: {kept} keeps them until somebody drops it."
        return Difference(STORE, where, "column", NOTHING, definition, mend, warning)
    if kind.startswith("modify_"):
        _, _, table, column, _, has, should = change
        return _modified(dialect, kind, f"{table}.{column}", has, should)
    return _surplus(dialect, kind, change[1])


def _modified(dialect: Dialect, kind: str, where: str, has: Any, should: Any) -> Difference:
    table, _, column = where.partition(".")
    what = kind.removeprefix("modify_")
    show = {
        "type": lambda type_: str(type_.compile(dialect)),
        "nullable": lambda nullable: "NULL" if nullable else "NOT NULL",
        "default": _default_text,
    }.get(what, str)
    should, has = show(should), show(has)
    change = {
        "type": f"TYPE {should}",
        "nullable": "DROP NOT NULL" if should == "NULL" else "SET NOT NULL",
        "default": "DROP DEFAULT" if should == NOTHING else f"SET DEFAULT {should}",
    }.get(what, what)
    mend, warning = f"ALTER TABLE {table} ALTER COLUMN {column} {change}", ""
    if what == "type":
        kept = f"{table}_before"
        mend = f"CREATE TABLE {kept} AS SELECT * FROM {table}; {mend}"
        warning = f"Values may be rounded: {kept} keeps them until somebody drops it."
    if dialect.name == "sqlite":
        mend, warning = f'jts-storage migrate new "mend {where}" --store relational', ""
    return Difference(STORE, where, what, should, has, mend, warning)


def _surplus(dialect: Dialect, kind: str, thing: Any) -> Difference:
    """An index or a constraint that is there or missing."""
    verb, _, what = kind.partition("_")
    columns = ", ".join(column.name for column in getattr(thing, "columns", ()))
    where = f"{thing.table.name}.{thing.name or what}"
    if what == "index":
        mend = f"DROP INDEX {thing.name}"
    elif dialect.name == "sqlite":
        mend = f'jts-storage migrate new "mend {where}" --store relational'
    else:
        mend = f"ALTER TABLE {thing.table.name} DROP CONSTRAINT {thing.name}"
    text = f"({columns})"
    if verb == "add":
        return Difference(STORE, where, what, text, NOTHING, _REMAKE)
    return Difference(STORE, where, what, NOTHING, text, mend)


def _primary_keys(connection: Connection, metadata: MetaData) -> Iterator[Difference]:
    """Primary keys, which Alembic leaves out, and on which every upsert relies."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in present:
            continue
        should = [column.name for column in table.primary_key.columns]
        has = inspector.get_pk_constraint(table.name)["constrained_columns"]
        if should != has:
            mend = f'jts-storage migrate new "key of {table.name}" --store relational'
            yield Difference(
                STORE,
                table.name,
                "primary key",
                f"({', '.join(should)})",
                f"({', '.join(has)})" if has else NOTHING,
                mend,
            )


def _made(dialect: Dialect, table: Table) -> str:
    """What makes a table: the kit's migrations, or the statement for a service's own."""
    if table.name in metadata.tables:
        return _REMAKE
    return " ".join(str(CreateTable(table).compile(dialect=dialect)).split())


def _definition(dialect: Dialect, column: Any) -> str:
    return " ".join(str(CreateColumn(column).compile(dialect=dialect)).split())


def _default_text(default: Any) -> str:
    if default is None or default is False:
        return NOTHING
    argument = getattr(default, "arg", default)
    return str(getattr(argument, "text", argument)) or "''"
