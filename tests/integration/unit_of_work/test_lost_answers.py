"""Rows appended in pieces are stored once, whatever is known of the insert of a piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_driver.errors import NetworkError

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse import declared
from jts_storage.clickhouse.blocks import DictionaryColumn, Typed
from jts_storage.clickhouse.embedded.transport import ChdbTransport
from tests.declared import Tick, ticks

NOON = datetime(2026, 3, 2, 3, tzinfo=UTC)
TICKS = [Tick("A", NOON + timedelta(seconds=n), Decimal(70_000) + n, n) for n in range(35)]
PIECE = 10
INTERRUPTED = 2
"""The insert whose answer is lost."""


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings, models=[ticks])) as storage:
        yield storage


def first_rows(columns: Mapping[str, Typed], count: int) -> dict[str, Typed]:
    return {
        name: column if column.is_constant else Typed(column.type, _cut(column.values, count))
        for name, column in columns.items()
    }


def _cut(values: Any, count: int) -> Any:
    if isinstance(values, DictionaryColumn):
        return DictionaryColumn(values.dictionary, values.keys[:count])
    return values[:count]


@pytest.mark.parametrize("arriving", [0, PIECE // 2, PIECE], ids=["nothing", "half", "all"])
async def test_every_row_is_stored_once_when_an_answer_is_lost(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, arriving: int
) -> None:
    monkeypatch.setattr(declared, "WRITE_ROWS", PIECE)
    insert_columns = ChdbTransport.insert_columns
    inserts = 0

    def interrupted(
        self: ChdbTransport,
        table: str,
        columns: Mapping[str, Typed],
        settings: Mapping[str, Any] | None = None,
    ) -> int:
        nonlocal inserts
        inserts += table == "ticks"
        if table != "ticks" or inserts != INTERRUPTED:
            return insert_columns(self, table, columns, settings)
        if arriving:
            insert_columns(self, table, first_rows(columns, arriving), settings)
        raise NetworkError("lost")

    monkeypatch.setattr(ChdbTransport, "insert_columns", interrupted)
    async with storage.unit_of_work() as uow:
        await uow.repository(ticks).append(TICKS)
        await uow.commit()
    assert inserts >= INTERRUPTED
    assert await storage.repository(ticks).list() == TICKS
