"""Declared records of services in the bookkeeping database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    Insert,
    Select,
    and_,
    bindparam,
    delete,
    insert,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy.engine import Dialect, MappingResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from jts_storage.errors import Conflict, InvalidData
from jts_storage.models.columns import (
    Row,
    cannot_be_read,
    digest,
    in_blocks,
    keys_of,
    rows_of,
    table_of,
)
from jts_storage.models.names import BASE, GONE, READ
from jts_storage.models.table_repository import TableQuery
from jts_storage.models.tables import RecordModel
from jts_storage.relational.link import Link, ResultRows
from jts_storage.relational.manager import DatabaseManager
from jts_storage.relational.record_reads import RecordRead, compiled

AnyRecordModel = RecordModel[Any, Any]

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the conversion of a stored value raises; the kit's `InvalidData` is a ValueError, too."""

log = logging.getLogger(__name__)


class DeclaredRecords:
    """The rows of one model, each statement on a connection of its own."""

    def __init__(self, manager: DatabaseManager, model: AnyRecordModel) -> None:
        self.model = model
        self._manager = manager

    async def read(self, query: TableQuery) -> pa.Table:
        stored = await self._read_at_once(query) if self._manager.config.is_sqlite else None
        if stored is None:
            return await self._read_by_sqlalchemy(query)
        if self._manager.unreadable.count:
            self._mended(stored)
        return stored

    async def _read_at_once(self, query: TableQuery) -> pa.Table | None:
        """None where that cannot be, or something that was found cannot be converted."""
        model, dialect = self.model, self._manager.engine.dialect
        values: dict[str, Any] = {}
        if query.key is not None:
            asked, values = _by_key(model, dialect), dict(zip(model.key, query.key, strict=True))
        elif query.where is None:
            is_limited = query.limit is not None
            asked = _all(model, dialect, query.columns, query.descending, is_limited)
            values = {"limit": query.limit} if is_limited else {}
        else:
            asked = _compiled(model, query, dialect)
        if asked is None:
            return None
        try:
            statement = asked.statement(values)
        except UNREADABLE:
            return None

        async def work(link: Link) -> ResultRows:
            return await link.fetch(statement)

        rows = await self._manager.run(work, doing=f"reading {model.name}", repeat=True)
        try:
            return asked.table(rows)
        except UNREADABLE:
            return None

    async def _read_by_sqlalchemy(self, query: TableQuery) -> pa.Table:
        async with self._manager.connection() as connection:
            names = query.columns or self.model.schema.names
            try:
                stored = await _stored(connection, self.model, names, _select(self.model, query))
            except InvalidData:
                return await self._read_around(connection, query, names)
        if self._manager.unreadable.count:
            self._mended(stored)
        return stored

    async def _read_around(
        self, connection: AsyncConnection, query: TableQuery, names: Sequence[str]
    ) -> pa.Table:
        """Without the rows that cannot be read; others take their places where there is a limit."""
        limit = query.limit
        while True:
            asked = replace(query, limit=limit)
            rows, count = await self._read_each(connection, asked, names)
            is_full = query.limit is None or rows.num_rows >= query.limit
            if limit is None or is_full or count < limit:
                return rows.slice(0, query.limit)
            limit *= 2

    async def _read_each(
        self, connection: AsyncConnection, query: TableQuery, names: Sequence[str]
    ) -> tuple[pa.Table, int]:
        """Row by row, to tell which cannot be read; those that can, and how many there are.

        :raises InvalidData: naming the key of the first, where the query is strict.
        """
        model, c = self.model, self.model.table.c
        # As the driver has it: a key may be what cannot be converted.
        bare = [type_coerce(c[name], NullType()).label(name) for name in model.key]
        keys = (await connection.execute(_select(self.model, query).with_only_columns(*bare))).all()
        found = (await connection.execute(_select(self.model, query))).mappings()
        rows = [_read(model, names, [])]
        for key in map(tuple, keys):
            try:
                rows.append(_converted(model, names, found, one=True))
            except InvalidData as exc:
                if query.strict:
                    raise cannot_be_read(model.name, key, exc) from exc
                self._manager.unreadable.met(model.name, key, exc)
        return pa.concat_tables(rows), len(keys)

    def _mended(self, rows: pa.Table) -> None:
        for key in keys_of(rows, self.model.key):
            self._manager.unreadable.mended(self.model.name, key)

    async def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]:
        for block in in_blocks(await self.read(query), block_rows):
            yield block


def _select(model: AnyRecordModel, query: TableQuery) -> Select[Any]:
    c = model.table.c
    names = query.columns or model.schema.names
    statement = select(*(c[name].label(name) for name in names))
    condition = query.condition(model)
    if condition is not None:
        statement = statement.where(condition)
    order = [c[name].desc() if query.descending else c[name] for name in model.key]
    statement = statement.order_by(*order)
    return statement if query.limit is None else statement.limit(query.limit)


