"""What is looked for before anything starts. Each of it stops the start, with what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.local_servers.folder import ServerCommand, ServerFolder
from jts_storage.services import doctor
from jts_storage.services.doctor import Resources, problems_of
from jts_storage.services.local import LocalManager
from jts_storage.services.programs import Found, Mongod, version_of
from jts_storage.services.stack import PORTS
from jts_storage.services.stamps import why_not_for, write_stamp

PLENTY = 2**40


class Machine(Resources):
    """One that has what a test says."""

    def __init__(self, memory: int | None = PLENTY, disk: int = PLENTY, taken: int = 0) -> None:
        self._memory = memory
        self._disk = disk
        self._taken = taken

    def memory(self) -> int | None:
        return self._memory

    def disk(self, folder: Path) -> int:
        return self._disk

    def is_port_free(self, port: int) -> bool:
        return port != self._taken


class Installed:
    """A program of which only this is known; it must never be run."""

    def __init__(self, found: Found | None = None) -> None:
        self._found = found or Found(Path("/bin/false"), "redis", "8.0.3")

    def find(self) -> Found:
        return self._found

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        raise AssertionError("nothing may be started")

    def well_for_the_first_time(self, folder: ServerFolder, port: int) -> None: ...


class Missing(Installed):
    def find(self) -> Found:
        raise InvalidConfiguration("it is not installed", remedy="Install it.")


class Stack:
    def __init__(self, folder: Path, **programs: Any) -> None:
        self.folder = folder
        self.ports: Mapping[str, int] = PORTS
        self.programs = {name: Installed() for name in PORTS} | programs
        self.alive: set[str] = set()

    def running(self, name: str) -> Any:
        return SimpleNamespace(pid=1, port=PORTS[name]) if name in self.alive else None


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    folder = tmp_path / "services"
    folder.mkdir(mode=0o700)
    return Stack(folder)


def told(stack: Stack, *names: str, machine: Resources | None = None) -> list[str]:
    return problems_of(stack, names or ("redis",), machine or Machine())


def test_nothing_is_in_the_way(stack: Stack) -> None:
    assert told(stack, "redis", "clickhouse", "mongodb") == []
    assert told(Stack(stack.folder / "not" / "yet" / "there")) == []


def test_too_little_memory(stack: Stack) -> None:
    """ET-INFRA-01.1"""
    (found,) = told(stack, "redis", "mongodb", machine=Machine(memory=100 * 2**20))
    assert found.startswith("redis, mongodb need 448 MB of memory, and 100 MB can be had")
    assert told(stack, machine=Machine(memory=None)) == []


def test_too_little_disk(stack: Stack) -> None:
    """ET-INFRA-01.1"""
    (found,) = told(stack, "clickhouse", machine=Machine(disk=2**20))
    assert found.startswith("clickhouse need 512 MB of disk to begin with, and 1 MB are free")


def test_what_runs_already_needs_no_more(stack: Stack) -> None:
    stack.alive.add("redis")
    assert told(stack, machine=Machine(memory=0, disk=0, taken=6379)) == []


def test_what_runs_elsewhere_is_not_found_where_it_is_looked_for(stack: Stack) -> None:
    stack.alive.add("redis")
    stack.ports = {**PORTS, "redis": 6400}
    (found,) = told(stack)
    assert "runs already, on 127.0.0.1:6379 and not on 6400" in found


def test_a_link_is_told(stack: Stack) -> None:
    (stack.folder / "redis").symlink_to(stack.folder)
    (found,) = told(stack)
    assert "redis is a link" in found


def test_a_port_of_a_stranger(stack: Stack) -> None:
    (found,) = told(stack, machine=Machine(taken=6379))
    assert "somebody else listens on 127.0.0.1:6379" in found
    assert "--port redis=PORT" in found
    (found,) = told(stack, "gateway", machine=Machine(taken=9108))
    assert "--port gateway.metrics=PORT" in found


def test_a_port_is_taken_by_whoever_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not Resources().is_port_free(port)
    assert Resources().is_port_free(port)


def test_a_program_that_is_missing(stack: Stack) -> None:
    stack.programs["redis"] = Missing()
    assert told(stack) == ["redis: it is not installed. Install it."]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702], ids=oct)
@pytest.mark.parametrize("inside", ["", "redis"])
def test_a_folder_that_others_may_write(stack: Stack, inside: str, mode: int) -> None:
    """Everybody or the group: who may write there may put a server's files in place of ours."""
    folder = stack.folder / inside
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    (found,) = told(stack)
    assert f"chmod go-w {folder}" in found
    folder.chmod(0o755)
    assert told(stack) == []


