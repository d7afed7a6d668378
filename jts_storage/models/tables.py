"""Declared tables: what an entity is, the table that holds it, and the mapping between both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

import pyarrow as pa
from sqlalchemy import DateTime, Float, Numeric, Table

from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.models.columns import (
    Row,
    digest,
    key_of,
    rows_of,
    schema_of,
    table_of,
    version_of,
)
from jts_storage.models.mapper import Mapper
from jts_storage.models.names import BASE as BASE
from jts_storage.models.names import GONE, check_names
from jts_storage.models.names import READ as READ
from jts_storage.models.round_trip import check_money, check_round_trip
from jts_storage.models.table_repository import RecordRepository, TableRepository, TableSource

E = TypeVar("E")
R = TypeVar("R")

Mode: TypeAlias = Literal["append", "upsert"]
TableMode: TypeAlias = Literal["append", "upsert", "record"]
TableStore: TypeAlias = Literal["clickhouse", "database"]
RowMapper: TypeAlias = Mapper[E, Row]

DELETED = "is_deleted"
"""The column of an upsert table in which deletions are marked; without it nothing is deleted."""


class AnyTable(ABC, Generic[E]):
    """What `TableModel` and `RecordModel` have in common.

    :ivar name: of the table, and of the model.
    :ivar schema: the Arrow schema of what entities fill: every column but those the kit fills.
    :ivar key: the columns that name a row.
    :ivar examples: entities that the mapper was tried with.
    """

    store: TableStore
    mode: TableMode
    version: str

    def __init__(
        self,
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        key: Sequence[str],
        filled: Collection[str],
        examples: Iterable[E],
        floats: Collection[str],
    ) -> None:
        self.entity, self.table, self.mapper = entity, table, mapper
        self.name, self.key = table.name, _checked_key(table, key)
        check_names(table, ignoring_case=self.store == "database")
        whole = schema_of(table, by_type=self.store == "clickhouse")
        self.schema = pa.schema([field for field in whole if field.name not in filled])
        _check_sorted(self.schema, {*key, *self.sort_key})
        check_money(self.name, entity, _float_columns(self.schema), floats)
        self.examples = self._tried(examples)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def repository(self, source: Any) -> Any:
        """Make the repository of the model; each kind of model knows its type."""

    def to_columns(self, entities: Iterable[E]) -> pa.Table:
        """:raises InvalidData: naming the column and the row of a value that does not fit."""
        return table_of(map(self._row, entities), self.schema, f"a value of {self.name}")

    def from_columns(self, rows: pa.Table) -> list[E]:
        """:raises InvalidData: naming the row that cannot be read."""
        return [self.from_row(row) for row in rows_of(rows)]

    def from_row(self, row: Row) -> E:
        try:
            return self.mapper.from_stored(row)
        except (InvalidData, TypeError, ValueError, KeyError, ArithmeticError) as exc:
            named = ", ".join(str(row.get(column)) for column in self.key)
            raise InvalidData(f"cannot be read ({exc})", document=f"{self.name} {named}") from exc

    def key_of(self, entity: E) -> tuple[Any, ...]:
        return key_of(self._row(entity), self.key)

    @property
    def sort_key(self) -> tuple[str, ...]:
        """The columns in whose order rows are read."""
        return self.key

    @property
    def changes_schema(self) -> pa.Schema:
        """The schema of what a commit is to do with keys: rows, which may be without values."""
        fields = [
            field if field.name in self.key else field.with_nullable(True) for field in self.schema
        ]
        state = [(GONE, pa.bool_()), (BASE, pa.int64()), (READ, pa.string())]
        return pa.schema([*fields, *state])

    def changes_of(
        self, changes: Iterable[tuple[Sequence[Any], Row | None, Row | None]]
    ) -> pa.Table:
        """
        :param changes: of each key, its row or None where it is deleted, and the row that was read.
        """
        rows = [
            {
                **(row or dict(zip(self.key, key, strict=True))),
                GONE: row is None,
                BASE: version_of(before, self.version),
                READ: digest(before),
            }
            for key, row, before in changes
        ]
        return pa.Table.from_pylist(rows, self.changes_schema)

    def changes_to(self, rows: pa.Table) -> pa.Table:
        """What `changes_of` makes of rows of which nothing was read: each replaces its key's."""
        state = (pa.scalar(False), pa.scalar(0, pa.int64()), pa.scalar(""))
        added = [pa.repeat(value, rows.num_rows) for value in state]
        return pa.Table.from_arrays([*rows.columns, *added], schema=self.changes_schema)

    def _tried(self, examples: Iterable[E]) -> tuple[E, ...]:
        """:raises InvalidConfiguration: an entity comes back as another."""
        return tuple(check_round_trip(self.name, self.entity, self._there_and_back, examples))

    def _row(self, entity: E) -> Row:
        if not isinstance(entity, self.entity):
            raise InvalidData(
                f"must be a {self.entity.__name__}", field=self.name, value=type(entity).__name__
            )
        return self.mapper.to_stored(entity)

    def _there_and_back(self, entity: E) -> E:
        return self.from_columns(self.to_columns([entity]))[0]