def _compiled(model: AnyRecordModel, query: TableQuery, dialect: Dialect) -> RecordRead | None:
    schema = pa.schema(map(model.schema.field, query.columns or model.schema.names))
    return compiled(_select(model, query), dialect, schema, _what(model))


@lru_cache(maxsize=256)
def _by_key(model: AnyRecordModel, dialect: Dialect) -> RecordRead | None:
    """What reads the record of a key; its parameters are called as the columns of the key."""
    its_key = and_(*(model.table.c[name] == bindparam(name) for name in model.key))
    return _compiled(model, TableQuery(its_key), dialect)


@lru_cache(maxsize=256)
def _all(
    model: AnyRecordModel,
    dialect: Dialect,
    columns: tuple[str, ...] | None,
    descending: bool,
    is_limited: bool,
) -> RecordRead | None:
    """What reads every record, or the first ones of the parameter `limit`."""
    limit: Any = bindparam("limit", type_=BigInteger()) if is_limited else None
    query = TableQuery(columns=columns, descending=descending, limit=limit)
    return _compiled(model, query, dialect)


async def _stored(
    connection: AsyncConnection, model: AnyRecordModel, names: Sequence[str], statement: Select[Any]
) -> pa.Table:
    found = await connection.execute(statement)
    return _converted(model, names, found.mappings())


def _converted(
    model: AnyRecordModel, names: Sequence[str], found: MappingResult, *, one: bool = False
) -> pa.Table:
    """What a statement found, or the next row of it.

    :raises InvalidData: a value is none of its column's type; SQLite keeps any in any column.
    """
    try:
        rows = found.fetchmany(1) if one else found.all()
    except UNREADABLE as exc:
        raise InvalidData(
            f"a stored value of {model.name} is none of its column's type: {exc}"
        ) from exc
    return _read(model, names, [dict(row) for row in rows])


def _read(model: AnyRecordModel, names: Sequence[str], rows: Sequence[Row]) -> pa.Table:
    schema = pa.schema(map(model.schema.field, names))
    return table_of(rows, schema, _what(model))


def _what(model: AnyRecordModel) -> str:
    return f"a stored value of {model.name}"


async def apply(connection: AsyncConnection, model: AnyRecordModel, changes: pa.Table) -> None:
    """Write what a unit of work makes of records, in order of their keys.

    :raises Conflict: one of them is not as it was read.
    """
    for change in _in_order(model, changes):
        if not await _apply(connection, model, change):
            shown = ", ".join(str(change[name]) for name in model.key)
            raise Conflict(
                f"{model.name} {shown} was changed by somebody else before this commit.",
                remedy="Read it again and repeat.",
            )


async def replay(connection: AsyncConnection, model: AnyRecordModel, changes: pa.Table) -> None:
    """As `apply`, but leave alone what somebody changed who does not look into the journal."""
    for change in _in_order(model, changes):
        if not await _apply(connection, model, change):
            kept = {name: change[name] for name in model.key}
            log.warning("A recovered commit found a later write and kept it.", extra={"kept": kept})


async def _apply(connection: AsyncConnection, model: AnyRecordModel, change: Row) -> bool:
    """Whether the record was as it was read, and is now what it was to become."""
    table, names = model.table, model.schema.names
    its_row = and_(*(table.c[name] == change[name] for name in model.key))
    # SQLite has no FOR UPDATE and leaves it out: there the transaction holds the file already.
    columns = (table.c[name].label(name) for name in names)
    statement = select(*columns).where(its_row).with_for_update()
    stored = await _stored(connection, model, names, statement)
    if digest(rows_of(stored)[0] if stored.num_rows else None) != change[READ]:
        return False
    values = {name: change[name] for name in names}
    if change[GONE]:
        await connection.execute(delete(table).where(its_row))
    elif change[BASE]:
        await connection.execute(update(table).where(its_row).values(values))
    else:
        return await _inserted(connection, insert(table).values(values), its_row)
    return True


async def _inserted(connection: AsyncConnection, statement: Insert, its_row: Any) -> bool:
    """False where another transaction has inserted the same key meanwhile."""
    try:
        async with connection.begin_nested():
            await connection.execute(statement)
    except IntegrityError:
        ask = select(literal(1)).select_from(statement.table).where(its_row)
        if (await connection.execute(ask)).first() is None:
            raise  # the row breaks another rule of the table
        return False
    return True


def _in_order(model: AnyRecordModel, changes: pa.Table) -> Sequence[Row]:
    """In one order, so that two commits never wait for each other."""
    rows: Iterable[Row] = rows_of(changes)
    return sorted(rows, key=lambda row: tuple(str(row[name]) for name in model.key))
