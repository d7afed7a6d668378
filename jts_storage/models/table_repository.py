"""The repositories of declared tables, which a service may subclass for its own queries."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pyarrow as pa
from sqlalchemy import ColumnElement
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.visitors import iterate

from jts_storage.domain import checks
from jts_storage.errors import InvalidData, StorageError
from jts_storage.models.columns import rows_of, table_of
from jts_storage.models.conditions import Where, behind, checked, has_text, of_key
from jts_storage.models.given import as_columns
from jts_storage.models.guarded import GuardedColumns

if TYPE_CHECKING:
    from jts_storage.models.tables import AnyTable, RecordModel, TableModel

E = TypeVar("E")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TableQuery:
    """What rows of a declared table are wanted, in order of its key.

    :param columns: their keys; all that entities fill if None.
    :param key: of the only row that is wanted.
    :param strict: raise for a stored value that cannot be converted; else its row is left out.
    """

    where: ColumnElement[bool] | None = None
    columns: tuple[str, ...] | None = None
    descending: bool = False
    limit: int | None = None
    key: tuple[Any, ...] | None = None
    strict: bool = True

    def condition(self, model: AnyTable[Any]) -> ColumnElement[bool] | None:
        return self.where if self.key is None else of_key(model.table, model.key, self.key)


class StoredTable(Protocol):
    """The committed rows of a table."""

    async def read(self, query: TableQuery) -> pa.Table: ...

    def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]: ...


class TableSource(StoredTable, Protocol):
    """Where a repository's rows are: stored, or in a unit of work laid over what is stored."""

    async def append(self, rows: pa.Table) -> None: ...

    async def put(self, rows: pa.Table) -> pa.Table:
        """Replace rows by their key; the same rows, with the versions that records get."""
        ...

    async def remove(self, key: Sequence[Any]) -> bool: ...


class ReadOnly:
    """What is stored, as a storage gives it outside of any unit of work."""

    def __init__(self, stored: StoredTable) -> None:
        self._stored = stored
        self.read = stored.read
        self.stream = stored.stream

    async def append(self, rows: pa.Table) -> None:
        raise not_in_a_unit_of_work()

    async def put(self, rows: pa.Table) -> pa.Table:
        raise not_in_a_unit_of_work()

    async def remove(self, key: Sequence[Any]) -> bool:
        raise not_in_a_unit_of_work()


def not_in_a_unit_of_work() -> StorageError:
    return StorageError(
        "What a storage gives reads what is committed, and writes nothing.",
        remedy="Write in a unit of work: uow.repository(model), or uow.symbols.",
    )


def several(entities: Iterable[E], model: AnyTable[E]) -> Iterable[E]:
    """:raises InvalidData: it is one entity."""
    if not isinstance(entities, Iterable):
        raise InvalidData(
            "must be several", field=model.name, value=entities, remedy="Give a list."
        )
    return entities


class _Reading(Generic[E]):
    """What all repositories of tables read."""

    _model: AnyTable[E]
    _source: TableSource

    async def read(
        self,
        *,
        where: Where | None = None,
        columns: Sequence[str] | None = None,
        descending: bool = False,
        limit: int | None = None,
        strict: bool = False,
    ) -> pa.Table:
        """Whole columns, exact, in order of the key.

        Rows that hold what a column cannot are left out, logged and counted by `health`; with a
        limit, others take their places.

        :param where: a condition on the columns: ``where=lambda c: c.price > 5``.
        :param columns: their keys, if not all.
        :param strict: raise `InvalidData` for such a row, in place of leaving it out.
        """
        named = None if columns is None else tuple(columns)
        for name in named or ():
            if name not in self._model.schema.names:
                raise InvalidData(
                    f"{self._model.name} has no such column",
                    field=name,
                    remedy=f"It has {', '.join(self._model.schema.names)}.",
                )
        if limit is not None:
            checks.whole(limit, "limit", below=2**31)
        condition = self._condition(where)
        query = TableQuery(condition, named, descending, limit, strict=strict)
        return await self._source.read(query)

    async def list(
        self,
        *,
        where: Where | None = None,
        descending: bool = False,
        limit: int = 1_000,
        after: Sequence[Any] | None = None,
        strict: bool = False,
    ) -> Sequence[E]:
        """Entities in order of the key. Rows that cannot be read are left out and logged.

        :param after: the key of the last entity of the page before, where keys ascend.
        :param strict: raise for a row that cannot be read.
        """
        model = self._model
        condition = self._condition(where)
        if after is not None:
            if descending or model.mode == "append":
                raise InvalidData(
                    f"pages of {model.name} cannot go on after a key",
                    field="after",
                    remedy="Name the range in `where`.",
                )
            rest = behind(model.table, model.key, self._key(after))
            condition = rest if condition is None else condition & rest
        checks.whole(limit, "limit", below=2**31)
        query = TableQuery(condition, None, descending, limit, strict=strict)
        if strict:
            return model.from_columns(await self._source.read(query))
        return await self._readable(query, limit)

    async def stream(
        self,
        *,
        where: Where | None = None,
        block_rows: int = 262_144,
        strict: bool = False,
    ) -> AsyncIterator[pa.Table]:
        """The rows in blocks of at most so many, in constant memory.

        :param strict: raise for a row that cannot be read; else it is left out, as in `read`.
        """
        checks.whole(block_rows, "block_rows", least=1)
        condition = self._condition(where)
        async for block in self._source.stream(TableQuery(condition, strict=strict), block_rows):
            yield block

    async def _readable(self, query: TableQuery, limit: int) -> Sequence[E]:
        """Up to `limit` entities; others take the places of rows that are none."""
        model, asked = self._model, limit
        while True:
            rows = await self._source.read(replace(query, limit=asked))
            found = _readable(model, rows)
            if len(found) >= limit or rows.num_rows < asked:
                return found[:limit]
            asked *= 2

    def _condition(self, where: Where | None) -> ColumnElement[bool] | None:
        if where is None:
            return None
        try:
            columns = GuardedColumns(self._model.table)
            condition = columns.complete(where(columns))
        # Such as a column that is compared with None by <, or has_text joined by `and`.
        except (ArgumentError, AttributeError, TypeError, UnicodeError) as exc:
            raise InvalidData(
                f"is no condition: {exc}",
                field="where",
                remedy='Give a function of the columns: lambda c: c.symbol == "005930".',
            ) from exc
        if self._model.store == "database" and any(map(_asks_for_text, iterate(condition))):
            raise InvalidData(
                f"{self._model.name} is not searched by has_text",
                field="where",
                remedy="SQLite and PostgreSQL disagree on capitals: compare with ==.",
            )
        return checked(condition, self._model.schema)

    def _key(self, values: Any) -> tuple[Any, ...]:
        is_several = isinstance(values, Sequence) and not isinstance(values, str | bytes)
        key = tuple(values) if is_several else (values,)
        if len(key) != len(self._model.key):
            raise InvalidData(
                f"the key of {self._model.name} is {', '.join(self._model.key)}",
                field="key",
                value=values,
            )
        # As rows have it: a time in a zone equals no other in the hour that is repeated.
        named = dict(zip(self._model.key, key, strict=True))
        schema = pa.schema([self._model.schema.field(name) for name in named])
        (row,) = rows_of(table_of([named], schema, f"a key of {self._model.name}"))
        return tuple(row.values())

    async def _get(self, key: Sequence[Any]) -> E | None:
        model = self._model
        rows = await self._source.read(TableQuery(key=self._key(key)))
        return model.from_columns(rows)[0] if rows.num_rows else None

    async def _put(self, entities: Sequence[E]) -> Sequence[E]:
        saved = await self._source.put(self._model.to_columns(entities))
        return self._model.from_columns(saved)


