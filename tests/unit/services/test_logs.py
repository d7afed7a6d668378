"""Logs of services: bounded while they are written to, and told as they come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from jts_storage.cli.main import app
from jts_storage.cli.services_plans import EngineName, new_plan
from jts_storage.errors import InvalidConfiguration
from jts_storage.local_servers import keeper
from jts_storage.local_servers.folder import ServerCommand, ServerFolder
from jts_storage.local_servers.keeper import bound, set_aside
from jts_storage.services import logs, supervisor
from jts_storage.services.logs import last_lines
from jts_storage.services.state import Plan, StateFolder
from tests.unit.services.fake_docker import Docker
from tests.unit.services.test_supervisor import SoManyLooks
from tests.unit.services.units import Scene

PLAN = Plan(engine="local", names=["redis"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Of a service of the stack in `tmp_path`."""
    (tmp_path / "redis").mkdir()
    return tmp_path / "redis" / "server.log"


def kept(log: Path) -> dict[str, str]:
    return {file.name.removeprefix(log.name): file.read_text() for file in log.parent.iterdir()}


def test_a_log_that_is_short_stays(log: Path) -> None:
    log.write_text("1234\n")
    bound(log, 5)
    assert kept(log) == {"": "1234\n"}
    bound(log.with_name("none.log"), 5)


def test_a_log_that_is_too_long_begins_anew_under_who_writes_it(log: Path) -> None:
    """Its file stays the same, so a server need not open it again; the last two are kept."""
    with log.open("a") as writer:
        for text in ("first\n", "second\n", "third\n", "fourth\n"):
            writer.write(text)
            writer.flush()
            bound(log, 5)
        writer.write("now\n")
    assert kept(log) == {"": "now\n", ".1": "fourth\n", ".2": "third\n"}
    set_aside(log)
    assert kept(log) == {".1": "now\n", ".2": "fourth\n"}


def test_a_disk_without_room_for_a_copy_is_not_filled_further(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper, "_copy", full)
    log.write_text("too long")
    bound(log, 5)
    assert kept(log) == {"": ""}
    assert "server.log could not be kept" in capsys.readouterr().err


