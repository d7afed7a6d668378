"""What the programs of services are started with."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from jts_storage.local_servers.folder import ServerFolder
from jts_storage.services import programs
from jts_storage.services.programs import Found, local_programs
from jts_storage.services.stack import STACK
from jts_storage.services.state import Plan, StateFolder
from jts_storage.services.status import ServiceStatus


@pytest.mark.parametrize(
    ("name", "policy", "fsync", "memory"),
    [
        ("redis", "allkeys-lru", "everysec", "512mb"),
        ("redis-limits", "noeviction", "always", "0"),
    ],
)
def test_counts_of_limits_are_neither_evicted_nor_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    policy: str,
    fsync: str,
    memory: str,
) -> None:
    def find(_: Any) -> Found:
        return Found(Path("redis-server"), "redis", "8.0")

    monkeypatch.setattr(programs.Redis, "find", find)
    ports = {each.name: each.port for each in STACK.values()}
    command = local_programs(tmp_path)[name].command(ServerFolder(tmp_path / name), ports)
    _, *options = command.arguments
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given["--maxmemory-policy"] == policy
    assert given["--appendfsync"] == fsync
    assert given["--maxmemory"] == memory
    assert (given["--bind"], given["--appendonly"]) == ("127.0.0.1", "yes")


def test_what_is_noted_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "services")
    before = os.umask(0)
    try:
        with folder.supervised():
            folder.write_plan(Plan(engine="local", names=["redis"]))
            folder.write_state([ServiceStatus("redis", "running")])
    finally:
        os.umask(before)
    files = [each for each in folder.path.rglob("*") if each.is_file()]
    assert {each.name for each in files} >= {"plan.json", "state.json"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
