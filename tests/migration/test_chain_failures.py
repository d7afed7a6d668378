"""A service's migrations that fail, die, race, or lie in a folder that is wrong."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.migrate import files
from jts_storage.mongo import MongoDBManager
from jts_storage.relational.manager import DatabaseManager
from jts_storage.testing.clickhouse_server import ClickHouseServer
from tests.migration.conftest import fresh_name, quiet
from tests.migration.service import FIRST, Service, names_in, only, states
from tests.runs import some_by_day

RUNNER = Path(__file__).with_name("service_process.py")
DIES = """import os, pathlib, signal

if pathlib.Path({flag!r}).exists():
    os.kill(os.getpid(), signal.SIGKILL)

"""


# ---- failures


@pytest.mark.parametrize("store", files.STORES)
async def test_a_failing_migration_names_its_chain_and_file(
    both: migrate.Databases, service: Service, store: files.Store
) -> None:
    given = only(both, store)
    path = service.fail(store)
    with pytest.raises(StorageError) as failed:
        await migrate.up(given, report=quiet)
    assert f"{store} service up 0002 fails ({path}): RuntimeError: half done" in str(failed.value)
    assert {line.state for line in await migrate.status(given, "kit")} == {"applied"}
    expected = "pending" if store == "relational" else "applied"
    assert await states(given) == {f"{store} 0001": expected, f"{store} 0002": "pending"}
    path.unlink()
    service.grow()
    await migrate.up(given, report=quiet)
    assert set((await states(given)).values()) == {"applied"}


async def test_an_error_of_the_database_keeps_its_kind(
    clickhouse: ClickHouseManager, service: Service
) -> None:
    path = service.path("clickhouse")
    path.write_text(path.read_text().replace("UInt64, version", "NoType, version"))
    databases = migrate.Databases(clickhouse, service=service.folder)
    with pytest.raises(StorageError, match=r"Migration failed: .*0001_made\.py.*NoType") as failed:
        await migrate.up(databases, report=quiet)
    assert failed.value.code is not None
    assert failed.value.remedy == "Mend 0001_made.py and run the command again."


@pytest.mark.parametrize("store", files.STORES)
async def test_a_new_file_changes_nothing_until_it_is_filled_in(
    both: migrate.Databases, service: Service, store: files.Store
) -> None:
    given = only(both, store)
    await migrate.up(given, report=quiet)
    names = await names_in(given)
    path = migrate.new(store, "add a venue", folder=service.folder)
    message = rf"\({re.escape(str(path))}\): .*Write what \"add a venue\" changes\. Mend "
    with pytest.raises(StorageError, match=message):
        await migrate.sql(given, migrate.Goal())
    with pytest.raises(StorageError, match=message):
        await migrate.up(given, report=quiet)
    assert await names_in(given) == names
    assert await states(given) == {f"{store} 0001": "applied", f"{store} 0002": "pending"}


async def test_one_store_that_fails_does_not_stop_the_others(
    both: migrate.Databases, service: Service
) -> None:
    service.fail("mongo")
    with pytest.raises(StorageError, match="half done"):
        await migrate.up(both, report=quiet)
    assert {name: state for name, state in (await states(both)).items() if "0001" in name} == {
        f"{store} 0001": "applied" for store in files.STORES
    }


def spoil(service: Service, how: str) -> dict[str, Any]:
    """Make a folder wrong; what the error names."""
    folder = service.folder
    sql = folder / "relational"
    if how == "missing":
        shutil.rmtree(folder)
        return {"match": f"{folder}, which should hold the service's migrations, is no folder"}
    if how == "name":
        service.write("mongo", "first.py", "")
        return {"match": f"{folder / 'mongo' / 'first.py'} is no name of a migration"}
    if how == "twice":
        service.write("mongo", "0001_other.py", "")
        return {"match": f"{folder / 'mongo' / '0001_made.py'} and 0001_other.py have one number"}
    if how == "gap":
        service.write("mongo", "0003_later.py", "")
        return {"match": f"{folder / 'mongo' / '0003_later.py'} should have the number 0002"}
    if how == "inside":
        service.write("relational", "0002_copied.py", FIRST["relational"])
        return {"match": f'{sql / "0002_copied.py"} has another number inside.* revision = "0002"'}
    if how == "store":
        sql.rename(folder / "sql")
        return {"match": f"{folder / 'sql' / '0001_made.py'} belongs to no store"}
    (folder / "0001_made.py").write_text("")
    return {"match": f"{folder / '0001_made.py'} belongs to no store"}


@pytest.mark.parametrize("how", ["missing", "name", "twice", "gap", "inside", "store", "top"])
async def test_a_bad_folder_is_refused_with_the_path(
    both: migrate.Databases, service: Service, how: str
) -> None:
    match = spoil(service, how)
    for work in (migrate.up(both), migrate.status(both), migrate.check(both)):
        with pytest.raises(InvalidConfiguration, **match):
            await work
    assert await names_in(both) == set(), "nothing was begun"


# ---- processes


@pytest.fixture
def places(tmp_path: Path, mongod: LocalMongod) -> dict[str, Any]:
    """Empty databases that a process of its own can reach."""
    return {
        "clickhouse": {"embedded_path": str(tmp_path / "clickhouse")},
        "mongo": {"uri": mongod.uri, "database": fresh_name("chains")},
        "database": str(tmp_path / "books.db"),
    }


async def run(places: dict[str, Any], service: Service, code: int = 0) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(RUNNER)),
        json.dumps(places | {"service": str(service.folder)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == code, err.decode()
    found: list[str] = json.loads(out) if out else []
    return found


def dying(source: str, flag: Path, *, within_a_step: bool) -> str:
    """A migration that kills its process while the flag is there.

    Files are loaded when the kit's chain is done: what they do first is between both chains.
    """
    dies = DIES.format(flag=str(flag))
    if not within_a_step:
        return dies + source
    step = "    " + dies.strip().replace("\n", "\n    ")
    return re.sub(r"\n\n\n(async def down|def downgrade)", rf"\n{step}\n\n\n\1", source)


@pytest.mark.parametrize(
    ("store", "within_a_step"),
    some_by_day([("clickhouse", True), ("mongo", False), ("relational", True)]),
)
async def test_a_runner_that_died_is_followed_by_one_that_goes_on(
    places: dict[str, Any],
    service: Service,
    tmp_path: Path,
    store: files.Store,
    within_a_step: bool,
) -> None:
    flag = tmp_path / "die"
    flag.touch()
    service.write(store, "0001_made.py", dying(FIRST[store], flag, within_a_step=within_a_step))
    key = "database" if store == "relational" else store
    given: dict[str, Any] = {key: places[key]}
    assert await run(given, service, -signal.SIGKILL) == []
    flag.unlink()
    taken = await run(given, service)
    assert taken == [f"{store} service up 0001 made"], "the kit's chain was done"


async def test_two_runners_never_apply_a_step_twice(
    mongod: LocalMongod, postgres: LocalPostgres, service: Service
) -> None:
    service.grow()
    name = fresh_name("raced")
    with ClickHouseServer() as server:
        address: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
        with ClickHouseManager(**address, database="default") as admin:
            admin.execute(f"CREATE DATABASE {name}")
        places: dict[str, Any] = {
            "clickhouse": {**address, "database": name},
            "mongo": {"uri": mongod.uri, "database": name},
            "database": postgres.create_database(name),
        }
        outcomes = await asyncio.gather(run(places, service), run(places, service))
        taken = sorted(step for steps in outcomes for step in steps)
        assert len(taken) == len(set(taken))
        own = [step for step in taken if " service " in step]
        assert len(own) == 6
        kit = sum(len(files.discover(store)) for store in files.STORES)
        assert len(taken) == kit + 6
        with ClickHouseManager(**address, database=name) as clickhouse:
            logged = "SELECT revision FROM jts_schema_log_service ORDER BY id"
            assert clickhouse.execute(logged) == [("0001",), ("0002",)]
    async with (
        MongoDBManager(**places["mongo"]) as mongo,
        DatabaseManager(places["database"]) as database,
    ):
        log = mongo.get_collection("jts_schema_log_service")
        assert await log.distinct("revision") == ["0001", "0002"]
        assert await log.count_documents({}) == 2
        given = migrate.Databases(mongo=mongo, database=database, service=service.folder)
        assert {line.state for line in await migrate.status(given)} == {"applied"}