def test_a_disk_that_is_full_takes_no_word_about_it_either(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the keeper says goes to the very log."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    log.write_text("too long")
    with Path("/dev/full").open("w", buffering=1) as errors:
        monkeypatch.setattr(keeper, "_copy", full)
        monkeypatch.setattr(sys, "stderr", errors)
        bound(log, 5)
        assert kept(log) == {"": ""}
        with suppress(OSError):
            errors.close()


def test_what_is_written_while_a_log_is_copied_is_kept(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_room = keeper._make_room

    def slow(file: Path) -> None:
        with log.open("a") as writer:
            writer.write("meanwhile\n")
        make_room(file)

    monkeypatch.setattr(keeper, "_make_room", slow)
    log.write_text("before\n")
    bound(log, 5)
    assert kept(log) == {"": "", ".1": "before\nmeanwhile\n"}


def test_a_link_in_the_place_of_a_log_is_left_alone(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("of somebody else")
    log.symlink_to(other)
    bound(log, 5)
    assert other.read_text() == "of somebody else"


TALKS = """
import sys, time
own = open("own.log", "a")
while True:
    for file in (sys.stdout, own):
        file.write("x" * 99 + "\\n")
        file.flush()
    time.sleep(0.001)
"""


def test_the_keeper_bounds_what_its_server_writes(tmp_path: Path) -> None:
    """Nobody else is needed for it: who started the server may be dead."""
    folder = ServerFolder(tmp_path / "talks")
    command = ServerCommand(
        arguments=[sys.executable, "-c", TALKS],
        port=1,
        patience=1,
        own_logs=["own.log"],
        log_bytes=10_000,
    )
    with folder.exclusive(10):
        folder.join()
        server = folder.start(command)
    try:
        assert server is not None
        end = time.monotonic() + 30
        while not all((folder.path / f"{name}.log.1").exists() for name in ("server", "own")):
            assert time.monotonic() < end, list(folder.path.iterdir())
            time.sleep(0.05)
        assert folder.running() == server
    finally:
        folder.leave(10)
    for file in folder.path.glob("*.log*"):
        lines = set(file.read_text().splitlines())
        assert all(set(line) == {"x"} or "ended with" in line for line in lines), lines


def test_the_log_of_a_supervisor_is_bounded_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    folder = StateFolder(tmp_path)
    folder.log.write_text("much")
    looked_at: list[Path] = []
    monkeypatch.setattr(supervisor, "bound", looked_at.append)
    supervisor._watch(scene.manager, folder, SoManyLooks(1), 0)
    assert looked_at == [folder.log]


def test_the_last_lines_are_those_of_before_where_there_are_too_few(log: Path) -> None:
    log.with_name("server.log.1").write_text("1\n2\n3\n")
    log.write_text("4\n5\n")
    folder = StateFolder(log.parent.parent)
    assert last_lines(PLAN, folder, ["redis"], 4) == {"redis": ["2", "3", "4", "5"]}
    assert last_lines(PLAN, folder, ["redis"], 1) == {"redis": ["5"]}


def follow(monkeypatch: pytest.MonkeyPatch, folder: Path, *steps: Callable[[], None]) -> list[str]:
    """What ``logs --follow --json`` prints while the steps are done, and Ctrl-C after them."""
    left = list(steps)

    def pause(_: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    # Not `time.sleep` itself, which other threads of this process call, too.
    monkeypatch.setattr(logs, "time", SimpleNamespace(sleep=pause))
    StateFolder(folder).write_plan(PLAN)
    asked = ["services", "logs", "--follow", "--json", "--folder", str(folder)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["service"] for each in told} <= {"redis"}
    return [each["line"] for each in told]


def test_following_as_json_is_an_object_a_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_text("before\n")

    def more() -> None:
        with log.open("a") as file:
            file.write("one\ntwo\nha")

    def rest() -> None:
        with log.open("a") as file:
            file.write("lf\n")

    told = follow(monkeypatch, log.parent.parent, more, rest, lambda: None)
    assert told == ["before", "one", "two", "half"]


@pytest.mark.parametrize("how", [lambda log: bound(log, 1), set_aside])
def test_following_goes_on_where_a_log_begins_anew(
    log: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path], None]
) -> None:
    """Also with what was written after the last look: by a keeper, and at a restart."""
    log.write_text("a line of before\n")

    def begun_anew() -> None:
        with log.open("a") as file:
            file.write("the last\n")
        how(log)
        with log.open("a") as file:
            file.write("new\n")

    told = follow(monkeypatch, log.parent.parent, begun_anew, lambda: None)
    assert told == ["a line of before", "the last", "new"]


@pytest.mark.parametrize("new", ["x", "new", "another line", "as long as before is"])
def test_following_misses_nothing_however_long_the_new_log_is(
    log: Path, monkeypatch: pytest.MonkeyPatch, new: str
) -> None:
    """A server was restarted once, and twice, between two looks, and was away at one."""
    log.write_text("a line of before\n")

    def last_words() -> None:
        with log.open("a") as file:
            file.write("the last")
        set_aside(log)

    def started() -> None:
        log.write_text(f"{new}\n")

    def twice_more() -> None:
        for text in (new, "end"):
            set_aside(log)
            log.write_text(f"{text}\n")

    told = follow(monkeypatch, log.parent.parent, last_words, started, twice_more, lambda: None)
    assert told == ["a line of before", "the last", new, new, "end"]


def test_following_goes_on_behind_a_log_that_could_not_be_kept(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_text("a line of before\n")

    def emptied() -> None:
        log.write_text("new\n")

    told = follow(monkeypatch, log.parent.parent, emptied, lambda: None)
    assert told == ["a line of before", "new"]


def test_who_listens_no_more_ends_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `head` does: the services may be silent for long."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'redis  | one'\nexec sleep 600\n")
    docker.chmod(0o755)

    def closed(*_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        logs._tell_printed([str(docker)], ["redis"], closed)


def test_the_last_lines_of_mongodb_end_with_the_newest(tmp_path: Path) -> None:
    folder = tmp_path / "mongodb"
    folder.mkdir()
    for name, text in {"mongod.log": "1\n2\n", "server.log": "", "server.log.1": "ended\n"}.items():
        (folder / name).write_text(text)
    assert last_lines(PLAN, StateFolder(tmp_path), ["mongodb"], 9) == {"mongodb": ["1", "2"]}


def test_containers_are_followed_by_the_names_of_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = Docker(tmp_path, {"redis": {}, "redis-limits": {}})
    monkeypatch.setenv("PATH", str(docker.folder))
    names = ["redis", "redis-limits"]
    plan = Plan(engine="docker", names=names, compose_file=str(docker.compose_file))
    told: list[tuple[str, str]] = []
    logs.followed(plan, StateFolder(tmp_path), names, 5, lambda *each: told.append(each))
    assert told == [(name, f"a line of {name}") for name in names]


def test_a_compose_file_is_for_containers(tmp_path: Path) -> None:
    """Whoever names one and gets processes would look for his services in vain."""
    file = tmp_path / "docker-compose.yml"
    for engine in (EngineName.LOCAL, None):
        with pytest.raises(InvalidConfiguration, match=r"--compose-file is for.*--with docker"):
            new_plan(StateFolder(tmp_path), engine, ["redis"], None, None, file)
    assert new_plan(StateFolder(tmp_path), None, ["redis"], None, None, None).engine == "local"