class TableModel(AnyTable[E], Generic[E, R]):
    """A ClickHouse table of a service: rows are appended, or replaced by their key.

    The table is declared with its columns alone; its engine follows from the mode, on one server
    and on a cluster. It needs a column ``version`` of type UInt64, which the kit fills with the
    place of the commit: of two rows of a key the later commit's counts, and a commit that is
    finished after a crash writes nothing twice. An upsert table with a column ``is_deleted`` of
    type UInt8 can also delete.

    :param key: the columns that name a row; the table is sorted by them.
    :param order_by: the whole sort key, if it is more than the key.
    :param partition_by: a Core expression; without one a commit is a single part.
    :param repository: a subclass of `TableRepository` with the service's own queries.
    :param examples: entities that the mapper is tried with, beside those the kit makes itself.
    :param floats: columns that look like money and are meant to be floats all the same.
    :raises InvalidConfiguration: saying what is wrong with the declaration.
    """

    store: TableStore = "clickhouse"  # pyright would take an assignment alone for any text

    @overload
    def __init__(
        self: TableModel[E, TableRepository[E]],
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        *,
        mode: Mode,
        key: Sequence[str],
        order_by: Sequence[str] = ...,
        partition_by: Any = ...,
        version: str = ...,
        examples: Iterable[E] = ...,
        floats: Collection[str] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        *,
        mode: Mode,
        key: Sequence[str],
        order_by: Sequence[str] = ...,
        partition_by: Any = ...,
        version: str = ...,
        repository: type[R],
        examples: Iterable[E] = ...,
        floats: Collection[str] = ...,
    ) -> None: ...
    def __init__(
        self,
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        *,
        mode: Mode,
        key: Sequence[str],
        order_by: Sequence[str] = (),
        partition_by: Any = None,
        version: str = "version",
        repository: Any = TableRepository,
        examples: Iterable[E] = (),
        floats: Collection[str] = (),
    ) -> None:
        if mode not in ("append", "upsert"):
            raise InvalidConfiguration(
                f"the mode of {table.name} is {mode!r}", remedy='Say "append" or "upsert".'
            )
        self.mode = mode
        self.version = version
        _checked_key(table, key)
        self.order_by = tuple(order_by or key)
        self.partition_by = partition_by
        self.deletes = mode == "upsert" and DELETED in table.columns
        self._check_table(table, key)
        filled = {version, DELETED} if self.deletes else {version}
        super().__init__(entity, table, mapper, key, filled, examples, floats)
        self._repository = repository

    @property
    def sort_key(self) -> tuple[str, ...]:
        return self.order_by

    def repository(self, source: TableSource) -> R:
        return cast("R", self._repository(self, source))

    def _check_table(self, table: Table, key: Sequence[str]) -> None:
        if getattr(table, "engine", None) is not None:
            raise InvalidConfiguration(
                f"table {table.name} names an engine",
                remedy="Leave it out: it follows from the mode, also on a cluster.",
            )
        if self.version not in table.columns:
            raise InvalidConfiguration(
                f"table {table.name} has no column {self.version!r}, by which the later of two"
                " writes is known",
                remedy=f'Add Column("{self.version}", types.UInt64).',
            )
        outside = [name for name in key if name not in self.order_by]
        if outside:
            raise InvalidConfiguration(
                f"key column {outside[0]!r} of {table.name} is not in the sort key"
                f" ({', '.join(self.order_by)})",
                remedy="Sort the table by its key first.",
            )
        _checked_key(table, self.order_by)
        if self.mode == "upsert" and set(self.order_by) != set(key):
            raise InvalidConfiguration(
                f"table {table.name} replaces rows by its sort key"
                f" ({', '.join(self.order_by)}), and its key is {', '.join(key)}",
                remedy="An upsert table is sorted by its key and nothing else.",
            )


