"""Whatever table of the bookkeeping database is declared: rows come back, conditions find them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from jts_storage.domain.changes import TableChange
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.models import RecordRepository
from jts_storage.models.table_repository import ReadOnly
from jts_storage.relational import DatabaseManager
from jts_storage.relational.declared import DeclaredRecords, apply
from tests.generated import Declared, Row, records

# Unshrunk: each attempt makes a table of its own, and thousands of them would take minutes.
BOUNDED = settings(max_examples=25, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
Check = Callable[[Declared], None]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def check(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Check]:
    """Tries what is generated in one database, whose connections belong to one loop."""
    folder: Path = tmp_path_factory.mktemp("generated")
    url = f"sqlite:///{folder}/generated.db"
    if request.param == "postgres":
        server: LocalPostgres = request.getfixturevalue("postgres")
        url = server.create_database("generated")
    with asyncio.Runner() as runner:
        manager = DatabaseManager(url)
        yield lambda declared: runner.run(tried(manager, declared))
        runner.run(manager.close())


async def tried(manager: DatabaseManager, declared: Declared) -> None:
    model = declared.model
    changes = model.changes_of((model.key_of(row), row.values, None) for row in declared.rows)
    # A record that is new has no version; these are as a commit writes them.
    twin = InMemoryTable(MemoryDatabase(), model)
    twin.apply(TableChange(model.name, "database", "record", changes))
    async with manager.engine.begin() as connection:
        await connection.run_sync(model.table.create)
        await apply(connection, model, changes)
    kept: list[RecordRepository[Row]] = [
        model.repository(ReadOnly(each)) for each in (DeclaredRecords(manager, model), twin)
    ]
    try:
        found = [await each.list() for each in kept]
        wanted = model.from_columns(model.to_columns(declared.rows))
        assert shown(found[0]) == shown(found[1])
        assert sorted(shown(found[0])) == sorted(shown(wanted))
        met = [await each.list(where=declared.where) for each in kept]
        assert shown(met[0]) == shown(met[1]), declared
        turned = [await each.list(where=lambda c: ~declared.where(c)) for each in kept]
        assert shown(turned[0]) == shown(turned[1]), declared
    finally:
        async with manager.engine.begin() as connection:
            await connection.run_sync(model.table.drop)


def shown(rows: Sequence[Row]) -> list[str]:
    return list(map(repr, rows))


@BOUNDED
@given(records())
def test_database_and_memory_hold_and_find_the_same(check: Check, declared: Declared) -> None:
    check(declared)


@pytest.mark.slow
@settings(BOUNDED, max_examples=300)
@given(records())
def test_database_and_memory_hold_and_find_the_same_in_many_tables(
    check: Check, declared: Declared
) -> None:
    check(declared)
