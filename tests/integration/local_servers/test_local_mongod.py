"""The mongod of a data folder: shared by processes, stopped with the last, never orphaned."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient

from jts_storage import Storage, StorageSettings
from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.local_servers.folder import ServerFolder, free_port
from jts_storage.local_servers.mongod import LocalMongod, find_mongod
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.settings.storage import MongoDBFields
from jts_storage.testing.factories import make_formula
from tests.prepared import Prepared

_USER = """
import sys
from jts_storage.local_servers.mongod import LocalMongod
mongod = LocalMongod.acquire(sys.argv[1])
print(mongod.pid, flush=True)
sys.stdin.readline()
mongod.release()
print("released", flush=True)
"""


class OtherProcess:
    """A second user of the folder, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def mongod_pid(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def release(self) -> None:
        out, _ = self.process.communicate("\n", timeout=60)
        assert out == "released\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[Callable[[], OtherProcess]]:
    started: list[OtherProcess] = []

    def start() -> OtherProcess:
        started.append(OtherProcess(tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 20
    while any(map(runs, pids)):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if runs(pid)]}"
        time.sleep(0.02)


def state(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "server.json").read_text())
    return read


def client(mongod: LocalMongod) -> MongoClient[dict[str, Any]]:
    return MongoClient(mongod.uri, serverSelectionTimeoutMS=10_000)


def test_transactions_work_and_data_survive_a_restart(tmp_path: Path) -> None:
    with LocalMongod.acquire(tmp_path) as mongod, client(mongod) as mongo:
        numbers = mongo.test.numbers
        with mongo.start_session() as session:
            with session.start_transaction():
                numbers.insert_one({"_id": 1}, session=session)
            with session.start_transaction():
                numbers.insert_one({"_id": 2}, session=session)
                session.abort_transaction()
        first_pid, first_port = mongod.pid, mongod.port
    assert not runs(first_pid)

    with LocalMongod.acquire(tmp_path) as mongod, client(mongod) as mongo:
        assert mongo.test.numbers.distinct("_id") == [1]
        assert mongod.pid != first_pid
        assert mongod.port == first_port


def test_a_second_share_in_one_process_reuses_the_server_until_it_is_released(
    tmp_path: Path,
) -> None:
    with LocalMongod.acquire(tmp_path) as first:
        with LocalMongod.acquire(tmp_path) as second:
            assert (first.pid, first.uri) == (second.pid, second.uri)
        assert runs(first.pid)
        first_pid = first.pid
    assert not runs(first_pid)
    first.release()  # once more, which does nothing
    for use in (lambda: first.uri, lambda: first.pid, first.ensure_running):
        with pytest.raises(ConnectionFailed, match="released"):
            use()


def test_a_second_process_reuses_it_and_the_last_one_stops_it(
    tmp_path: Path, other_process: Callable[[], OtherProcess]
) -> None:
    ours = LocalMongod.acquire(tmp_path)
    pid = ours.pid
    other = other_process()
    assert other.mongod_pid() == pid
    ours.release()
    assert runs(pid)
    other.release()
    assert not runs(pid)


def test_it_survives_the_kill_of_its_starter_while_another_uses_it(
    tmp_path: Path, other_process: Callable[[], OtherProcess]
) -> None:
    starter = other_process()
    pid = starter.mongod_pid()
    with LocalMongod.acquire(tmp_path) as ours:
        starter.kill()
        time.sleep(0.5)  # the keeper looks around every 0.2 s
        assert ours.pid == pid
        with client(ours) as mongo:
            mongo.test.numbers.insert_one({"_id": 1})
    assert not runs(pid)


def test_kill_of_the_only_user_leaves_no_orphan(
    tmp_path: Path, other_process: Callable[[], OtherProcess]
) -> None:
    user = other_process()
    pid, keeper = user.mongod_pid(), state(tmp_path)["keeper"]
    assert runs(keeper)
    user.kill()
    wait_until_gone(pid, keeper)


