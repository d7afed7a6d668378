"""One database built from the models and one from the migrations are the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, inspect

from jts_storage import migrate
from jts_storage.clickhouse import tables
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.migrate.plan import Goal
from jts_storage.mongo import MongoDBManager, ensure_schema
from jts_storage.relational.manager import DatabaseManager
from jts_storage.relational.tables import create_all, metadata


def show_create(manager: ClickHouseManager, table: str) -> str:
    text = str(manager.execute(f"SHOW CREATE TABLE {table}")[0][0])
    return text.replace(manager.config.database, "db")


@pytest.mark.parametrize("partition_by_year", [False, True])
async def test_clickhouse_tables_are_created_alike(
    clickhouse: ClickHouseManager, partition_by_year: bool
) -> None:
    name = f"{clickhouse.config.database}_models"
    with ClickHouseManager(clickhouse.config, database=name) as modelled:
        models = tables.build(partition_by_year=partition_by_year)
        models.metadata.create_all(modelled.engine)
        by_models = migrate.Databases(modelled, partition_by_year=partition_by_year)
        by_steps = migrate.Databases(clickhouse, partition_by_year=partition_by_year)

        await migrate.up(by_steps)
        await migrate.stamp(by_models, "head")

        for table in ("candles", "symbols"):
            assert show_create(clickhouse, table) == show_create(modelled, table)
        assert await migrate.check(by_models) == []
        assert await migrate.check(by_steps) == []
        modelled.execute(f"DROP DATABASE {name}")


async def test_a_fresh_database_keeps_nothing_of_the_way_there(
    clickhouse: ClickHouseManager,
) -> None:
    await migrate.up(migrate.Databases(clickhouse))
    left = {name for (name,) in clickhouse.execute("SHOW TABLES")}
    own = {"jts_schema_version", "jts_schema_log", "jts_schema_lock"}
    assert left == {"candles", "candles_history", "symbols"} | own


async def test_mongo_collections_are_created_alike(
    mongod: LocalMongod, mongo: MongoDBManager
) -> None:
    name = f"{mongo.db.name}_models"
    async with MongoDBManager(uri=mongod.uri, database=name) as modelled:
        await ensure_schema(modelled.db)
        await migrate.up(migrate.Databases(mongo=mongo))
        await migrate.stamp(migrate.Databases(mongo=modelled), "head")

        made, wanted = await collections(mongo), await collections(modelled)
        assert {n: c for n, c in made.items() if not n.startswith("jts_")} == {
            n: c for n, c in wanted.items() if not n.startswith("jts_")
        }
        assert await migrate.check(migrate.Databases(mongo=modelled)) == []
        assert await migrate.check(migrate.Databases(mongo=mongo)) == []
        await modelled.client.drop_database(name)


async def collections(manager: MongoDBManager) -> dict[str, Any]:
    cursor = await manager.db.list_collections()
    found = {info["name"]: [info.get("options")] async for info in cursor}
    for name, about in found.items():
        indexes = await manager.db.get_collection(name).list_indexes()
        about.append(sorted([index async for index in indexes], key=lambda index: index["name"]))
    return found


async def test_sql_tables_are_created_alike(
    database: DatabaseManager, sqlite: DatabaseManager
) -> None:
    await migrate.up(migrate.Databases(database=database))
    assert await migrate.check(migrate.Databases(database=database)) == []
    async with database.engine.connect() as connection:
        migrated = await connection.run_sync(reflected)
        await connection.run_sync(lambda sync: metadata.drop_all(sync))
        await connection.commit()
    await create_all(database.engine)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(reflected) == migrated
    assert await migrate.check(migrate.Databases(database=database)) == []


def reflected(connection: Connection) -> dict[str, Any]:
    inspector = inspect(connection)
    return {
        table: (
            {column["name"]: str(column) for column in inspector.get_columns(table)},
            inspector.get_pk_constraint(table)["constrained_columns"],
            inspector.get_indexes(table),
            inspector.get_unique_constraints(table),
            inspector.get_check_constraints(table),
        )
        for table in metadata.tables
    }


def statements(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [each.strip() for each in "\n".join(lines).split(";\n") if each.strip()]


async def test_the_static_check_agrees_and_leaves_nothing_behind(
    clickhouse: ClickHouseManager, sqlite: DatabaseManager
) -> None:
    before = clickhouse.execute("SHOW DATABASES")
    assert await migrate.check_static(migrate.Databases(clickhouse, None, sqlite)) == []
    assert clickhouse.execute("SHOW DATABASES") == before


async def test_what_is_printed_for_a_person_leads_to_the_same_schema(
    clickhouse: ClickHouseManager,
) -> None:
    text = await migrate.sql(migrate.Databases(clickhouse), Goal())
    for statement in statements(text):
        clickhouse.execute(statement)
    assert await migrate.check(migrate.Databases(clickhouse)) == []
