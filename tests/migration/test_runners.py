"""Runners side by side, one after another, and their commands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from jts_storage import migrate
from jts_storage._runtime.processes import host
from jts_storage.cli.main import app
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import Conflict, InvalidConfiguration, SchemaDrift
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.migrate import clickhouse_lock, files, mongo_lock
from jts_storage.migrate.clickhouse_lock import Lock
from jts_storage.migrate.clickhouse_tables import LOCK_TABLE, create_statement, lock_table
from jts_storage.mongo import MongoDBManager, leases
from jts_storage.relational.manager import DatabaseManager
from jts_storage.testing.clickhouse_server import ClickHouseServer

RUNNER = Path(__file__).with_name("runner_process.py")


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouseServer]:
    with ClickHouseServer() as server:
        yield server


async def test_two_runners_never_apply_a_step_twice(
    server: ClickHouseServer, mongod: LocalMongod, postgres: LocalPostgres
) -> None:
    address: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
    with ClickHouseManager(**address, database="default") as admin:
        admin.execute("CREATE DATABASE IF NOT EXISTS jts_raced")
    wanted: dict[str, Any] = {
        "clickhouse": {**address, "database": "jts_raced"},
        "mongo": {"uri": mongod.uri, "database": "jts_raced"},
        "database": postgres.create_database("jts_raced"),
    }
    outcomes = await asyncio.gather(race(wanted), race(wanted))
    taken = sorted(step for steps in outcomes for step in steps)
    every = [file for store in files.STORES for file in files.discover(store)]
    assert taken == sorted(str(migrate.Step(file, "up")) for file in every)

    with ClickHouseManager(**address, database="jts_raced") as manager:
        logged = manager.execute("SELECT revision FROM jts_schema_log ORDER BY id")
        assert logged == [(file.revision,) for file in files.discover("clickhouse")]
    async with MongoDBManager(uri=mongod.uri, database="jts_raced") as mongo:
        assert await mongo.get_collection("jts_schema_log").count_documents({}) == len(
            files.discover("mongo")
        )
    async with (
        DatabaseManager(wanted["database"]) as database,
        database.connection() as connection,
    ):
        rows = await connection.execute(text("SELECT count(*) FROM jts_schema_log"))
        assert rows.scalar_one() == 2


async def race(wanted: dict[str, Any]) -> list[str]:
    racer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(RUNNER), json.dumps(wanted)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(racer.communicate(), 120)
    assert racer.returncode == 0, err.decode()
    steps: list[str] = json.loads(out)
    return steps


# ---- locks


@pytest.fixture
def locked(clickhouse: ClickHouseManager) -> ClickHouseManager:
    clickhouse.execute(create_statement(lock_table(None)))
    return clickhouse


def sender(manager: ClickHouseManager) -> Any:
    return lambda sql, *, settings=None: manager.execute(sql, settings=settings)


def test_only_one_of_many_threads_holds_the_clickhouse_lock(locked: ClickHouseManager) -> None:
    inside: list[int] = []
    most: list[int] = []
    together = threading.Barrier(6)

    def work() -> None:
        together.wait(30)
        with Lock(sender(locked), None).held(30):
            inside.append(1)
            time.sleep(0.05)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 6


def test_a_held_clickhouse_lock_is_refused_to_others_and_free_afterwards(
    locked: ClickHouseManager,
) -> None:
    with (
        Lock(sender(locked), None).held(5),
        pytest.raises(Conflict, match="Another runner"),
        Lock(sender(locked), None).held(0.2),
    ):
        pass
    with Lock(sender(locked), None).held(0.2):
        pass


@pytest.mark.parametrize(
    ("owner", "silence", "is_free"),
    [
        ("elsewhere/1/abc", 10, False),
        ("elsewhere/1/abc", 100, True),
        ("{host}/999999999/abc", 0, True),
        ("{host}/{own}/abc", 0, True),
        ("{host}/{parent}/abc", 0, False),
    ],
)
def test_a_clickhouse_lock_ends_with_its_owner(
    locked: ClickHouseManager, owner: str, silence: int, is_free: bool
) -> None:
    who = owner.format(host=host(), own=os.getpid(), parent=os.getppid())
    locked.execute(
        f"INSERT INTO {LOCK_TABLE} (number, event, owner, at)"
        f" VALUES (1, 'take', '{who}', now64(3) - {silence})"
    )
    if is_free:
        with Lock(sender(locked), None).held(0.2):
            return
    with pytest.raises(Conflict), Lock(sender(locked), None).held(0.2):
        pass


@pytest.mark.parametrize("statement", [3, 4], ids=["whose it is", "whether it is the latest"])
def test_a_clickhouse_lock_that_failed_as_it_was_taken_is_free(
    locked: ClickHouseManager, statement: int
) -> None:
    send, sent = sender(locked), 0

    def cut_off(sql: str, *, settings: Any = None) -> Any:
        nonlocal sent
        sent += 1
        if sent == statement:
            raise ConnectionError
        return send(sql, settings=settings)

    with pytest.raises(ConnectionError), Lock(cut_off, None).held(0.2):
        pass
    taken = f"SELECT count() FROM {LOCK_TABLE} WHERE event = 'take'"
    assert locked.execute(taken) == [(1,)]
    with Lock(send, None).held(0.2):
        pass


def test_a_runner_that_lost_its_clickhouse_lock_stops(
    locked: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickhouse_lock, "LEASE_SECONDS", 0.0)
    with Lock(sender(locked), None).held(1) as alive:
        alive()
        locked.execute(
            f"INSERT INTO {LOCK_TABLE} (number, event, owner) VALUES (9, 'take', 'other/1/x')"
        )
        with pytest.raises(Conflict, match="took over"):
            alive()


async def test_a_held_mongo_lock_is_refused_to_others_and_ends_with_its_owner(
    mongo: MongoDBManager,
) -> None:
    collection = mongo.get_collection("jts_schema_lock")
    async with mongo_lock.held(mongo, 1):
        with pytest.raises(Conflict, match="Another runner"):
            async with mongo_lock.held(mongo, 0.2):
                pass
    stale = f"{host()}/999999999/abc"
    await collection.update_one(
        {"_id": "migrations"},
        [{"$set": {"owner": stale, "until": {"$add": ["$$NOW", 60_000]}}}],
        upsert=True,
    )
    async with mongo_lock.held(mongo, 0.2):
        pass
    assert await collection.count_documents({}) == 0


async def test_a_runner_keeps_its_mongo_lock_and_is_told_when_it_lost_it(
    mongo: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "DURATION", timedelta(seconds=1))
    collection = mongo.get_collection("jts_schema_lock")
    async with mongo_lock.held(mongo, 1) as alive:
        with pytest.raises(Conflict, match=f"Another runner.*@{host()}/"):
            async with mongo_lock.held(mongo, 1.5):
                pass
        await alive()
        await collection.update_one({}, {"$set": {"owner": "elsewhere/1/abc"}})
        await asyncio.sleep(0.6)
        for _ in range(2):
            with pytest.raises(Conflict, match="took over"):
                await alive()
    assert await collection.distinct("owner") == ["elsewhere/1/abc"]


# ---- plans and phases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The kit's migrations, with more to come."""
    copied = tmp_path / "migrations"
    shutil.copytree(files.root(), copied)
    return copied


