"""What clients of the native protocol may ask of the endpoint, by clickhouse-driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ErrorCodes, ServerException

from jts_storage.testing.clickhouse_server import ClickHouseServer


@pytest.fixture(scope="module")
def server(engine_used: Callable[[str], None]) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(database="jts_test") as server:
        engine_used(f"ClickHouse over TCP (chDB {server.version})")
        yield server


def client(server: ClickHouseServer, **options: Any) -> Client:
    return Client(server.host, server.port, **options)


@pytest.mark.parametrize("revision", [54032, 54412, 54441, 54442, 54468])
def test_clients_of_every_age_are_served(server: ClickHouseServer, revision: int) -> None:
    with client(server, client_revision=revision) as old:
        rows = old.execute("SELECT number FROM numbers(3)", settings={"max_block_size": 2})
    assert rows == [(0,), (1,), (2,)]


@pytest.mark.parametrize("compression", [False, True])
def test_tables_may_come_with_a_query(server: ClickHouseServer, compression: bool) -> None:
    table = {"name": "wanted", "structure": [("n", "Int32"), ("s", "String")]}
    query = "SELECT n, s FROM wanted ORDER BY n"
    with client(server, compression=compression) as asking:
        for rows in ([(1, "a"), (2, "b")], [], [(3, "c")]):
            data = [{"n": n, "s": s} for n, s in rows]
            assert asking.execute(query, external_tables=[{**table, "data": data}]) == rows
        with pytest.raises(ServerException, match="wanted"):
            asking.execute("SELECT n FROM wanted")


def test_a_failed_query_leaves_none_of_its_tables(server: ClickHouseServer) -> None:
    table = {"name": "extra", "structure": [("n", "Int32")], "data": [{"n": 1}]}
    with client(server) as asking:
        with pytest.raises(ServerException, match="nonsense"):
            asking.execute("SELECT nonsense FROM extra", external_tables=[table])
        renamed = {**table, "structure": [("m", "String")], "data": [{"m": "x"}]}
        assert asking.execute("SELECT m FROM extra", external_tables=[renamed]) == [("x",)]


def test_progress_and_profile_tell_what_was_read(server: ClickHouseServer) -> None:
    with client(server) as asking:
        assert asking.execute("SELECT count() FROM numbers(100000)") == [(100_000,)]
        read = asking.last_query
        assert read.progress.rows == 100_000
        assert read.profile_info.rows == 1
        asking.execute("SELECT number FROM numbers(100000)")
        assert asking.last_query.profile_info.rows == 100_000


def test_a_setting_that_is_unknown_is_refused(server: ClickHouseServer) -> None:
    with client(server) as asking, pytest.raises(ServerException) as caught:
        asking.execute("SELECT 1", settings={"no_such_setting": 1})
    assert caught.value.code == ErrorCodes.UNKNOWN_SETTING


def test_the_database_is_the_one_named_at_the_greeting(server: ClickHouseServer) -> None:
    for name in ("default", "jts_test"):
        with client(server, database=name) as asking:
            assert asking.execute("SELECT currentDatabase()") == [(name,)]
    with client(server, database="nowhere") as lost, pytest.raises(ServerException) as caught:
        lost.execute("SELECT 1")
    assert caught.value.code == ErrorCodes.UNKNOWN_DATABASE


def test_rows_may_come_in_through_a_query(server: ClickHouseServer) -> None:
    with client(server) as asking:
        asking.execute("CREATE TABLE doubled (n Int32) ENGINE = MergeTree ORDER BY n")
        asking.execute(
            "INSERT INTO doubled SELECT n * 2 FROM input ('n Int32') FORMAT Native", [(1,), (2,)]
        )
        assert asking.execute("SELECT n FROM doubled ORDER BY n") == [(2,), (4,)]