def test_a_folder_of_another_owner(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    (stack.folder / "redis").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = told(stack)
    assert any("belongs to another user" in each for each in found)


def test_a_file_in_the_place_of_a_folder(stack: Stack) -> None:
    (stack.folder / "redis").touch()
    (found,) = told(stack)
    assert "is no folder" in found


def test_a_folder_that_nobody_may_enter(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, PostgreSQL runs as another user, who must reach its files."""
    monkeypatch.setattr(doctor, "account", lambda: (65534, 65534))
    (found,) = told(stack, "postgres")
    assert "may not enter /" in found
    monkeypatch.setattr(doctor, "account", lambda: None)
    assert told(stack, "postgres") == []


@pytest.mark.parametrize(
    ("written", "here", "text"),
    [
        (("redis", "8.0.3"), ("redis", "7.2.1"), "which is older"),
        (("redis", "7.2.1"), ("redis", "8.0.3"), ""),
        (("redis", "8.0.3"), ("redis", "8.0.1"), ""),
        (("redis", "8.2.1"), ("redis", "8.0.3"), "which is older"),
        (("redis", "8.0.3"), ("redis", "8.2.1"), ""),
        (("redis", "7.10.0"), ("redis", "7.9.9"), "which is older"),
        (("mongod", "8.2.0"), ("mongod", "8.0.20"), "which is older"),
        (("chdb", "26.9.1"), ("chdb", "26.8.3"), "which is older"),
        (("postgres", "16.4"), ("postgres", "17.1"), "postgres 16.4, and here is postgres 17.1"),
        (("postgres", "17.1"), ("postgres", "17.9"), ""),
        (("mongod", "6.0.1"), ("mongod", "8.0.4"), "a version between them"),
        (("mongod", "7.0.1"), ("mongod", "8.0.4"), ""),
        (("chdb", "26.9"), ("clickhouse", "26.9"), "written by chdb"),
    ],
)
def test_data_of_another_version(
    stack: Stack, written: tuple[str, str], here: tuple[str, str], text: str
) -> None:
    folder = stack.folder / "redis"
    folder.mkdir()
    write_stamp(folder, Found(Path("/bin/true"), *written))
    stack.programs["redis"] = Installed(Found(Path("/bin/true"), *here))
    found = told(stack)
    assert bool(found) == bool(text)
    assert text in "".join(found)


def test_data_whose_first_start_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    assert "postgres 15" in why_not_for(tmp_path, Found(Path("/bin/true"), "postgres", "17.1"))


def test_a_program_without_a_version_is_told() -> None:
    with pytest.raises(InvalidConfiguration, match="says no version"):
        version_of(Path("/bin/true"), "--version-of-nothing")
    with pytest.raises(InvalidConfiguration, match="cannot be run"):
        version_of(Path("/nowhere/redis-server"), "--version")


def test_the_mongod_that_the_settings_name_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the error says where none is found."""
    monkeypatch.setenv("JTS_MONGOD", "/nowhere/mongod")
    with pytest.raises(InvalidConfiguration, match="/nowhere/mongod is no program"):
        Mongod().find()


def test_up_tells_the_same_and_makes_nothing(tmp_path: Path) -> None:
    """ET-INFRA-01.1: all of it at once."""
    pytest.importorskip("redis")
    manager = LocalManager(
        tmp_path / "services", only=["redis"], resources=Machine(memory=0, disk=0, taken=6379)
    )
    with pytest.raises(StorageError) as failure:
        manager.start_services()
    said = str(failure.value)
    assert all(each in said for each in ("memory", "disk", "127.0.0.1:6379"))
    assert not (tmp_path / "services").exists()
