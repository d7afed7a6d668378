"""Health is told within half a second with the default settings, whatever hangs.

Everywhere else `conftest` allows it more, for the sake of busy machines.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from statistics import median

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.clickhouse.embedded import engine
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing.clickhouse_server import ServerProcess
from jts_storage.testing.fault_proxy import FaultProxy
from jts_storage.testing.faults import Faults
from tests.prepared import Prepared
from tests.runs import some_by_day

BOUND = 0.5
MARGIN = 0.25
"""What the event loop of a busy machine may add to most of a few tries."""

TRIES = 5
STORES = ("clickhouse", "mongo", "database")
LONG = 20.0


async def told_in_time(storage: Storage) -> list[dict[str, bool]]:
    """What some calls tell, most of them within the bound.

    Not the quickest: one that joins the question of the call before it hardly waits.
    """
    told, asked = [], []
    for _ in range(TRIES):
        begun = time.monotonic()
        told.append(dict(await storage.health()))
        asked.append(time.monotonic() - begun)
    assert median(asked) < BOUND + MARGIN, asked
    assert max(asked) < BOUND + LONG, asked
    return told


async def assert_told_in_time(storage: Storage, *hung: str) -> None:
    """What hangs is told each time, and once at least nothing else."""
    told = await told_in_time(storage)
    assert not any(each[name] for each in told for name in hung), told
    assert {name: name not in hung for name in STORES} in told


async def assert_well_again(storage: Storage) -> None:
    give_up = time.monotonic() + LONG
    while not (health := await storage.health()).is_well:
        assert time.monotonic() < give_up, health


@pytest.fixture(autouse=True)
def no_more_time_than_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("JTS_"):
            monkeypatch.delenv(name)


# On servers


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[tuple[StorageSettings, dict[str, Faults]]]:
    """Where the stores are, and what makes each hang."""
    folder = tmp_path_factory.mktemp("health")
    with ExitStack() as stack:
        mongod = stack.enter_context(LocalMongod.acquire(folder / "mongo"))
        clickhouse = ServerProcess(folder / "clickhouse").start()
        stack.callback(clickhouse.kill)
        postgres = stack.enter_context(LocalPostgres.start())
        mongo, series, sql = (
            stack.enter_context(FaultProxy("127.0.0.1", server.port))
            for server in (mongod, clickhouse, postgres)
        )
        for name in ("mongod", "PostgreSQL", "ClickHouse endpoint over chDB"):
            engine_used(name)
        to_sql = postgres.dsn.replace(f":{postgres.port}/", f":{sql.port}/")
        settings = StorageSettings(
            mongo_url=SecretStr(f"mongodb://127.0.0.1:{mongo.port}/?directConnection=true"),
            clickhouse_url=SecretStr(f"clickhouse://127.0.0.1:{series.port}/jts"),
            database_url=SecretStr(to_sql),
            data_dir=folder / "unused",
            migrate=True,
        )
        yield (
            settings,
            {"clickhouse": series.faults, "mongo": mongo.faults, "database": sql.faults},
        )


@pytest.fixture
async def on_servers(
    servers: tuple[StorageSettings, dict[str, Faults]],
) -> AsyncIterator[tuple[Storage, dict[str, Faults]]]:
    given, faults = servers
    settings = StorageSettings(**given.model_dump(exclude={"health_timeout"}))
    async with Storage.open(settings) as storage:
        try:
            yield storage, faults
        finally:
            for each in faults.values():
                each.clear()


@pytest.mark.parametrize("name", some_by_day(STORES))
async def test_a_server_that_hangs_is_told_in_time(
    on_servers: tuple[Storage, dict[str, Faults]], name: str
) -> None:
    storage, faults = on_servers
    await assert_well_again(storage)
    faults[name].hang()
    await assert_told_in_time(storage, name)
    faults[name].clear()
    await assert_well_again(storage)


async def test_all_servers_that_hang_take_no_longer_than_one(
    on_servers: tuple[Storage, dict[str, Faults]],
) -> None:
    storage, faults = on_servers
    for each in faults.values():
        each.hang()
    await assert_told_in_time(storage, *STORES)


async def test_answers_that_trickle_in_take_no_longer(
    on_servers: tuple[Storage, dict[str, Faults]],
) -> None:
    """Each of them is just in time, but a check needs several."""
    storage, faults = on_servers
    for each in faults.values():
        each.delay(0.3)
    told = await told_in_time(storage)
    assert not all(told[0].values()), "more than a check can wait for, of one store at least"


# Embedded


@asynccontextmanager
async def engine_busy(storage: Storage) -> AsyncIterator[None]:
    """Somebody in this process opens the engine, on a disk that does not answer."""
    with engine._engine._lock:
        yield


@asynccontextmanager
async def mongod_stopped(storage: Storage) -> AsyncIterator[None]:
    mongod = storage._backend._mongod  # type: ignore[attr-defined]
    os.kill(mongod.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mongod.pid, signal.SIGCONT)


@asynccontextmanager
async def file_held(storage: Storage) -> AsyncIterator[None]:
    """Somebody has the file of the bookkeeping for himself, which keeps readers out, too."""
    pool = storage.database.pool
    while (link := pool.take_idle()) is not None:  # while they live, nobody can have it alone
        pool.discard(link)
    await asyncio.wait([*pool._endings])
    path = storage.database.config.path
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


EMBEDDED = {"clickhouse": engine_busy, "mongo": mongod_stopped, "database": file_held}


@pytest.mark.parametrize("name", some_by_day(reversed(STORES)))
async def test_an_embedded_store_that_hangs_is_told_in_time(
    tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None], name: str
) -> None:
    prepared.copy(tmp_path)
    for used in ("chDB", "mongod", "SQLite"):
        engine_used(used)
    async with Storage.open(StorageSettings(data_dir=tmp_path)) as storage:
        await assert_well_again(storage)
        async with EMBEDDED[name](storage):
            await assert_told_in_time(storage, name)
        await assert_well_again(storage)
