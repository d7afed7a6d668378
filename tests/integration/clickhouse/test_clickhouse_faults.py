"""Each way in which a server fails, on a real socket, and the error it becomes."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, SchemaDrift, StorageError
from jts_storage.testing.clickhouse_server import ClickHouseServer


@pytest.fixture(scope="module")
def server(engine_used: Callable[[str], None]) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(credentials={"default": "", "reader": "pa55word"}) as server:
        engine_used(f"ClickHouse over TCP (chDB {server.version})")
        with _manager(server) as manager:
            manager.execute("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        yield server


@pytest.fixture
def manager(server: ClickHouseServer) -> Iterator[ClickHouseManager]:
    with _manager(server) as manager:
        yield manager
        server.faults.clear()


def _manager(server: ClickHouseServer, **fields: Any) -> ClickHouseManager:
    usual: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "max_retries": 1,
        "retry_base_delay": 0.01,
    }
    return ClickHouseManager(**usual | fields)


def test_refused(server: ClickHouseServer, manager: ClickHouseManager) -> None:
    server.faults.refuse()
    with pytest.raises(ConnectionFailed, match="ClickHouse connection failed") as caught:
        manager.execute("SELECT 1")
    assert caught.value.hosts == (f"{server.host}:{server.port}",)
    assert not manager.health_check()


def test_cut_in_the_middle_of_a_result(
    server: ClickHouseServer, manager: ClickHouseManager
) -> None:
    server.faults.cut(after_bytes=50_000)
    with pytest.raises(ConnectionFailed, match="ClickHouse connection failed"):
        manager.read_columns("SELECT number FROM numbers(1000000)")
    server.faults.clear()
    assert manager.execute("SELECT 1") == [(1,)]


def test_cut_in_the_middle_of_a_stream(
    server: ClickHouseServer, manager: ClickHouseManager
) -> None:
    stream = manager.stream_columns("SELECT number FROM numbers(100000000)")
    next(stream)
    server.faults.cut(after_bytes=1000)
    with pytest.raises(ConnectionFailed):
        for _ in stream:
            pass
    server.faults.clear()
    assert manager.pool_status().in_use == 0
    assert manager.execute("SELECT 1") == [(1,)]


def test_slow_answers_arrive(server: ClickHouseServer, manager: ClickHouseManager) -> None:
    server.faults.delay(0.05)
    assert manager.execute("SELECT 1") == [(1,)]


def test_a_hanging_server_breaks_a_statement_after_its_timeout(server: ClickHouseServer) -> None:
    with _manager(server, send_receive_timeout=0.2, max_retries=0) as manager:
        server.faults.hang()
        try:
            with pytest.raises(ConnectionFailed, match="timed out"):
                manager.execute("SELECT 1")
        finally:
            server.faults.clear()


def test_a_statement_may_take_longer_than_connecting(server: ClickHouseServer) -> None:
    with _manager(server, connect_timeout=0.2, max_retries=0) as manager:
        assert manager.execute("SELECT sleep(0.5)") == [(0,)]
    with _manager(server, connect_timeout=10, send_receive_timeout=0.2, max_retries=0) as manager:
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match="timed out"):
            manager.execute("SELECT sleep(3)")
        assert time.monotonic() - begun < 2.9


def test_a_server_that_accepts_and_hangs_breaks_connecting_after_its_timeout(
    server: ClickHouseServer,
) -> None:
    manager = _manager(server, connect_timeout=0.2, max_retries=0)
    server.faults.hang()
    try:
        with pytest.raises(ConnectionFailed):
            manager.connect()
    finally:
        server.faults.clear()


def test_health_is_known_within_its_bound_when_the_server_hangs(
    server: ClickHouseServer, manager: ClickHouseManager
) -> None:
    assert manager.health_check()
    server.faults.hang()
    asked = []
    for _ in range(3):
        begun = time.monotonic()
        assert not manager.health_check()
        asked.append(time.monotonic() - begun)
    server.faults.clear()
    assert min(asked) < 0.5
    _eventually(manager.health_check)


def test_health_is_known_within_its_bound_when_every_answer_is_just_in_time(
    server: ClickHouseServer, manager: ClickHouseManager
) -> None:
    server.faults.delay(0.4)
    asked = []
    for _ in range(3):
        begun = time.monotonic()
        assert not manager.health_check()
        asked.append(time.monotonic() - begun)
    assert min(asked) < 0.7
    server.faults.clear()
    _eventually(manager.health_check)


def test_health_does_not_wait_for_a_busy_pool(server: ClickHouseServer) -> None:
    with _manager(server, pool_size=1) as manager, manager.transport():
        assert manager.health_check()


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("query", "kind", "code"),
    [
        ("SELECT * FROM absent", SchemaDrift, 60),
        ("SELECT absent FROM t", SchemaDrift, 47),
        ("SELECT * FROM absent.t", SchemaDrift, 81),
        ("INSERT INTO t (absent) SELECT 1", SchemaDrift, 16),
        ("SELECT sum(", StorageError, 62),
        ("SELECT throwIf(number = 500000) FROM numbers(1000000)", StorageError, 395),
    ],
)
def test_what_the_server_refuses(
    manager: ClickHouseManager, query: str, kind: type[StorageError], code: int
) -> None:
    with pytest.raises(StorageError) as caught:
        manager.execute(query)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.__cause__ is not None
    assert manager.execute("SELECT 1") == [(1,)]


def test_out_of_memory_for_a_query(manager: ClickHouseManager) -> None:
    with pytest.raises(StorageError, match="max_memory_usage") as caught:
        manager.execute(
            "SELECT groupArray(number) FROM numbers(10000000)",
            settings={"max_memory_usage": 10_000_000},
        )
    assert caught.value.code == 241


def test_too_slow_a_query(manager: ClickHouseManager) -> None:
    with pytest.raises(StorageError, match="max_execution_time") as caught:
        manager.execute(
            "SELECT sleepEachRow(0.1) FROM numbers(50) SETTINGS max_block_size = 1",
            settings={"max_execution_time": 0.3},
        )
    assert caught.value.code == 159


def test_read_only(server: ClickHouseServer) -> None:
    with _manager(server, readonly=True) as manager:
        assert manager.execute("SELECT count() FROM t") == [(0,)]
        with pytest.raises(StorageError, match="only read") as caught:
            manager.execute("INSERT INTO t VALUES (1)")
        assert caught.value.code == 164
        with pytest.raises(StorageError) as caught:
            manager.execute("DROP TABLE t")
        assert caught.value.code == 164


def test_a_wrong_password_is_not_tried_again_and_not_shown(server: ClickHouseServer) -> None:
    manager = _manager(server, user="reader", password="gu3ss", max_retries=5)
    before = server.accepted
    with pytest.raises(ConnectionFailed, match="user and the password") as caught:
        manager.connect()
    assert caught.value.code == 516
    assert "gu3ss" not in f"{caught.value} {caught.value!r} {manager!r} {manager.config!r}"
    assert server.accepted == before + 1
    with _manager(server, user="reader", password="pa55word") as admitted:
        assert admitted.execute("SELECT 1") == [(1,)]


def test_an_unknown_setting(server: ClickHouseServer) -> None:
    with (
        _manager(server, settings={"no_such_setting": 1}) as manager,
        pytest.raises(InvalidConfiguration, match="no_such_setting"),
    ):
        manager.execute("SELECT 1")


def test_errors_of_the_engine_are_sqlalchemys_and_can_be_translated(
    manager: ClickHouseManager,
) -> None:
    with pytest.raises(sa.exc.DatabaseError), manager.engine.connect() as connection:
        connection.execute(sa.text("SELECT * FROM absent"))
    with pytest.raises(SchemaDrift):
        manager.execute(sa.text("SELECT * FROM absent"))


def test_a_fault_in_one_thread_leaves_the_others_their_rows(
    server: ClickHouseServer, manager: ClickHouseManager
) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        for _ in range(20):
            rows = manager.execute("SELECT %(n)s FROM numbers(1000)", {"n": number})
            if rows != [(number,)] * 1000:
                failures.append(AssertionError(rows[:3]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with pytest.raises(SchemaDrift):
            manager.execute("SELECT * FROM absent")
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_tls(server: ClickHouseServer, tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ClickHouseServer(tls=context) as secret:
        with _manager(secret, secure=True, ca_file=str(certificate)) as manager:
            assert manager.execute("SELECT 1") == [(1,)]
            assert manager.read_columns("SELECT number AS n FROM numbers(9)")["n"].sum() == 36
            assert secret.accepted == 1
        with _manager(secret, secure=True, verify=False) as manager:
            assert manager.execute("SELECT 1") == [(1,)]
        with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
            _manager(secret, secure=True).connect()
