"""The pool on real sockets: counted at the server, broken on purpose."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from jts_storage._runtime.steps import WAITED, listener
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import ConnectionFailed, PoolTimeout, StorageError
from jts_storage.testing.clickhouse_server import ClickHouseServer


@pytest.fixture(scope="module")
def shared_server(engine_used: Callable[[str], None]) -> Iterator[ClickHouseServer]:
    with ClickHouseServer() as server:
        engine_used(f"ClickHouse over TCP (chDB {server.version})")
        yield server


@pytest.fixture
def server(shared_server: ClickHouseServer) -> Iterator[ClickHouseServer]:
    yield shared_server
    shared_server.faults.clear()
    shared_server.cut_connections()
    _until(lambda: shared_server.open_connections == 0)
    shared_server.reset_counts()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _manager(server: ClickHouseServer, **fields: Any) -> ClickHouseManager:
    usual: dict[str, Any] = {"host": server.host, "port": server.port}
    quick = {"retry_base_delay": 0.01, "retry_max_delay": 0.05}
    return ClickHouseManager(**usual | quick | fields)


def test_nothing_is_opened_before_it_is_needed(server: ClickHouseServer) -> None:
    manager = _manager(server)
    states = [(manager.is_connected, server.accepted)]
    with manager:
        states.append((manager.is_connected, server.accepted))
    states.append((manager.is_connected, server.accepted))
    assert states == [(False, 0), (True, 1), (False, 1)]
    _until(lambda: server.open_connections == 0)


def test_many_statements_make_one_connection(server: ClickHouseServer) -> None:
    with _manager(server) as manager:
        for number in range(200):
            assert manager.execute("SELECT %(n)s", {"n": number}) == [(number,)]
        with manager.engine.connect() as connection:
            for number in range(20):
                assert connection.scalar(sa.text("SELECT :n"), {"n": number}) == number
        manager.read_columns("SELECT 1 AS a")
        assert server.accepted == 1


@pytest.fixture
def many_open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    yield
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_open_files")
def test_a_process_with_many_open_files_is_served() -> None:
    with ClickHouseServer() as server, _manager(server) as manager:
        assert manager.execute("SELECT 1") == [(1,)]
        assert manager.execute("SELECT 2") == [(2,)]
        assert server.accepted == 1


def test_a_broken_connection_is_replaced_unnoticed(server: ClickHouseServer) -> None:
    with _manager(server) as manager:
        manager.execute("SELECT 1")
        server.cut_connections()
        _until(lambda: server.open_connections == 0)
        assert manager.execute("SELECT 2") == [(2,)]
        assert server.accepted == 2
        server.cut_connections()
        _until(lambda: server.open_connections == 0)
        with manager.engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 3")) == 3


@pytest.mark.parametrize(("idle_check", "is_asked"), [(0.05, True), (60.0, False)])
def test_an_idle_connection_that_answers_no_more_is_replaced_before_use(
    server: ClickHouseServer, idle_check: float, is_asked: bool
) -> None:
    quick = {"idle_check": idle_check, "connect_timeout": 0.2, "max_retries": 50}
    with _manager(server, **quick) as manager:
        manager.execute("CREATE OR REPLACE TABLE idle (a Int64) ENGINE = MergeTree ORDER BY a")
        time.sleep(0.1)
        assert manager.execute("SELECT count() FROM idle") == [(0,)]
        assert server.accepted == 1  # an idle one that answers is used
        time.sleep(0.1)
        server.faults.hang()
        recovery = threading.Timer(0.4, server.faults.clear)
        recovery.start()
        manager.execute_many("INSERT INTO idle (a) VALUES", [(1,)])
        recovery.join()
        assert (server.accepted > 1) is is_asked
        assert manager.execute("SELECT count() FROM idle") == [(1,)]


def test_a_read_cut_in_the_middle_is_repeated(server: ClickHouseServer) -> None:
    with _manager(server) as manager:
        manager.connect()
        server.faults.cut(after_bytes=100_000)
        repaired = threading.Timer(0.02, server.faults.clear)
        repaired.start()
        columns = manager.read_columns("SELECT number AS n FROM numbers(1000000)")
        repaired.join()
        assert columns["n"].sum() == sum(range(1_000_000))


def test_a_cut_write_is_repeated_only_when_that_is_safe(server: ClickHouseServer) -> None:
    with _manager(server, max_retries=2) as manager:
        manager.execute("CREATE OR REPLACE TABLE w (a Int64) ENGINE = MergeTree ORDER BY a")
        accepted = server.accepted
        server.faults.cut(after_bytes=0)
        with pytest.raises(ConnectionFailed, match="ClickHouse connection failed"):
            manager.execute_many("INSERT INTO w (a) VALUES", [(1,)])
        once = server.accepted - accepted
        with pytest.raises(ConnectionFailed):
            manager.execute_many("INSERT INTO w (a) VALUES", [(1,)], idempotent=True)
        assert once == 0
        assert server.accepted - accepted >= 2


def test_a_syntax_error_is_never_repeated(server: ClickHouseServer) -> None:
    with _manager(server) as manager:
        with pytest.raises(StorageError) as caught:
            manager.execute("SELECT sum(")
        assert caught.value.code == 62
        assert server.accepted == 1


def test_an_abandoned_stream_poisons_nothing(server: ClickHouseServer) -> None:
    with _manager(server, pool_size=1, pool_timeout=5) as manager:
        for _ in range(3):
            stream = manager.stream_columns("SELECT number FROM numbers(10000000)")
            next(stream)
            stream.close()
            assert manager.execute("SELECT 1") == [(1,)]
        with manager.engine.connect() as connection:
            rows = connection.execution_options(stream_results=True).execute(
                sa.text("SELECT number FROM numbers(1000000)")
            )
            assert rows.fetchone() == (0,)
            rows.close()
            assert connection.scalar(sa.text("SELECT 2")) == 2
        assert manager.pool_status().in_use == 0


def test_64_threads_share_8_connections(server: ClickHouseServer) -> None:
    with _manager(server, pool_size=8) as manager, ThreadPoolExecutor(64) as threads:
        gate = threading.Barrier(64)

        def work(number: int) -> Any:
            gate.wait(10)
            return [
                manager.execute("SELECT %(n)s, sleep(0.005)", {"n": number})[0][0] for _ in "ab"
            ]

        results = list(threads.map(work, range(64), timeout=30))
        assert results == [[n, n] for n in range(64)]
        assert server.most_at_once <= 8
        assert server.accepted <= 8
        assert manager.pool_status().open <= 8


def test_an_exhausted_pool_says_so(server: ClickHouseServer) -> None:
    with (
        _manager(server, pool_size=1, pool_timeout=0.05) as manager,
        manager.transport() as held,
    ):
        assert manager.pool_status().in_use == 1
        steps: list[str] = []
        token = listener.set(SimpleNamespace(reached=steps.append))
        for statement in ("SELECT 1", sa.select(1)):
            with pytest.raises(PoolTimeout, match="pool_size"):
                manager.execute(statement)
        listener.reset(token)
        assert set(steps) == {WAITED}
        status = manager.pool_status()
        assert (status.waiting, status.timeouts) == (0, 2)
        assert manager.health_check()
        assert held.execute("SELECT 1") == [(1,)]


def test_a_host_that_is_down_is_passed_over(server: ClickHouseServer) -> None:
    with _manager(server, port=1, alt_hosts=(f"{server.host}:{server.port}",)) as manager:
        assert manager.execute("SELECT 1") == [(1,)]
        assert manager.health_check()


def test_when_all_hosts_are_down_all_are_named() -> None:
    manager = ClickHouseManager(
        host="127.0.0.1", port=1, alt_hosts=("127.0.0.1:2",), max_retries=1, retry_base_delay=0.01
    )
    with pytest.raises(ConnectionFailed, match="ClickHouse connection failed") as caught:
        manager.connect()
    assert caught.value.hosts == ("127.0.0.1:1", "127.0.0.1:2")
    assert "127.0.0.1:1, 127.0.0.1:2" in str(caught.value)
    assert not manager.health_check()


def test_a_server_that_comes_back_is_found_by_retries(server: ClickHouseServer) -> None:
    server.faults.refuse()
    back = threading.Timer(0.1, server.faults.clear)
    back.start()
    with _manager(server, max_retries=10, retry_max_delay=0.1) as manager:
        assert manager.execute("SELECT 1") == [(1,)]
    back.join()


async def test_blocking_work_runs_in_as_many_threads_as_there_are_connections(
    server: ClickHouseServer,
) -> None:
    with _manager(server, pool_size=3, pool_timeout=0.5) as manager:
        queries = (manager.run(manager.execute, f"SELECT {n}, sleep(0.01)") for n in range(30))
        results = await asyncio.gather(*queries)
        assert [rows[0][0] for rows in results] == list(range(30))
        assert server.most_at_once <= 3


def test_a_closed_manager_says_so(server: ClickHouseServer) -> None:
    manager = _manager(server)
    manager.connect()
    manager.close()
    manager.close()
    assert not manager.health_check()
    with pytest.raises(StorageError, match="closed"):
        manager.execute("SELECT 1")


_FORKING = """
import asyncio, os, sys
from jts_storage.clickhouse.manager import ClickHouseManager

manager = ClickHouseManager(host=sys.argv[1], port=int(sys.argv[2]), max_retries=0).connect()
asyncio.run(manager.run(manager.execute, "SELECT 1"))
child = os.fork()
name = "child" if child == 0 else "parent"
for turn in range(40):
    query = f"SELECT number, '{name}' FROM numbers({turn * 100 + 1})"
    rows = asyncio.run(manager.run(manager.execute, query))
    assert len(rows) == turn * 100 + 1 and {row[1] for row in rows} == {name}, (name, rows[:3])
if child == 0:
    os._exit(0)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_has_connections_and_threads_of_its_own(server: ClickHouseServer) -> None:
    """With those of its parent each would get the other's rows, and wait for dead threads."""
    arguments = [sys.executable, "-W", "ignore", "-c", _FORKING, server.host, str(server.port)]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
