"""The local PostgreSQL: what tests of other parts rely on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from jts_storage.errors import ConnectionFailed, InvalidConfiguration, InvalidData
from jts_storage.local_servers.postgres import LocalPostgres, find_postgres

_USER = """
import sys
from jts_storage.local_servers.postgres import LocalPostgres
postgres = LocalPostgres.start()
print(postgres.pid, postgres._folder.path, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalPostgres]:
    with LocalPostgres.start() as postgres:
        yield postgres


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        yield connection
    finally:
        connection.terminate()


async def answer(dsn: str, question: str) -> object:
    async with connected(dsn) as connection:
        return await connection.fetchval(question)


async def test_listens_on_loopback_with_utf8(postgres: LocalPostgres) -> None:
    assert await answer(postgres.dsn, "SHOW listen_addresses") == "127.0.0.1"
    assert await answer(postgres.dsn, "SHOW server_encoding") == "UTF8"
    assert postgres.dsn == f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"


async def test_databases_are_made_copied_and_dropped(postgres: LocalPostgres) -> None:
    source = postgres.create_database("source")
    async with connected(source) as connection:
        await connection.execute("CREATE TABLE numbers AS SELECT 1 AS n")
    copy = postgres.create_database("copy", template="source")
    assert await answer(copy, "SELECT sum(n) FROM numbers") == 1
    async with connected(copy):
        postgres.drop_database("copy")
        postgres.drop_database("copy")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await answer(copy, "SELECT 1")


def test_a_failing_statement_says_why(postgres: LocalPostgres) -> None:
    postgres.create_database("twice")
    with pytest.raises(ConnectionFailed, match='database "twice" already exists'):
        postgres.create_database("twice")


@pytest.mark.parametrize("name", ["", 'a"; DROP', "Upper", "a" * 64, "9lives", "a\n"])
def test_names_that_need_quoting_are_refused(postgres: LocalPostgres, name: str) -> None:
    with pytest.raises(InvalidData):
        postgres.create_database(name)


async def test_settings_reach_the_server_and_fsync_is_chosen(postgres: LocalPostgres) -> None:
    assert await answer(postgres.dsn, "SHOW fsync") == "off"
    with LocalPostgres.start(fsync=True, settings={"max_connections": "7"}) as durable:
        assert durable.port != postgres.port
        assert await answer(durable.dsn, "SHOW fsync") == "on"
        assert await answer(durable.dsn, "SHOW max_connections") == "7"


@pytest.mark.parametrize("crash", [True, False], ids=["crash", "orderly"])
async def test_committed_rows_survive_a_restart_on_the_same_port(crash: bool) -> None:
    with LocalPostgres.start() as postgres:
        async with connected(postgres.dsn) as connection:
            await connection.execute("CREATE TABLE numbers (n int)")
            await connection.execute("INSERT INTO numbers VALUES (1)")
            before = postgres.pid
            if crash:
                postgres.kill()
                with pytest.raises(OSError, match="Connect"):
                    await asyncpg.connect(postgres.dsn)
            postgres.restart()
        assert postgres.pid != before
        assert await answer(postgres.dsn, "SELECT sum(n) FROM numbers") == 1


def test_what_a_crashed_server_left_is_not_taken_for_readiness() -> None:
    with LocalPostgres.start() as postgres:
        crashed = postgres._running
        postgres.kill()
        assert postgres._is_ready(crashed)
        assert not postgres._is_ready(replace(crashed, pid=1))


def test_stop_leaves_neither_process_nor_folder() -> None:
    postgres = LocalPostgres.start()
    pid, folder = postgres.pid, postgres._folder.path
    postgres.stop()
    postgres.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()
    with pytest.raises(ConnectionFailed, match="does not run"):
        _ = postgres.pid


def test_kill_of_its_user_leaves_neither_process_nor_folder() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        pid, folder = user.stdout.readline().split()
        user.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() or Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_setting_it_does_not_know_shows_its_last_words() -> None:
    with pytest.raises(ConnectionFailed, match="no_such_setting"):
        LocalPostgres.start(settings={"no_such_setting": "1"})


@pytest.fixture
def private_binaries(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return shutil.copytree(find_postgres().parent, tmp_path / "install") / "bin"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another account")
async def test_programs_that_nobody_may_read_are_copied(private_binaries: Path) -> None:
    with LocalPostgres.start(binaries=private_binaries) as postgres:
        assert await answer(postgres.dsn, "SELECT 1") == 1


def test_no_programs_and_wrappers_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="held no postgres"):
        find_postgres(tmp_path)
    for tool in ("postgres", "initdb", "psql"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    with pytest.raises(InvalidConfiguration, match="jts-storage\\[test\\]"):
        find_postgres(tmp_path)


@pytest.mark.skipif(
    not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    reason="Debian's PostgreSQL is not installed",
)
async def test_debians_server_is_taken_when_the_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_postgres().is_relative_to("/usr/lib/postgresql")
    with LocalPostgres.start() as postgres:
        assert await answer(postgres.dsn, "SELECT 1") == 1