def _readable(model: AnyTable[E], rows: pa.Table) -> list[E]:
    found: list[E] = []
    for row in rows_of(rows):
        try:
            found.append(model.from_row(row))
        except InvalidData as exc:
            log.warning("A row is left out of a list: %s", exc)
    return found


def _asks_for_text(element: Any) -> bool:
    return isinstance(element, has_text)


class TableRepository(_Reading[E]):
    """The rows of a `TableModel`.

    What a storage gives reads what is committed; writes belong to a unit of work.
    """

    def __init__(self, model: TableModel[E, Any], source: TableSource) -> None:
        self._model: TableModel[E, Any] = model
        self._source = source

    async def get(self, *key: Any) -> E | None:
        """The entity of a key, of a table whose rows are replaced by it."""
        self._check_mode("upsert")
        return await self._get(key)

    async def save(self, entity: E) -> E:
        return (await self.save_many([entity]))[0]

    async def save_many(self, entities: Iterable[E]) -> Sequence[E]:
        """Store entities in place of those of their keys; of equal keys the last counts."""
        self._check_mode("upsert")
        listed = list(several(entities, self._model))
        if listed:
            await self._source.put(self._model.to_columns(listed))
        return listed

    async def delete(self, *key: Any) -> bool:
        """Whether there was something to delete."""
        self._check_mode("upsert")
        if not self._model.deletes:
            raise InvalidData(
                f"{self._model.name} deletes nothing",
                remedy='Add Column("is_deleted", types.UInt8) to the table.',
            )
        return await self._source.remove(self._key(key))

    async def append(self, rows: Iterable[E] | Any) -> int:
        """Add rows; how many.

        :param rows: entities, or whole columns: an Arrow table, a Polars or pandas frame, or
            columns by name.
        """
        self._check_mode("append")
        model = self._model
        is_columns = isinstance(rows, Mapping) or hasattr(rows, "__arrow_c_stream__")
        if is_columns:
            table = as_columns(rows, model.schema, f"columns for {model.name}")
        else:
            table = model.to_columns(several(rows, model))
        if table.num_rows:
            await self._source.append(table)
        return int(table.num_rows)

    def _check_mode(self, mode: str) -> None:
        if self._model.mode != mode:
            raise InvalidData(
                f"{self._model.name} is a table of mode {self._model.mode!r}",
                remedy="Use append and read there."
                if mode == "upsert"
                else "Use save and save_many there.",
            )


class RecordRepository(_Reading[E]):
    """The rows of a `RecordModel`, each under an optimistic lock.

    What a storage gives reads what is committed; writes belong to a unit of work.
    """

    def __init__(self, model: RecordModel[E, Any], source: TableSource) -> None:
        self._model: RecordModel[E, Any] = model
        self._source = source

    async def get(self, *key: Any) -> E | None:
        return await self._get(key)

    async def save(self, entity: E) -> E:
        """Store an entity in place of what was read.

        :raises Conflict: somebody else changed it first.
        """
        return (await self._put([entity]))[0]

    async def save_many(self, entities: Iterable[E]) -> Sequence[E]:
        listed = list(several(entities, self._model))
        return await self._put(listed) if listed else []

    async def delete(self, *key: Any) -> bool:
        return await self._source.remove(self._key(key))
