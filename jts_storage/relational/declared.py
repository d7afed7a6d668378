"""Declared records of services in the bookkeeping database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Insert, Select, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.errors import Conflict
from jts_storage.models.columns import Row, digest, in_blocks, rows_of, table_of
from jts_storage.models.table_repository import TableQuery
from jts_storage.models.tables import BASE, GONE, READ, RecordModel
from jts_storage.relational.manager import DatabaseManager

AnyRecordModel = RecordModel[Any, Any]

log = logging.getLogger(__name__)


class DeclaredRecords:
    """The rows of one model, each statement on a connection of its own."""

    def __init__(self, manager: DatabaseManager, model: AnyRecordModel) -> None:
        self.model = model
        self._manager = manager

    async def read(self, query: TableQuery) -> pa.Table:
        async with self._manager.connection() as connection:
            found = await connection.execute(self._select(query))
            rows = [dict(row) for row in found.mappings()]
        return _read(self.model, query.columns or self.model.schema.names, rows)

    async def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]:
        for block in in_blocks(await self.read(query), block_rows):
            yield block

    def _select(self, query: TableQuery) -> Select[Any]:
        c = self.model.table.c
        names = query.columns or self.model.schema.names
        statement = select(*(c[name].label(name) for name in names))
        condition = query.condition(self.model)
        if condition is not None:
            statement = statement.where(condition)
        order = [c[name].desc() if query.descending else c[name] for name in self.model.key]
        statement = statement.order_by(*order)
        return statement if query.limit is None else statement.limit(query.limit)


def _read(model: AnyRecordModel, names: Sequence[str], rows: Sequence[Row]) -> pa.Table:
    schema = pa.schema(map(model.schema.field, names))
    return table_of(rows, schema, f"a stored value of {model.name}")


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
    found = await connection.execute(select(*columns).where(its_row).with_for_update())
    stored = _read(model, names, [dict(row) for row in found.mappings()])
    if digest(rows_of(stored)[0] if stored.num_rows else None) != change[READ]:
        return False
    values = {name: change[name] for name in names}
    if change[GONE]:
        await connection.execute(delete(table).where(its_row))
    elif change[BASE]:
        await connection.execute(update(table).where(its_row).values(values))
    else:
        return await _inserted(connection, insert(table).values(values))
    return True


async def _inserted(connection: AsyncConnection, statement: Insert) -> bool:
    """False where another transaction has inserted the same key meanwhile."""
    try:
        async with connection.begin_nested():
            await connection.execute(statement)
    except IntegrityError:
        return False
    return True


def _in_order(model: AnyRecordModel, changes: pa.Table) -> Sequence[Row]:
    """In one order, so that two commits never wait for each other."""
    rows: Iterable[Row] = rows_of(changes)
    return sorted(rows, key=lambda row: tuple(str(row[name]) for name in model.key))
