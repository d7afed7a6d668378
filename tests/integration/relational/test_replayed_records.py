"""Records that recovery writes again: a later write is left alone, and no other refusal is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import text

from jts_storage.errors import StorageError
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.models.table_repository import ReadOnly
from jts_storage.relational import DatabaseManager
from jts_storage.relational.declared import DeclaredRecords, replay
from jts_storage.testing.factories import START
from tests.declared import FillRecord, fill_records

FIRST = FillRecord(1, START, lots=5, note="first")
ANOTHER = FillRecord(2, START, lots=5, note="of the same lots")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/records.db"
    else:
        server: LocalPostgres = request.getfixturevalue("postgres")
        yield server.create_database("replayed")


def changes(record: FillRecord) -> pa.Table:
    return fill_records.changes_of([(fill_records.key_of(record), record_values(record), None)])


def record_values(record: FillRecord) -> dict[str, object]:
    return dict(fill_records.to_columns([record]).to_pylist()[0])


def test_a_record_that_breaks_a_rule_is_not_taken_for_a_later_write(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        manager = DatabaseManager(url)
        try:
            async with manager.engine.begin() as connection:
                await connection.run_sync(fill_records.table.create)
                await connection.execute(text("CREATE UNIQUE INDEX once ON fill_records (lots)"))
            async with manager.transaction() as connection:
                await replay(connection, fill_records, changes(FIRST))
            with pytest.raises(StorageError):
                async with manager.transaction() as connection:
                    await replay(connection, fill_records, changes(ANOTHER))
            async with manager.transaction() as connection:
                await replay(connection, fill_records, changes(replace(FIRST, note="again")))
            repository = fill_records.repository(ReadOnly(DeclaredRecords(manager, fill_records)))
            stored = await repository.list()
            assert [(each.number, each.note) for each in stored] == [(1, "first")]
        finally:
            await manager.close()

    asyncio.run(check())
    assert caplog.text.count("found a later write and kept it") == 1
