"""Rows of declared tables in memory, as the journal and the stores have them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa

from jts_storage.domain.changes import TableChange
from jts_storage.errors import Conflict
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.models.columns import digest, in_blocks, key_of, rows_of
from jts_storage.models.conditions import matching
from jts_storage.models.names import GONE, READ
from jts_storage.models.table_repository import TableQuery
from jts_storage.models.tables import AnyTable


class InMemoryTable:
    """The committed rows of one model."""

    def __init__(self, database: MemoryDatabase, model: AnyTable[Any]) -> None:
        self._database = database
        self._model = model

    async def read(self, query: TableQuery) -> pa.Table:
        rows = matching(self._rows(), query.condition(self._model))
        direction = "descending" if query.descending else "ascending"
        rows = rows.sort_by([(name, direction) for name in self._model.sort_key])
        rows = rows if query.limit is None else rows.slice(0, query.limit)
        return rows if query.columns is None else rows.select(list(query.columns))

    async def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]:
        for block in in_blocks(await self.read(query), block_rows):
            yield block

    def check(self, change: TableChange) -> None:
        """:raises Conflict: a record is not as the unit of work saw it."""
        if change.mode != "record":
            return
        for row in rows_of(change.rows.select([*self._model.key, READ])):
            key = key_of(row, self._model.key)
            if digest(self._database.rows.get((self._model.name, key))) != row[READ]:
                raise Conflict(
                    f"{self._model.name} {', '.join(map(str, key))} was changed by somebody else"
                    " before this commit.",
                    remedy="Read it again and repeat.",
                )

    def apply(self, change: TableChange) -> None:
        model, database = self._model, self._database
        if change.mode == "append":
            database.appended.setdefault(model.name, []).append(change.rows)
            return
        for row in rows_of(change.rows):
            place = (model.name, key_of(row, model.key))
            if row[GONE]:
                database.rows.pop(place, None)
            else:
                database.rows[place] = {name: row[name] for name in model.schema.names}

    def _rows(self) -> pa.Table:
        model = self._model
        with self._database.lock:
            if model.mode == "append":
                return pa.concat_tables(
                    [model.schema.empty_table(), *self._database.appended.get(model.name, ())]
                )
            rows = [row for (name, _), row in self._database.rows.items() if name == model.name]
        return pa.Table.from_pylist(list(map(dict, rows)), model.schema)
