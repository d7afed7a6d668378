"""Declared tables of the twin outside of a unit of work, for the contracts."""

from __future__ import annotations

import pyarrow as pa

from jts_storage.clickhouse.symbol_model import SYMBOLS, DeclaredSymbols
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.models.table_repository import ReadOnly
from jts_storage.unit_of_work.staged.tables import StagedTable


class WritesAtOnce(ReadOnly):
    """The rows of a table, each write a unit of work of its own."""

    def __init__(self, table: InMemoryTable) -> None:
        super().__init__(table)
        self._table = table

    async def put(self, rows: pa.Table) -> pa.Table:
        staged = StagedTable(SYMBOLS, self._table)
        saved = await staged.put(rows)
        assert staged.change is not None
        self._table.apply(staged.change)
        return saved


def symbols_at_once() -> DeclaredSymbols:
    return SYMBOLS.repository(WritesAtOnce(InMemoryTable(MemoryDatabase(), SYMBOLS)))
