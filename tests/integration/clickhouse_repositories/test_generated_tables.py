"""Whatever table is declared: rows come back as they were, and conditions find them everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from jts_storage.clickhouse.declared import DeclaredTable, create_statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.changes import TableChange
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.models import TableRepository
from jts_storage.models.table_repository import ReadOnly, StoredTable
from tests.generated import Declared, Row, tables

# Unshrunk: each attempt makes a table of its own, and thousands of them would take minutes.
BOUNDED = settings(max_examples=25, phases=[Phase.generate], suppress_health_check=[*HealthCheck])


@pytest.fixture(scope="module")
def manager() -> Iterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="generated") as manager:
        yield manager


def shown(rows: object) -> list[str]:
    """Rows to be compared, NaN among them, in an order that equal keys leave open."""
    assert isinstance(rows, list)
    return sorted(map(repr, rows))


def stored(manager: ClickHouseManager, declared: Declared) -> list[StoredTable]:
    """The rows in the engine, and in memory."""
    model = declared.model
    for statement in create_statements(model, None):
        manager.execute(statement)
    rows = model.to_columns(declared.rows)
    if model.mode == "upsert":
        dicts = [(model.key_of(row), row.values, None) for row in declared.rows]
        rows = model.changes_of(dicts)
    table, twin = DeclaredTable(manager, model), InMemoryTable(MemoryDatabase(), model)
    table.apply(rows, 1)
    twin.apply(TableChange(model.name, "clickhouse", model.mode, rows))
    return [table, twin]


async def check(manager: ClickHouseManager, declared: Declared) -> None:
    model = declared.model
    try:
        kept: list[TableRepository[Row]] = [
            model.repository(ReadOnly(each)) for each in stored(manager, declared)
        ]
        given_rows = shown(model.from_columns(model.to_columns(declared.rows)))
        found = [await each.list() for each in kept]
        assert shown(found[0]) == shown(found[1]) == given_rows
        keys = [[model.key_of(row) for row in rows] for rows in found]
        assert keys[0] == keys[1]
        streamed = [block async for block in kept[0].stream(block_rows=3)]
        assert shown([row for b in streamed for row in model.from_columns(b)]) == given_rows
        met = [await each.list(where=declared.where) for each in kept]
        assert shown(met[0]) == shown(met[1]), declared
        turned = [await each.list(where=lambda c: ~declared.where(c)) for each in kept]
        assert shown(turned[0]) == shown(turned[1]), declared
    finally:
        manager.execute(f"DROP TABLE IF EXISTS {model.name}")


@BOUNDED
@given(tables())
def test_engine_and_memory_hold_and_find_the_same(
    manager: ClickHouseManager, declared: Declared
) -> None:
    asyncio.run(check(manager, declared))


@pytest.mark.slow
@settings(BOUNDED, max_examples=300)
@given(tables())
def test_engine_and_memory_hold_and_find_the_same_in_many_tables(
    manager: ClickHouseManager, declared: Declared
) -> None:
    asyncio.run(check(manager, declared))