def test_kill_of_a_user_while_it_starts_leaves_no_orphan(
    tmp_path: Path, other_process: Callable[[], OtherProcess]
) -> None:
    user = other_process()
    deadline = time.monotonic() + 20
    while not (tmp_path / "server.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    started = state(tmp_path)
    user.kill()
    wait_until_gone(started["pid"], started["keeper"])
    with LocalMongod.acquire(tmp_path) as mongod, client(mongod) as mongo:
        mongo.test.numbers.insert_one({"_id": 1})


def test_kill_of_the_keeper_takes_mongod_along_and_the_folder_works_on(tmp_path: Path) -> None:
    with LocalMongod.acquire(tmp_path) as mongod:
        pid, keeper = mongod.pid, state(tmp_path)["keeper"]
        os.kill(keeper, signal.SIGKILL)
        wait_until_gone(pid, keeper)
        with LocalMongod.acquire(tmp_path) as again:
            assert again.pid != pid


def test_a_crashed_mongod_is_started_again_on_its_port_and_drivers_carry_on(tmp_path: Path) -> None:
    with LocalMongod.acquire(tmp_path) as mongod, client(mongod) as mongo:
        mongo.test.numbers.insert_one({"_id": 1})
        uri, pid = mongod.uri, mongod.pid
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)
        mongod.ensure_running()
        assert mongod.uri == uri
        assert mongod.pid != pid
        mongo.test.numbers.insert_one({"_id": 2})
        assert mongo.test.numbers.distinct("_id") == [1, 2]


def test_one_that_has_stepped_down_is_made_writable_again(tmp_path: Path) -> None:
    """Whoever was to stop it was killed between the two steps, and another opens the folder."""
    with LocalMongod.acquire(tmp_path) as first, client(first) as mongo:
        mongo.admin.command("replSetStepDown", 120, secondaryCatchUpPeriodSecs=0, force=True)
        with LocalMongod.acquire(tmp_path, timeout=10) as second:
            assert second.pid == first.pid
            mongo.test.numbers.insert_one({"_id": 1})


