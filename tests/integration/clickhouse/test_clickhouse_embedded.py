"""The embedded engine's traps: one path a process, one process a path, forks, and crashes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jts_storage.clickhouse.blocks import Typed
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.testing.clickhouse_server import ServerProcess

_TABLE = "CREATE TABLE t (batch UInt64, n Int64) ENGINE = MergeTree ORDER BY (batch, n)"


@pytest.fixture(scope="module", autouse=True)
def _report(engine_used: Callable[[str], None]) -> None:
    with _embedded(":memory:") as manager, manager.transport() as transport:
        engine_used(f"chDB {transport.server_version()}")


def _embedded(path: Path | str, **fields: Any) -> ClickHouseManager:
    return ClickHouseManager(embedded_path=str(path), **fields)


def test_what_is_written_is_there_after_reopening(tmp_path: Path) -> None:
    with _embedded(tmp_path / "store") as manager:
        manager.execute(_TABLE)
        manager.insert_columns("t", {"batch": Typed("UInt64", 1), "n": np.arange(5)})
    with _embedded(tmp_path / "store") as manager:
        assert manager.execute("SELECT sum(n) FROM t") == [(10,)]


def test_a_copy_without_links_says_how_to_mend_it(tmp_path: Path) -> None:
    """And what it says does."""
    with _embedded(tmp_path / "store") as manager:
        manager.execute(_TABLE)
        manager.insert_columns("t", {"batch": Typed("UInt64", 1), "n": np.arange(5)})
    copy = tmp_path / "a copy"
    shutil.copytree(tmp_path / "store", copy)  # follows links
    with pytest.raises(InvalidConfiguration, match=r"without its links.*cp -a") as caught:
        _embedded(copy).connect()
    remedy = str(caught.value.remedy)
    command = remedy.partition("open it: ")[2]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    with _embedded(copy) as manager:
        assert manager.execute("SELECT sum(n) FROM t") == [(10,)]
        manager.execute("RENAME TABLE t TO u")  # links are made anew
    with _embedded(copy) as manager:
        assert manager.execute("SELECT sum(n) FROM u") == [(10,)]


def test_a_copy_with_its_links_opens(tmp_path: Path) -> None:
    with _embedded(tmp_path / "store") as manager:
        manager.execute(_TABLE)
    shutil.copytree(tmp_path / "store", tmp_path / "copy", symlinks=True)
    with _embedded(tmp_path / "copy") as manager:
        assert manager.execute("SELECT count() FROM t") == [(0,)]


def test_a_column_may_be_called_as_a_long_expression() -> None:
    text = "x" * 100_000
    with _embedded(":memory:") as manager:
        columns = manager.read_columns(f"SELECT length('{text}')")
        assert [column.tolist() for column in columns.values()] == [[100_000]]
        assert len(next(iter(columns))) > 100_000


def test_other_spellings_of_a_path_are_the_same_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    spellings = [f"{tmp_path}/store/", f"{tmp_path}/x/../store", f"{tmp_path}/link"]
    with _embedded(tmp_path / "store") as first:
        first.execute(_TABLE)
        for spelling in spellings:
            with _embedded(spelling) as other:
                assert other.execute("SELECT count() FROM t") == [(0,)]


@pytest.mark.parametrize("other", ["other", ":memory:"])
def test_another_path_is_refused_while_one_is_open(tmp_path: Path, other: str) -> None:
    path = other if other == ":memory:" else str(tmp_path / other)
    with _embedded(tmp_path / "store"):
        with pytest.raises(ConnectionFailed, match="cannot open") as caught:
            _embedded(path).connect()
        assert str(tmp_path / "store") in str(caught.value)
    with _embedded(path) as manager:
        assert manager.execute("SELECT 1") == [(1,)]


def test_fsync_is_on_unless_it_is_turned_off(tmp_path: Path) -> None:
    query = "SELECT value FROM system.merge_tree_settings WHERE name = 'fsync_after_insert'"
    with _embedded(tmp_path / "store") as manager:
        assert manager.execute(query) == [("1",)]
        with pytest.raises(InvalidConfiguration, match="fsync"):
            _embedded(tmp_path / "store", fsync=False).connect()
    with _embedded(tmp_path / "store", fsync=False) as manager:
        assert manager.execute(query) == [("0",)]


def test_each_session_reads_without_another_thread(tmp_path: Path) -> None:
    with _embedded(tmp_path) as manager, manager.transport() as one, manager.transport() as other:
        query = "SELECT value FROM system.settings WHERE name = 'local_filesystem_read_method'"
        assert [each.execute(query) for each in (one, other)] == [[("pread",)]] * 2


def test_a_path_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfiguration, match="embedded_path"):
        _embedded(tmp_path / "file").connect()
    with pytest.raises(InvalidConfiguration, match="embedded_path"):
        _embedded(tmp_path / "a?b").connect()


def test_a_path_held_by_another_process_names_the_process(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "store") as server:
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match=f"already open in process {server.pid}"):
            _embedded(tmp_path / "store").connect()
        assert time.monotonic() - begun < 30
        assert not _embedded(tmp_path / "store").health_check()
    assert engine.holder(str(tmp_path / "store")) is None
    with _embedded(tmp_path / "store") as manager:
        assert manager.execute("SELECT 1") == [(1,)]


def test_a_forked_process_gets_an_error_and_does_not_hang(tmp_path: Path) -> None:
    script = f"""
