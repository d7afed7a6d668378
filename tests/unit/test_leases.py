"""Whether the process that owns a lease may still be running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jts_storage import leases
from jts_storage.leases import is_alive, owner_of_this_process


@pytest.fixture(params=["with /proc", "without"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without":
        monkeypatch.setattr(leases, "_PROCESSES", Path("/nowhere"))
    return str(request.param)


def owner(pid: int, started: str | None = None) -> str:
    host, _, mine = owner_of_this_process().rsplit("/", 2)
    return f"{host}/{pid}/{started or mine}"


def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_this_process_is_alive_and_one_that_ended_is_not(system: str) -> None:
    assert is_alive(owner_of_this_process())
    assert not is_alive(owner(ended()))


def test_of_another_host_nothing_is_known(system: str) -> None:
    assert is_alive(f"elsewhere/{ended()}/1")


def test_a_number_that_another_process_has_now_is_not_its_owner() -> None:
    assert not is_alive(owner(os.getpid(), "1"))


def test_a_killed_process_that_nobody_has_buried_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = leases._started(process.pid)
        assert is_alive(owner(process.pid, started))
        process.kill()
        deadline = time.monotonic() + 10
        while is_alive(owner(process.pid, started)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