@pytest.mark.slow
def test_a_folder_whose_port_another_mongod_took_moves_to_a_free_one(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with LocalMongod.acquire(ours) as mongod, client(mongod) as mongo:
        mongo.test.numbers.insert_one({"_id": 1})
        port = mongod.port
    theirs.mkdir()
    (theirs / "server.json").write_text(json.dumps({"port": port}))
    with LocalMongod.acquire(theirs) as squatter, LocalMongod.acquire(ours) as mongod:
        assert squatter.port == port != mongod.port
        with client(mongod) as mongo:
            mongo.test.numbers.insert_one({"_id": 2})
            assert mongo.test.numbers.distinct("_id") == [1, 2]


def test_a_mongod_that_took_the_port_meanwhile_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether a port is free and the start, that of another folder may begin."""
    with LocalMongod.acquire(tmp_path / "other") as other:
        ports = iter([other.port])
        monkeypatch.setattr(
            "jts_storage.local_servers.mongod.free_port",
            lambda last: next(ports, None) or free_port(last),
        )
        with LocalMongod.acquire(tmp_path / "own") as own:
            assert next(ports, None) is None, "the taken port was tried"
            assert own.port != other.port
            assert dbpath(own) == str(tmp_path / "own" / "db")


async def test_a_storage_whose_mongod_died_does_not_write_to_one_that_took_its_port(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the driver it is the same: a replica set of the same name, at the same address."""
    prepared.copy(tmp_path / "data")
    prepared.copy(tmp_path / "other")
    with LocalMongod.acquire(tmp_path / "other" / "mongo"):
        """It has been elected once more, so that drivers take it for the later primary."""
    fields: dict[str, Any] = {"server_selection_timeout": 0.5, "max_retries": 0}
    settings = StorageSettings(data_dir=tmp_path / "data", mongo_fields=MongoDBFields(**fields))
    async with Storage.open(settings) as storage:

        async def commit() -> None:
            async with storage.unit_of_work() as uow:
                await uow.formulas.save(make_formula())
                await uow.commit()

        await commit()
        mongod = LocalMongod.acquire(tmp_path / "data" / "mongo")
        taken = mongod.port
        monkeypatch.setattr("jts_storage.local_servers.mongod.free_port", lambda _: taken)
        os.kill(mongod.pid, signal.SIGKILL)
        with LocalMongod.acquire(tmp_path / "other" / "mongo") as other:
            assert other.port == taken
            with pytest.raises(ConnectionFailed):
                await commit()
            with MongoClient[dict[str, Any]](other.uri) as client:
                assert client["jts"]["formulas"].count_documents({}) == 0
        mongod.release()


async def test_a_manager_over_a_folder_uses_the_server_of_no_other(tmp_path: Path) -> None:
    """Nor does one of another database beside it, where a backup is tried."""
    mongod = LocalMongod.acquire(tmp_path)
    try:
        async with MongoDBManager.over(mongod) as own, own.beside("other") as other:
            assert (await other.db.command("ping"))["ok"]
            assert (own.db.name, other.db.name) == ("jts", "other")
        config = MongoDBConfig(uri=mongod.uri, server_selection_timeout=1, max_retries=0)
        moved = SimpleNamespace(uri=mongod.uri, tags={"folder": "another"})
        foreign = MongoDBManager.over(moved, config)
        for manager in (foreign, foreign.beside("other")):
            async with manager:
                with pytest.raises(ConnectionFailed):
                    await manager.ping()
    finally:
        mongod.release()


def test_copies_of_a_folder_that_start_at_once_have_a_server_each(tmp_path: Path) -> None:
    """All of them know the port of the original."""
    with LocalMongod.acquire(tmp_path / "original") as original:
        port = original.port
    copies = [tmp_path / f"copy {number}" for number in range(3)]
    for each in copies:
        shutil.copytree(tmp_path / "original", each)
    with ThreadPoolExecutor() as threads:
        servers = list(threads.map(LocalMongod.acquire, copies))
    try:
        assert [dbpath(each) for each in servers] == [str(each / "db") for each in copies]
        assert port not in {each.port for each in servers}, "the original may want it back"
    finally:
        for server in servers:
            server.release()
    with LocalMongod.acquire(tmp_path / "original") as original:
        assert original.port == port


def test_a_copy_by_hard_links_does_not_use_the_server_of_the_original(tmp_path: Path) -> None:
    """The links are to the locks, too, so that the server of the original seems to be its own."""
    with LocalMongod.acquire(tmp_path / "original") as original:
        shutil.copytree(tmp_path / "original", tmp_path / "copy", copy_function=os.link)
        with pytest.raises(InvalidConfiguration, match="hard links"):
            LocalMongod.acquire(tmp_path / "copy")
        (tmp_path / "link").symlink_to(tmp_path / "original")
        with LocalMongod.acquire(tmp_path / "link") as same:
            assert same.pid == original.pid


def test_a_folder_that_is_renamed_in_use_leaves_the_next_one_alone(tmp_path: Path) -> None:
    renamed = LocalMongod.acquire(tmp_path / "data")
    pid = renamed.pid
    (tmp_path / "data").rename(tmp_path / "old")
    with LocalMongod.acquire(tmp_path / "data") as other:
        renamed.release(is_at_rest=lambda _: True)
        other_still = ServerFolder(tmp_path / "data").running()
        assert other_still is not None
        assert other_still.pid == other.pid
        assert not (tmp_path / "data" / "at_rest.json").exists()
    wait_until_gone(pid)


def dbpath(server: LocalMongod) -> str:
    with MongoClient[dict[str, Any]]("127.0.0.1", server.port, directConnection=True) as client:
        options = client.admin.command("getCmdLineOpts")
    return str(options["parsed"]["storage"]["dbPath"])


def test_the_last_port_is_known_where_the_server_was_or_did_not_say(tmp_path: Path) -> None:
    folder, state = ServerFolder(tmp_path), tmp_path / "server.json"
    found = []
    for told in ({"folder": str(tmp_path)}, {}, {"folder": str(tmp_path / "original")}):
        state.write_text(json.dumps({"port": 27_999} | told))
        found.append(folder.last_port())
    assert found == [27_999, 27_999, None], "earlier releases did not say where it was"


def test_a_stale_state_file_is_ignored(tmp_path: Path) -> None:
    ours = {"keeper": os.getpid(), "pid": os.getpid(), "port": 1, "started": ""}
    (tmp_path / "server.json").write_text(json.dumps(ours))
    with LocalMongod.acquire(tmp_path) as mongod:
        assert mongod.pid != os.getpid()
        assert mongod.port > 1024


@pytest.mark.parametrize("damaged", ["[]", "{}", "cut sho", '{"port": "x"}'])
def test_a_damaged_state_file_is_no_obstacle(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "server.json").write_text(damaged)
    folder = ServerFolder(tmp_path)
    assert folder.last_port() is None
    assert folder.running() is None


def test_two_folders_at_once_do_not_see_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        a, b = pool.map(LocalMongod.acquire, [tmp_path / "a", tmp_path / "b"])
    with a, b, client(a) as mongo_a, client(b) as mongo_b:
        mongo_a.test.numbers.insert_one({"_id": 1})
        assert mongo_b.test.numbers.find_one() is None


def test_a_process_that_another_thread_forks_holds_no_lock_of_the_folder(tmp_path: Path) -> None:
    folder = ServerFolder(tmp_path)
    ended = {"keeper": 1, "pid": 1, "port": 1, "started": "long ago"}
    (tmp_path / "server.json").write_text(json.dumps(ended))
    done = threading.Event()

    def fork_often() -> None:
        while not done.is_set():
            subprocess.run(["true"], check=True)

    with ThreadPoolExecutor() as pool:
        forks = [pool.submit(fork_often) for _ in range(3)]
        try:
            for _ in range(5000):
                assert folder.running() is None
                with folder.exclusive(timeout=0.0):
                    pass
        finally:
            done.set()
    assert [fork.result() for fork in forks] == [None] * 3


@pytest.mark.slow
def test_processes_that_come_at_once_share_one_server(
    tmp_path: Path, other_process: Callable[[], OtherProcess]
) -> None:
    users = [other_process() for _ in range(4)]
    assert len({user.mongod_pid() for user in users}) == 1
    for user in users:
        user.release()


def test_a_forked_child_takes_no_share_away(tmp_path: Path) -> None:
    with LocalMongod.acquire(tmp_path) as mongod:
        child = multiprocessing.get_context("fork").Process(target=mongod.release)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        time.sleep(0.5)  # the keeper looks around every 0.2 s
        assert runs(mongod.pid)


def test_no_binary_names_three_remedies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidConfiguration) as caught:
        LocalMongod.acquire(tmp_path / "data")
    message = str(caught.value)
    assert "jts-storage[embedded]" in message
    assert "apt or brew" in message
    assert "JTS_MONGOD" in message