import os
from jts_storage.clickhouse.manager import ClickHouseManager
manager = ClickHouseManager(embedded_path={str(tmp_path / "store")!r}, max_retries=0)
manager.connect()
child = os.fork()
if child == 0:
    try:
        manager.execute("SELECT 1")
    except Exception as failure:
        os.write(1, f"{{type(failure).__name__}}: {{failure}}".encode())
    manager.close()
    del manager
    os._exit(0)  # as multiprocessing does
os.waitpid(child, 0)
assert manager.execute("SELECT 1") == [(1,)]
manager.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True
    )
    assert ran.stdout.startswith("ConnectionFailed: ")
    assert "spawn" in ran.stdout


def test_several_threads_share_one_path(tmp_path: Path) -> None:
    with _embedded(tmp_path / "store", pool_size=4) as manager:
        manager.execute(_TABLE)

        def write(batch: int) -> None:
            manager.insert_columns("t", {"batch": Typed("UInt64", batch), "n": np.arange(60_000)})

        threads = [threading.Thread(target=write, args=(batch,)) for batch in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        query = "SELECT batch, count(), sum(n) FROM t GROUP BY batch ORDER BY batch"
        total = sum(range(60_000))
        assert manager.execute(query) == [(batch, 60_000, total) for batch in range(8)]


@pytest.mark.parametrize("rows", [1_000, 60_000])
def test_kill_9_in_the_middle_of_a_write_loses_nothing_acknowledged(
    tmp_path: Path, rows: int
) -> None:
    acknowledged: list[int] = []
    with ServerProcess(tmp_path / "store") as server:
        manager = ClickHouseManager(host=server.host, port=server.port, max_retries=0)
        manager.execute(_TABLE)

        def write() -> None:
            for batch in range(10_000):
                try:
                    manager.insert_columns(
                        "t", {"batch": Typed("UInt64", batch), "n": np.arange(rows)}
                    )
                except StorageError:
                    return
                acknowledged.append(batch)

        writer = threading.Thread(target=write)
        writer.start()
        deadline = time.monotonic() + 30
        while len(acknowledged) < 10 and time.monotonic() < deadline:
            time.sleep(0.001)
        server.kill()
        writer.join(30)
        manager.close()
    assert len(acknowledged) >= 10
    with _embedded(tmp_path / "store") as manager:
        found = dict(manager.execute("SELECT batch, count() FROM t GROUP BY batch"))
    assert set(found.values()) == {rows}
    assert set(acknowledged) <= set(found) <= {*acknowledged, len(acknowledged)}


def test_a_stream_that_outlives_its_manager_lets_go_of_the_path(tmp_path: Path) -> None:
    manager = _embedded(tmp_path / "store").connect()
    stream = manager.stream_columns("SELECT number FROM numbers(200000)", block_rows=65_536)
    next(stream)
    manager.close()
    assert sum(len(block["number"]) for block in stream) == 200_000 - 65_536
    # Another engine's path can be opened only when none is open any more.
    with _embedded(tmp_path / "another") as other:
        assert other.execute("SELECT 1") == [(1,)]


def _open_files() -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            found.append(str(each.readlink()))
    return found


def test_closing_leaves_no_file_of_ours_open(tmp_path: Path) -> None:
    """The engine leaves some of /proc; decision 15 says how many."""
    with _embedded(tmp_path / "store") as manager:
        manager.execute(_TABLE)
        manager.insert_columns("t", {"batch": Typed("UInt64", 1), "n": np.arange(5)})
        assert any("jts-rows" in each for each in _open_files())
    left = [each for each in _open_files() if "jts-rows" in each or str(tmp_path) in each]
    assert left == []


def test_who_opens_it_again_and_again_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "WARN_EVERY", 2)
    for _ in range(4):
        with _embedded(tmp_path / "store") as manager, _embedded(tmp_path / "store") as second:
            assert manager.execute("SELECT 1") == second.execute("SELECT 1")
    assert caplog.text.count("keep one Storage open") == 2
