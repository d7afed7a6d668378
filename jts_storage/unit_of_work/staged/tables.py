"""Rows of declared tables that a unit of work has written, laid over what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.changes import TableChange
from jts_storage.errors import Conflict, InvalidData
from jts_storage.models.columns import Row, in_blocks, key_of, rows_of, version_of
from jts_storage.models.conditions import matching
from jts_storage.models.table_repository import StoredTable, TableQuery
from jts_storage.models.tables import AnyTable
from jts_storage.models.taken import check_taken

_Key = tuple[Any, ...]


class StagedTable:
    """A `TableSource` whose writes stay here until they are handed over."""

    def __init__(
        self, model: AnyTable[Any], stored: StoredTable, lifetime: Lifetime | None = None
    ) -> None:
        self.model = model
        self._stored = stored
        self._lifetime = lifetime or Lifetime()
        self._appended: list[pa.Table] = []
        self._upserted: list[pa.Table] = []
        self._rows: dict[_Key, Row | None] = {}
        self._before: dict[_Key, Row | None] = {}
        self._seen: dict[_Key, Row] = {}
        self._lock = asyncio.Lock()
        self._taken: TableChange | None = None

    def take(self, change: TableChange) -> None:
        """Put what was staged elsewhere in the place of what is staged here.

        :raises InvalidData: its rows are not those of a change of this table.
        """
        self._lifetime.check()
        model, rows = self.model, change.rows
        is_append = model.mode == "append"
        schema = model.schema if is_append else model.changes_schema
        if change.mode != model.mode or not rows.schema.equals(schema):
            raise InvalidData(f"is no change of {model.name}", field="rows")
        check_taken(model, rows)
        keys = [] if is_append else [key_of(r, model.key) for r in rows_of(rows.select(model.key))]
        self._taken = TableChange(model.name, model.store, model.mode, rows, keys)

    @property
    def change(self) -> TableChange | None:
        """What the table is to become; None if nothing of it changes."""
        model = self.model
        if self._taken is not None:
            return self._taken
        if model.mode == "append":
            rows = pa.concat_tables(self._appended) if self._appended else None
            return rows and TableChange(model.name, model.store, model.mode, rows)
        if self._upserted and not self._rows:
            rows = model.changes_to(_latest(pa.concat_tables(self._upserted), model.key))
            return TableChange(model.name, model.store, model.mode, rows)
        self._lay_out()
        if not self._rows:
            return None
        rows = model.changes_of((key, row, self._before[key]) for key, row in self._rows.items())
        return TableChange(model.name, model.store, model.mode, rows, list(self._rows))

    async def read(self, query: TableQuery) -> pa.Table:
        self._lay_out()
        if query.key is not None:
            if query.key not in self._rows:
                return self._noted(await self._stored.read(query))
            row = self._rows[query.key]
            return pa.Table.from_pylist([] if row is None else [row], self.model.schema)
        # As they are now: another task may stage more while this one waits.
        model, rows_here, appended = self.model, dict(self._rows), list(self._appended)
        hidden = set(rows_here)
        if not hidden and not appended:
            return self._noted(await self._stored.read(query))
        # Whole rows, of which as many more are asked for as may be hidden.
        limit = None if query.limit is None else query.limit + len(hidden)
        stored = self._noted(await self._stored.read(replace(query, columns=None, limit=limit)))
        staged = [row for row in rows_here.values() if row is not None]
        together = [stored.filter(_others(stored, model.key, hidden)), *appended]
        together.append(pa.Table.from_pylist(staged, model.schema))
        rows = matching(pa.concat_tables(together), query.where)
        rows = rows.sort_by([(name, _direction(query)) for name in model.sort_key])
        rows = rows if query.limit is None else rows.slice(0, query.limit)
        return rows if query.columns is None else rows.select(list(query.columns))

    async def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]:
        for block in in_blocks(await self.read(query), block_rows):
            yield block

    async def append(self, rows: pa.Table) -> None:
        self._lifetime.check()
        self._appended.append(rows)

    async def put(self, rows: pa.Table) -> pa.Table:
        self._lifetime.check()
        if self.model.mode != "record":
            self._upserted.append(rows)
            return rows
        async with self._lock:
            saved = [await self._put_record(row) for row in rows_of(rows)]
        return pa.Table.from_pylist(saved, self.model.schema)

    async def remove(self, key: Sequence[Any]) -> bool:
        self._lifetime.check()
        async with self._lock:
            before = await self._found(tuple(key))
            self._lifetime.check()
            if before is None:
                return False
            self._stage(tuple(key), None, before)
            return True

    async def _put_record(self, row: Row) -> Row:
        key = key_of(row, self.model.key)
        before = await self._found(key)
        self._lifetime.check()
        version = self.model.version
        read, found = version_of(row, version), version_of(before, version)
        if read != found:
            raise Conflict(
                f"{self.model.name} {_shown(key)} was changed by somebody else: version {found}"
                f" is stored, {read} was read.",
                remedy="Read it again and repeat.",
            )
        saved = {**row, version: found + 1}
        self._stage(key, saved, before)
        return saved

    async def _found(self, key: _Key) -> Row | None:
        """The row of a key as it is here: staged, or else as it was when it was first read."""
        self._lay_out()
        if key in self._rows:
            return self._rows[key]
        if key in self._seen:
            return self._seen[key]
        found = self._noted(await self._stored.read(TableQuery(key=key)))
        return rows_of(found)[0] if found.num_rows else None

    def _noted(self, rows: pa.Table) -> pa.Table:
        """The same rows; of records it is noted how each was when it was first read.

        What a unit of work has read is what it may replace, and nothing that came later.
        """
        if rows.column_names == self.model.schema.names and self.model.mode == "record":
            for row in rows_of(rows):
                self._seen.setdefault(key_of(row, self.model.key), row)
        return rows

    def _lay_out(self) -> None:
        """Tell the rows apart by their keys, which nobody needs who only writes."""
        for rows in self._upserted:
            for row in rows_of(rows):
                self._stage(key_of(row, self.model.key), row, None)
        self._upserted.clear()

    def _stage(self, key: _Key, row: Row | None, before: Row | None) -> None:
        self._before.setdefault(key, before)
        self._rows[key] = row


class StagedTables:
    """The tables that a unit of work has touched.

    :param stored: gives the committed rows of a model.
    """

    def __init__(self, stored: Callable[[AnyTable[Any]], StoredTable], lifetime: Lifetime) -> None:
        self._stored = stored
        self._lifetime = lifetime
        self._touched: dict[str, StagedTable] = {}

    def of(self, model: AnyTable[Any]) -> StagedTable:
        if model.name not in self._touched:
            self._touched[model.name] = StagedTable(model, self._stored(model), self._lifetime)
        return self._touched[model.name]

    @property
    def changes(self) -> list[tuple[AnyTable[Any], TableChange]]:
        """The models of which something changes, and what."""
        touched = self._touched.values()
        return [(table.model, change) for table in touched if (change := table.change)]


def _latest(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """Of the rows of one key the last."""
    last = {key_of(row, key): n for n, row in enumerate(rows_of(rows.select(list(key))))}
    return rows if len(last) == rows.num_rows else rows.take(pa.array(sorted(last.values())))


def _others(rows: pa.Table, key: Sequence[str], hidden: set[_Key]) -> pa.Array:
    """Which rows are not among those keys."""
    keys = (key_of(row, key) for row in rows_of(rows.select(list(key))))
    return pa.array([each not in hidden for each in keys], pa.bool_())


def _direction(query: TableQuery) -> str:
    return "descending" if query.descending else "ascending"


def _shown(key: _Key) -> str:
    return ", ".join(map(str, key))