def test_path_comes_before_the_wheel_and_the_explicit_one_before_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_mongod().name == "mongod"
    on_path = script(tmp_path / "mongod", "exit 0")
    explicit = script(tmp_path / "another", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod() == on_path
    assert find_mongod(explicit) == explicit


def test_an_explicit_binary_that_is_none_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(InvalidConfiguration, match="JTS_MONGOD"):
            find_mongod(wrong)


def test_a_missing_library_is_named_with_its_package(tmp_path: Path) -> None:
    message = (
        "mongod: error while loading shared libraries: libcurl.so.4: "
        "cannot open shared object file: No such file or directory"
    )
    broken = script(tmp_path / "mongod", f"echo '{message}' >&2; exit 127")
    with pytest.raises(ConnectionFailed) as caught:
        LocalMongod.acquire(tmp_path / "data", broken)
    assert message in str(caught.value)
    assert "apt-get install libcurl4" in str(caught.value)


def test_a_failing_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "storage.bson").write_text("nonsense")
    with pytest.raises(ConnectionFailed, match="ended while it started") as caught:
        LocalMongod.acquire(tmp_path)
    assert "Unable to read the storage engine metadata file" in str(caught.value)


def test_a_server_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    asleep = script(tmp_path / "mongod", "exec sleep 60")
    with pytest.raises(ConnectionFailed, match="took no writes within 1 s"):
        LocalMongod.acquire(tmp_path / "data", asleep, timeout=1)
    assert not runs(state(tmp_path / "data")["pid"])


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("")
    for unusable in (tmp_path, tmp_path / "db" / "data"):
        with pytest.raises(InvalidConfiguration, match="data folder"):
            LocalMongod.acquire(unusable)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path