async def test_a_post_migration_waits_for_new_code(sqlite: DatabaseManager, folder: Path) -> None:
    migrate.new("relational", "Notes of checkpoints", folder=folder)
    migrate.new("relational", "drop what was", phase="post", folder=folder)
    migrate.new("relational", "later still", folder=folder)
    databases = migrate.Databases(database=sqlite, folder=folder)
    taken = await migrate.up(databases, phase="pre")
    assert [step.migration.title for step in taken] == [
        "bookkeeping",
        "applied commits",
        "notes of checkpoints",
    ]
    found = await migrate.status(databases)
    assert [(line.revision, line.phase, line.state) for line in found] == [
        ("0001", "pre", "applied"),
        ("0002", "pre", "applied"),
        ("0003", "pre", "applied"),
        ("0004", "post", "pending"),
        ("0005", "pre", "pending"),
    ]


async def test_a_column_is_added_and_taken_back_with_rows_in_the_table(
    database: DatabaseManager, folder: Path
) -> None:
    """SQLite cannot alter much, so its table is made anew; the rows must come along."""
    path = migrate.new("relational", "notes", folder=folder)
    assert path.name == "0003_notes.py"
    databases = migrate.Databases(database=database, folder=folder)
    await migrate.up(databases, to="1")
    async with database.transaction() as connection:
        insert = "INSERT INTO checkpoints (symbol, checkpoint_data) VALUES ('A', '{}')"
        await connection.execute(text(insert))
    await migrate.up(databases)
    surplus = [each.where for each in await migrate.check(databases)]
    assert surplus == ["checkpoints.note"]
    await migrate.down(databases)
    assert await migrate.check(migrate.Databases(database=database)) == []
    async with database.connection() as connection:
        rows = (await connection.execute(text("SELECT symbol FROM checkpoints"))).all()
    assert [tuple(row) for row in rows] == [("A",)]