class RecordModel(AnyTable[E], Generic[E, R]):
    """A table of a service in the bookkeeping database, SQLite or PostgreSQL.

    Each record carries a version in its entity, 0 for one that is new: a save that read another
    version than is stored is a `Conflict`. Use `Exact` for money and `Moment` for times: SQLite
    itself has neither.

    :param key: the columns of the primary key.
    :param version: the column, and the entity's attribute, that holds the version.
    """

    store: TableStore = "database"
    mode: TableMode = "record"

    @overload
    def __init__(
        self: RecordModel[E, RecordRepository[E]],
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        *,
        key: Sequence[str],
        version: str = ...,
        examples: Iterable[E] = ...,
        floats: Collection[str] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        *,
        key: Sequence[str],
        version: str = ...,
        repository: type[R],
        examples: Iterable[E] = ...,
        floats: Collection[str] = ...,
    ) -> None: ...
    def __init__(
        self,
        entity: type[E],
        table: Table,
        mapper: RowMapper[E],
        *,
        key: Sequence[str],
        version: str = "version",
        repository: Any = RecordRepository,
        examples: Iterable[E] = (),
        floats: Collection[str] = (),
    ) -> None:
        self.version = version
        if [column.name for column in table.primary_key] != list(key):
            raise InvalidConfiguration(
                f"the primary key of table {table.name} is not {', '.join(key)}",
                remedy="Mark just these columns primary_key=True, in this order.",
            )
        if version not in table.columns:
            raise InvalidConfiguration(
                f"table {table.name} has no column {version!r}",
                remedy=f'Add Column("{version}", BigInteger, nullable=False).',
            )
        for column in table.primary_key:
            if column.autoincrement == "auto":
                column.autoincrement = False  # PostgreSQL would make an integer of money, too
        for column in table.columns:
            inexact = isinstance(column.type, Numeric | DateTime) and not isinstance(
                column.type, Float
            )
            if inexact:
                raise InvalidConfiguration(
                    f"column {table.name}.{column.key} is a {type(column.type).__name__}, which"
                    " SQLite does not keep exactly",
                    remedy="Use Exact for money and Moment for times.",
                )
        super().__init__(entity, table, mapper, key, (), examples, floats)
        self._repository = repository

    def as_saved(self, entity: E, version: int) -> E:
        """The entity as it is read under a version."""
        return self.from_row({**self._row(entity), self.version: version})

    def repository(self, source: TableSource) -> R:
        return cast("R", self._repository(self, source))


def _checked_key(table: Table, key: Sequence[str]) -> tuple[str, ...]:
    if isinstance(key, str) or not key:
        raise InvalidConfiguration(
            f"the key of {table.name} is {key!r}", remedy='Name its columns: key=("symbol",).'
        )
    unknown = [name for name in key if name not in table.columns]
    if unknown:
        raise InvalidConfiguration(
            f"table {table.name} has no column {unknown[0]!r}",
            remedy=f"It has {', '.join(table.columns.keys())}.",
        )
    return tuple(key)


def _check_sorted(schema: pa.Schema, names: set[str]) -> None:
    """:raises InvalidConfiguration: a column that rows are sorted by may be empty."""
    for name in sorted(names & set(schema.names)):
        if schema.field(name).nullable:
            raise InvalidConfiguration(
                f"column {name!r}, by which rows are sorted, may be empty",
                remedy="Leave out Nullable there, or leave the column out of the key.",
            )


def _float_columns(schema: pa.Schema) -> set[str]:
    return {field.name for field in schema if pa.types.is_floating(field.type)}
