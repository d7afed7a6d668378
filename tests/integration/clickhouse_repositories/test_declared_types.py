"""Columns of a declared table of another precision are refused, not read as other values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_sqlalchemy import types
from sqlalchemy import Column, MetaData, Table

from jts_storage import Mapper, TableModel
from jts_storage.clickhouse.declared import DeclaredTable, create_statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import SchemaDrift
from jts_storage.models.table_repository import TableQuery

NOON = datetime(2026, 3, 2, 12, 0, 0, 123_000, UTC)


@dataclass(frozen=True)
class Event:
    id: str
    at: datetime
    price: Decimal
    ended: datetime | None
    fee: Decimal | None


events = TableModel(
    Event,
    Table(
        "events",
        MetaData(),
        Column("id", types.String),
        Column("at", types.DateTime64(6, "UTC")),
        Column("price", types.Decimal(18, 4)),
        Column("ended", types.Nullable(types.DateTime64(6, "UTC"))),
        Column("fee", types.Nullable(types.Decimal(18, 4))),
        Column("version", types.UInt64),
    ),
    Mapper(vars, lambda row: Event(**row)),
    mode="append",
    key=("id",),
)
GIVEN = [
    Event("a", NOON, Decimal("1.5"), None, None),
    Event("b", NOON, Decimal("2.5"), NOON, Decimal("0.25")),
]

Read = Callable[[DeclaredTable], Awaitable[Any]]


@pytest.fixture
def manager(engine_used: Callable[[str], None]) -> Iterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="declared_types") as manager:
        engine_used("chDB")
        for statement in create_statements(events, None):
            manager.execute(statement)
        yield manager
        manager.execute("DROP DATABASE declared_types")


async def read(table: DeclaredTable) -> list[Event]:
    return list(events.from_columns(await table.read(TableQuery())))


async def streamed(table: DeclaredTable) -> list[Event]:
    blocks = [block async for block in table.stream(TableQuery(), 1)]
    return [event for block in blocks for event in events.from_columns(block)]


@pytest.mark.parametrize("read", [read, streamed])
@pytest.mark.parametrize(
    ("column", "type_name"),
    [
        ("at", "DateTime64(3, 'UTC')"),
        ("at", "DateTime64(9, 'UTC')"),
        ("at", "DateTime('UTC')"),
        ("price", "Decimal(18, 6)"),
        ("ended", "Nullable(DateTime64(3, 'UTC'))"),
        ("ended", "Nullable(DateTime64(9, 'UTC'))"),
        ("fee", "Nullable(Decimal(18, 6))"),
    ],
)
async def test_columns_of_another_precision_are_refused(
    manager: ClickHouseManager, read: Read, column: str, type_name: str
) -> None:
    table = DeclaredTable(manager, events)
    table.write(events.to_columns(GIVEN), 1)
    assert await read(table) == GIVEN
    manager.execute(f"ALTER TABLE events MODIFY COLUMN {column} {type_name}")
    with pytest.raises(SchemaDrift, match=f"{column}.* is expected"):
        await read(table)
