"""The command-line client of Debian's ClickHouse, from 2018, against the endpoint."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from jts_storage.testing.clickhouse_server import ClickHouseServer

pytestmark = pytest.mark.skipif(
    shutil.which("clickhouse-client") is None,
    reason="NOT RUN: no clickhouse-client here; on Debian, scripts/old_clickhouse.sh brings it",
)


@pytest.fixture(scope="module")
def server(engine_used: Callable[[str], None]) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(database="jts_test") as server:
        engine_used(f"ClickHouse over TCP (chDB {server.version}), asked by clickhouse-client")
        yield server


def ask(
    server: ClickHouseServer, query: str, *options: str, data: str = ""
) -> subprocess.CompletedProcess[str]:
    address = ["--host", server.host, "--port", str(server.port)]
    return subprocess.run(
        ["clickhouse-client", *address, *options, "--query", query],
        input=data,
        capture_output=True,
        text=True,
        timeout=30,
    )


def answer(server: ClickHouseServer, query: str, *options: str, data: str = "") -> str:
    done = ask(server, query, *options, data=data)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("compression", ["0", "1"])
def test_it_connects_and_runs_a_query(server: ClickHouseServer, compression: str) -> None:
    query = "SELECT number, toString(number), toDate('2024-01-02') FROM numbers(3)"
    expected = "".join(f"{n}\t{n}\t2024-01-02\n" for n in range(3))
    assert answer(server, query, "--compression", compression) == expected


def test_formats_are_its_own_business(server: ClickHouseServer) -> None:
    assert answer(server, "SELECT 1 AS a, 'x' AS b FORMAT JSONEachRow") == '{"a":1,"b":"x"}\n'


def test_it_inserts_what_it_reads(server: ClickHouseServer) -> None:
    answer(server, "CREATE TABLE kept (n Int32, s String) ENGINE = MergeTree ORDER BY n")
    answer(server, "INSERT INTO kept VALUES (1, 'a'), (2, 'b')")
    answer(server, "INSERT INTO kept FORMAT TabSeparated", data="3\tc\n")
    assert answer(server, "SELECT * FROM kept ORDER BY n") == "1\ta\n2\tb\n3\tc\n"


def test_its_settings_arrive_as_numbers_and_as_texts(server: ClickHouseServer) -> None:
    options = ("--max_block_size", "7", "--max_threads", "2", "--totals_auto_threshold", "0.25")
    query = (
        "SELECT value FROM system.settings WHERE name IN"
        " ('max_block_size', 'max_threads', 'totals_auto_threshold') ORDER BY name"
    )
    assert answer(server, query, *options) == "7\n2\n0.25\n"


def test_it_shows_the_errors_of_the_engine(server: ClickHouseServer) -> None:
    done = ask(server, "SELECT nonsense")
    assert done.returncode != 0
    assert "Code: 47" in done.stderr


def test_it_works_in_the_database_that_it_names(server: ClickHouseServer) -> None:
    assert answer(server, "SELECT currentDatabase()", "-d", "default") == "default\n"
    assert answer(server, "SELECT currentDatabase()", "-d", "jts_test") == "jts_test\n"
    assert "Code: 81" in ask(server, "SELECT 1", "-d", "nowhere").stderr
