"""What `check` advises for MongoDB and PostgreSQL is run against stored documents and rows."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import json_util
from sqlalchemy import text

from jts_storage import migrate
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.migrate import checks
from jts_storage.mongo import MongoDBManager
from jts_storage.mongo.repositories import MongoDBFormulaRepository
from jts_storage.relational.manager import DatabaseManager
from jts_storage.testing.factories import make_formula
from tests.migration.conftest import fresh_name
from tests.migration.test_drift import MONGO, POSTGRES, Drift
from tests.runs import some_by_day

_CALL = re.compile(r'db(?:\.getCollection\("(?P<on>\w+)"\))?\.(?P<verb>\w+)\((?P<given>.*)\)')


async def mongosh(db: Any, statement: str) -> None:
    """Do what mongosh does with the statements that `check` prints."""
    call = _CALL.fullmatch(statement)
    assert call is not None, statement
    given = json_util.loads(f"[{call['given']}]")
    on, verb = call["on"], call["verb"]
    if verb == "runCommand":
        await db.command(given[0])
    elif verb == "createCollection":
        await db.create_collection(given[0], **given[1])
    elif verb == "createIndex":
        index = {"key": given[0], **given[1]}
        await db.command({"createIndexes": on, "indexes": [index]})
    elif verb == "dropIndex":
        await db.command({"dropIndexes": on, "index": given[0]})
    elif verb == "aggregate":
        await (await db[on].aggregate(given[0])).to_list()
    elif verb == "drop":
        await db[on].drop()
    else:
        assert verb == "renameCollection", statement
        await db[on].rename(given[0])


@pytest.fixture
async def live(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database=fresh_name("remedied")) as manager:
        await migrate.up(migrate.Databases(mongo=manager))
        for name in ("first", "second"):
            await MongoDBFormulaRepository(manager).save(make_formula(name=name))
        yield manager
        await manager.client.drop_database(manager.db.name)


async def contents(manager: MongoDBManager) -> list[Any]:
    return [each async for each in manager.db["formulas"].find().sort("_id")]


VIEW = Drift(
    "formulas",
    "collection",
    (
        {"renameCollection": "DATABASE.formulas", "to": "DATABASE.rows"},
        {"create": "formulas", "viewOn": "rows", "pipeline": []},
    ),
    (),
)


@pytest.mark.parametrize("drift", some_by_day([VIEW, *MONGO]), ids=str)
async def test_mongo(live: MongoDBManager, drift: Drift) -> None:
    databases = migrate.Databases(mongo=live)
    before = await contents(live)
    assert len(before) == 2
    for command in drift.alter:
        where = live.client.admin if "renameCollection" in command else live.db
        await where.command(json.loads(json.dumps(command).replace("DATABASE", live.db.name)))
    (found,) = await migrate.check(databases)
    assert (found.where, found.what) == (drift.where, drift.what)
    await follow(databases, found)
    assert await migrate.check(databases) == []
    assert await contents(live) == before


async def follow(databases: migrate.Databases, found: migrate.Difference) -> None:
    if found.remedy.startswith("jts-storage migrate stamp base"):
        await migrate.stamp(databases, "base", chain="kit")
        await migrate.up(databases)
        return
    for statement in found.remedy.split("; "):
        assert databases.mongo is not None
        await mongosh(databases.mongo.db, statement)


# ---- SQL


def can_be_run(drift: Drift) -> bool:
    """A dropped column cannot be filled by anybody, and a key needs a migration of its own."""
    return drift.what not in {"primary key"} and "DROP COLUMN" not in drift.alter[0]


@pytest.mark.parametrize("drift", some_by_day(filter(can_be_run, POSTGRES)), ids=str)
async def test_postgres(postgres: LocalPostgres, drift: Drift) -> None:
    dsn = postgres.create_database(fresh_name("remedied"))
    async with DatabaseManager(dsn) as manager:
        databases = migrate.Databases(database=manager)
        await migrate.up(databases)
        await run(
            manager,
            "INSERT INTO checkpoints (symbol, checkpoint_data, updated_at)"
            " VALUES ('A', '{}', now())",
        )
        for statement in drift.alter:
            await run(manager, statement)
        (found,) = await migrate.check(databases)
        if found.remedy.startswith("jts-storage migrate stamp base"):
            await migrate.stamp(databases, "base", chain="kit")
            await migrate.up(databases)
        else:
            for statement in found.remedy.split("; "):
                await run(manager, statement)
        assert await migrate.check(databases) == []
        if drift.what != "table":
            assert await run(manager, "SELECT symbol FROM checkpoints") == [("A",)]


async def run(manager: DatabaseManager, statement: str) -> list[Any]:
    async with manager.transaction() as connection:
        done = await connection.execute(text(statement))
        return [tuple(row) for row in done] if done.returns_rows else []


async def test_the_values_of_a_column_that_is_dropped_are_kept(sqlite: DatabaseManager) -> None:
    databases = migrate.Databases(database=sqlite)
    await migrate.up(databases)
    await run(sqlite, "ALTER TABLE checkpoints ADD COLUMN note TEXT")
    await run(
        sqlite,
        "INSERT INTO checkpoints (symbol, checkpoint_data, updated_at, note)"
        " VALUES ('A', '{}', '2026-01-01', 'mine')",
    )
    (found,) = await migrate.check(databases)
    assert "keeps them" in found.warning
    for statement in found.remedy.split("; "):
        await run(sqlite, statement)
    assert await migrate.check(databases) == []
    assert await run(sqlite, "SELECT symbol, note FROM checkpoints_note") == [("A", "mine")]


async def test_a_renamed_column_is_renamed_back(database: DatabaseManager) -> None:
    databases = migrate.Databases(database=database)
    await migrate.up(databases)
    await run(
        database,
        "INSERT INTO checkpoints (symbol, checkpoint_data, updated_at)"
        " VALUES ('A', '{\"page\": 3}', CURRENT_TIMESTAMP)",
    )
    await run(database, "ALTER TABLE checkpoints RENAME COLUMN checkpoint_data TO progress")
    (found,) = await migrate.check(databases)
    assert (found.expected, found.actual) == ("checkpoint_data", "progress")
    await run(database, found.remedy)
    assert await migrate.check(databases) == []
    stored = await run(database, "SELECT checkpoint_data FROM checkpoints")
    assert stored == [('{"page": 3}',)]


async def test_a_trigger_is_a_note(database: DatabaseManager) -> None:
    databases = migrate.Databases(database=database)
    await migrate.up(databases)
    if database.config.is_sqlite:
        making = [
            "CREATE TRIGGER watching AFTER INSERT ON checkpoints"
            " BEGIN DELETE FROM checkpoints WHERE symbol = 'never'; END"
        ]
    else:
        making = [
            "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER watching BEFORE INSERT OR UPDATE ON checkpoints"
            " FOR EACH ROW EXECUTE FUNCTION watch()",
        ]
    for statement in making:
        await run(database, statement)
    (found,) = await migrate.check(databases)
    assert (found.where, found.what, found.is_note) == ("checkpoints.watching", "trigger", True)
    assert checks.exit_code([found]) == 0
    await run(database, found.remedy)
    assert await migrate.check(databases) == []


async def test_tables_of_others_are_nobodys_business(database: DatabaseManager) -> None:
    databases = migrate.Databases(database=database)
    await migrate.up(databases)
    await run(database, "CREATE TABLE mine (n INTEGER)")
    assert await migrate.check(databases) == []