async def test_a_failing_sql_migration_leaves_nothing_behind(
    database: DatabaseManager, folder: Path
) -> None:
    path = migrate.new("relational", "broken", folder=folder)
    source = path.read_text().replace(
        "def downgrade", '    raise RuntimeError("half done")\n\n\ndef downgrade'
    )
    path.write_text(source)
    databases = migrate.Databases(database=database, folder=folder)
    with pytest.raises(RuntimeError, match="half done"):
        await migrate.up(databases)
    assert {line.state for line in await migrate.status(databases)} == {"pending"}
    await migrate.up(migrate.Databases(database=database))
    assert await migrate.check(migrate.Databases(database=database)) == []


async def test_documents_and_the_log_change_in_one_transaction(
    mongo: MongoDBManager, folder: Path
) -> None:
    path = migrate.new("mongo", "rename a tag", folder=folder)
    change = '"formulas", {"tags": "old"}, {"$set": {"tags.$": "new"}}'
    path.write_text(
        "IN_TRANSACTION = True\n\n\n"
        f"async def up(op):\n    await op.update_many({change})\n"
        '    if await op.db.get_collection("switch").find_one({}):\n'
        '        raise RuntimeError("interrupted")\n\n\n'
        "async def down(op):\n    pass\n"
    )
    databases = migrate.Databases(mongo=mongo, folder=folder)
    await migrate.up(databases, to="3")
    formulas = mongo.get_collection("formulas")
    await formulas.insert_one({"name": "a", "expression": "b", "category": "scan", "tags": ["old"]})
    await mongo.get_collection("switch").insert_one({})
    with pytest.raises(RuntimeError, match="interrupted"):
        await migrate.up(databases)
    assert await formulas.count_documents({"tags": "old"}) == 1
    await mongo.get_collection("switch").delete_many({})
    await migrate.up(databases)
    assert await formulas.count_documents({"tags": "new"}) == 1


async def test_a_database_of_a_later_kit_is_left_alone(
    sqlite: DatabaseManager, folder: Path
) -> None:
    migrate.new("relational", "of the future", folder=folder)
    await migrate.up(migrate.Databases(database=sqlite, folder=folder))
    with pytest.raises(SchemaDrift, match="0003"):
        await migrate.up(migrate.Databases(database=sqlite))


async def test_an_unknown_goal_is_refused(sqlite: DatabaseManager) -> None:
    with pytest.raises(InvalidConfiguration, match="0042"):
        await migrate.up(migrate.Databases(database=sqlite), to="0042")


# ---- commands


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", "relational"])


@pytest.fixture
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JTS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_commands_from_nothing_to_a_schema_that_agrees() -> None:
    missing = invoke("check", "--format", "github")
    assert missing.exit_code == 1
    assert missing.stdout.startswith("::error title=relational ")
    planned = invoke("migrate", "up", "--dry-run")
    assert planned.stdout == (
        "plan: relational up 0001 bookkeeping\nplan: relational up 0002 applied commits\n"
    )
    assert "CREATE TABLE" in invoke("migrate", "up", "--sql").stdout
    assert invoke("migrate", "sql").stdout.count("INSERT INTO jts_schema_log") == 2
    done = json.loads(invoke("migrate", "up", "--json").stdout)
    assert [step["revision"] for step in done["steps"]] == ["0001", "0002"]
    agrees = invoke("check", "--json")
    assert (agrees.exit_code, json.loads(agrees.stdout)["agrees"]) == (0, True)
    assert "applied" in invoke("migrate", "status").stdout
    assert json.loads(invoke("migrate", "status", "--json").stdout)[0]["state"] == "applied"
    assert invoke("migrate", "down").exit_code == 1, "it asks, and nobody answers"
    assert invoke("migrate", "down", "--yes").exit_code == 0
    assert invoke("check").exit_code == 1
    assert invoke("migrate", "stamp", "head").exit_code == 0


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_what_cannot_be_looked_at_is_told_from_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JTS_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:9/jts")
    blind = invoke("check")
    assert blind.exit_code == 2
    assert "connection failed" in blind.output
    assert "secret" not in blind.output


def test_a_new_migration_is_written_with_the_next_number(folder: Path) -> None:
    made = invoke("migrate", "new", "Add a thing!", "--post", "--folder", str(folder))
    assert made.stdout.strip().endswith("relational/versions/0003_post_add_a_thing.py")


async def test_what_is_printed_for_mongosh_are_the_commands_that_would_run(
    mongo: MongoDBManager,
) -> None:
    databases = migrate.Databases(mongo=mongo)
    printed = await migrate.sql(databases, migrate.Goal())
    assert await mongo.db.list_collection_names() == []
    commands = re.findall(r"db\.runCommand\((.*)\);", printed)
    for name in re.findall(r'db\.createCollection\("(\w+)"\)', printed):
        await mongo.db.create_collection(name)
    for command in commands:
        await mongo.db.command(json.loads(command))
    assert commands
    await migrate.stamp(databases, "head")
    assert await migrate.check(databases) == []
    assert "dropIndex" in await migrate.sql(databases, migrate.Goal("down", "base"))
