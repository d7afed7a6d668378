"""An insert that the embedded engine refuses is an error, by every way in and at every size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import sqlalchemy as sa
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from jts_storage.clickhouse.blocks import Typed
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError
from jts_storage.testing.clickhouse_server import ClickHouseServer

TABLES: Final = (
    "CREATE TABLE small (n Int64, CONSTRAINT small CHECK n < 1000000) ENGINE = MergeTree"
    " ORDER BY n",
    "CREATE TABLE split (n Int64) ENGINE = MergeTree ORDER BY n PARTITION BY n % 101",
    "CREATE TABLE full (n Int64) ENGINE = MergeTree ORDER BY n"
    " SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 1",
    "CREATE TABLE words (w String, CONSTRAINT words CHECK w = '') ENGINE = MergeTree ORDER BY w",
    "CREATE TABLE fine (n Int64) ENGINE = MergeTree ORDER BY n",
)
LARGE: Final = 2_000_000
MANY: Final = 50_000  # so many that a column does not go through the buffer of the hand-over file

NO_ROOM: Final = """
import resource, signal, sys
import numpy as np
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with ClickHouseManager(embedded_path=sys.argv[1]) as manager:
    manager.execute("CREATE TABLE t (n Int64, w String) ENGINE = MergeTree ORDER BY n")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for rows in (3, 50_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
        try:
            manager.insert_columns("t", {"n": np.arange(rows), "w": ["word"] * rows})
        except StorageError as failure:
            print(failure.code)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    print(manager.execute("SELECT count() FROM t")[0][0])
"""

Write = Callable[[ClickHouseManager, str, np.ndarray[Any, Any]], object]


@dataclass(frozen=True)
class Refusal:
    table: str
    code: int
    first: int = 0
    at_least: int = 1


REFUSALS: Final = {
    "a failed CHECK constraint": Refusal("small", 469, LARGE),
    "too many partitions": Refusal("split", 252, at_least=1_000),
    "too many parts": Refusal("full", 252),
    "no such table": Refusal("nowhere", 60),
}


@pytest.fixture(scope="module", params=["embedded", "endpoint"])
def manager(
    request: pytest.FixtureRequest, engine_used: Callable[[str], None]
) -> Iterator[ClickHouseManager]:
    with ExitStack() as stack:
        if request.param == "endpoint":
            server = stack.enter_context(ClickHouseServer())
            manager = ClickHouseManager(port=server.port, max_retries=0)
            engine_used(f"ClickHouse over TCP (chDB {server.version})")
        else:
            manager = ClickHouseManager(embedded_path=":memory:")
            engine_used("chDB")
        stack.enter_context(manager)
        for table in TABLES:
            manager.execute(table)
        manager.execute("SYSTEM STOP MERGES")
        manager.execute("INSERT INTO full VALUES (-1)")
        yield manager


def by_columns(manager: ClickHouseManager, table: str, values: np.ndarray[Any, Any]) -> object:
    return manager.insert_columns(table, {"n": values})


def by_rows(manager: ClickHouseManager, table: str, values: np.ndarray[Any, Any]) -> object:
    rows = [(value,) for value in values.tolist()]
    return manager.execute_many(f"INSERT INTO {table} (n) VALUES", rows)


def by_sqlalchemy(manager: ClickHouseManager, table: str, values: np.ndarray[Any, Any]) -> object:
    target = sa.table(table, sa.column("n", sa.BigInteger))
    with manager.engine.connect() as connection:
        return connection.execute(target.insert(), [{"n": value} for value in values.tolist()])


WAYS: Final = [
    *((by_columns, rows) for rows in (1, 20_000, MANY)),
    *((by_rows, rows) for rows in (1, MANY)),
    *((by_sqlalchemy, rows) for rows in (1, 1_000)),
]


def count(manager: ClickHouseManager, table: str) -> int:
    return int(manager.execute(f"SELECT count() FROM {table}")[0][0])


@pytest.mark.parametrize(("write", "rows"), WAYS)
@pytest.mark.parametrize("why", REFUSALS)
def test_a_refused_insert_raises_and_stores_nothing(
    manager: ClickHouseManager, why: str, write: Write, rows: int
) -> None:
    refusal = REFUSALS[why]
    before = count(manager, refusal.table) if refusal.table != "nowhere" else 0
    values = np.arange(max(rows, refusal.at_least)) + refusal.first
    with pytest.raises((StorageError, sa.exc.DBAPIError)) as caught:
        write(manager, refusal.table, values)
    assert code_of(caught.value) == refusal.code
    if refusal.table != "nowhere":
        assert count(manager, refusal.table) == before


@pytest.mark.parametrize(("write", "rows"), WAYS)
def test_a_refusal_leaves_the_connection_usable(
    manager: ClickHouseManager, write: Write, rows: int
) -> None:
    with pytest.raises((StorageError, sa.exc.DBAPIError)):
        write(manager, "small", np.arange(rows) + LARGE)
    before = count(manager, "fine")
    write(manager, "fine", np.arange(rows))
    assert count(manager, "fine") == before + rows


def test_an_error_may_repeat_bytes_that_are_no_text(manager: ClickHouseManager) -> None:
    with pytest.raises(StorageError, match="words") as caught:
        manager.insert_columns(
            "words", {"w": Typed("String", np.array([b"\xff\x00\n\n;"], object))}
        )
    assert code_of(caught.value) == 469


def test_a_connection_that_only_reads_refuses_rows(manager: ClickHouseManager) -> None:
    before = count(manager, "fine")
    with ClickHouseManager(manager.config, readonly=True) as reading:
        for rows in (3, MANY):
            with pytest.raises(StorageError) as caught:
                reading.insert_columns("fine", {"n": np.arange(rows)})
            assert code_of(caught.value) == 164
    assert count(manager, "fine") == before


@pytest.mark.parametrize("rows", [3, MANY])
def test_an_insert_beyond_its_memory_stores_nothing(manager: ClickHouseManager, rows: int) -> None:
    before = count(manager, "fine")
    with pytest.raises(StorageError) as caught:
        manager.insert_columns(
            "fine",
            {"n": np.arange(rows)},
            settings={"max_memory_usage": 1, "max_untracked_memory": 1},
        )
    assert code_of(caught.value) == 241
    assert count(manager, "fine") == before


def test_one_insert_is_one_part_whatever_bytes_it_holds(manager: ClickHouseManager) -> None:
    """Within the text of a query, an empty line would end the rows and begin a statement."""
    manager.execute("CREATE TABLE free (w String) ENGINE = MergeTree ORDER BY tuple()")
    words = [b"\n\n", b";\n\nDROP TABLE fine;", b"\x00", b"'", b"(((", b"\\", b"\xff\xfe", b""]
    random = np.random.default_rng(14)
    words += [random.bytes(int(length)) for length in random.integers(0, 400, 500)]
    for size in (len(words), 3, 1):  # shorter ones reuse what longer ones left behind
        manager.execute("TRUNCATE TABLE free")
        values = np.array(words[:size], object)
        assert manager.insert_columns("free", {"w": Typed("String", values)}) == size
        found = manager.execute("SELECT hex(w) FROM free")
        assert [bytes.fromhex(each) for (each,) in found] == words[:size]
    parts = "SELECT count() FROM system.parts WHERE active AND database = currentDatabase()"
    assert manager.execute(f"{parts} AND table = 'free'") == [(1,)]


def test_the_endpoint_tells_a_client_of_its_own(engine_used: Callable[[str], None]) -> None:
    engine_used("ClickHouse endpoint over chDB")
    with ClickHouseServer() as server, Client(server.host, server.port) as client:
        client.execute("CREATE TABLE jts.one (n Int64, CONSTRAINT c CHECK n < 1) ENGINE = Memory")
        for rows in (1, 70_000):
            with pytest.raises(ServerException) as caught:
                client.execute("INSERT INTO jts.one VALUES", [(5,)] * rows)
            assert caught.value.code == 469
        client.execute("INSERT INTO jts.one VALUES", [(0,)])
        assert client.execute("SELECT count() FROM jts.one") == [(1,)]


def code_of(failure: BaseException) -> int | str | None:
    if isinstance(failure, sa.exc.DBAPIError):
        assert failure.orig is not None
        return getattr(failure.orig.__cause__ or failure.orig, "code", None)
    return getattr(failure, "code", None)


def test_rows_that_find_no_room_on_their_way_to_the_engine_are_told(tmp_path: Path) -> None:
    """Whether they are gathered first, or many at once."""
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["243", "243", "0"]
