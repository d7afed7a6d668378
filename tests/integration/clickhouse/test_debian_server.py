"""The pool, the retries and the health check against a real server process that dies and hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import ConnectionFailed

_spec = spec_from_file_location("debian_server", Path(__file__).with_name("debian_server.py"))
assert _spec is not None
assert _spec.loader is not None
debian_server = module_from_spec(_spec)
sys.modules["debian_server"] = debian_server
_spec.loader.exec_module(debian_server)

TABLE = "CREATE TABLE numbers_kept (n Int64, name String) ENGINE = MergeTree ORDER BY n"

pytestmark = pytest.mark.skipif(
    debian_server.find_server() is None,
    reason="NOT RUN: no clickhouse-server here; on Debian, scripts/old_clickhouse.sh brings it",
)


@pytest.fixture
def server(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Any]:
    with debian_server.DebianServer(tmp_path) as server:
        engine_used("ClickHouse server 18.16 of Debian")
        yield server


def manager(server: Any, **fields: Any) -> ClickHouseManager:
    usual = {"host": server.host, "port": server.port, "database": "default"}
    return ClickHouseManager(
        **{**usual, "retry_base_delay": 0.02, "retry_max_delay": 0.2, **fields}
    )


def test_many_statements_make_one_connection(server: Any) -> None:
    with manager(server) as clickhouse:
        for number in range(50):
            assert clickhouse.execute("SELECT %(n)s", {"n": number}) == [(number,)]
        with clickhouse.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        open_now = "SELECT toInt64(value) FROM system.metrics WHERE metric = 'TCPConnection'"
        assert clickhouse.execute(open_now) == [(1,)]
        assert server.connections_made == 1


def test_threads_make_no_more_connections_than_the_pool_holds(server: Any) -> None:
    with manager(server, pool_size=3) as clickhouse, ThreadPoolExecutor(12) as threads:
        rows = threads.map(lambda n: clickhouse.execute(f"SELECT {n}, sleep(0.01)"), range(60))
        assert [row[0][0] for row in rows] == list(range(60))
    assert server.connections_made <= 3


def test_columns_go_out_and_come_back(server: Any) -> None:
    values = np.arange(200_000, dtype=np.int64) * 7_919
    names = [f"row {n % 13}" for n in range(len(values))]
    with manager(server) as clickhouse:
        clickhouse.execute(TABLE)
        written = clickhouse.insert_columns("numbers_kept", {"n": values, "name": names})
        stored = clickhouse.read_columns("SELECT n, name FROM numbers_kept ORDER BY n")
    assert written == len(values)
    np.testing.assert_array_equal(stored["n"], values)
    assert list(stored["name"]) == names


def test_after_a_restart_the_next_safe_statement_succeeds(server: Any) -> None:
    with manager(server) as clickhouse:
        clickhouse.execute(TABLE)
        clickhouse.insert_columns("numbers_kept", {"n": np.array([1, 2]), "name": ["a", "b"]})
        server.kill()
        server.start()
        assert clickhouse.execute("SELECT sum(n) FROM numbers_kept") == [(3,)]
        assert server.connections_made == 2


def test_reads_wait_out_a_restart_and_what_may_not_be_repeated_fails(server: Any) -> None:
    with manager(server, max_retries=50) as clickhouse:
        clickhouse.execute(TABLE)
        clickhouse.insert_columns("numbers_kept", {"n": np.array([4]), "name": ["a"]})
        server.kill()
        restart = threading.Timer(0.3, server.start)
        restart.start()
        assert clickhouse.execute("SELECT n FROM numbers_kept") == [(4,)]
        restart.join()
    with manager(server, max_retries=0) as hasty:
        server.kill()
        with pytest.raises(ConnectionFailed, match=str(server.port)):
            hasty.insert_columns("numbers_kept", {"n": np.array([5]), "name": ["b"]})


def test_a_stopped_server_is_unhealthy_soon_and_healthy_when_it_goes_on(server: Any) -> None:
    with manager(server) as clickhouse:
        assert clickhouse.health_check()
        server.freeze()
        began = time.monotonic()
        assert not clickhouse.health_check()
        # Half a second is promised; the rest is for a busy machine, and far below any timeout.
        assert time.monotonic() - began < 2
        server.thaw()
        give_up = time.monotonic() + 10
        while not clickhouse.health_check():
            assert time.monotonic() < give_up
