"""Whether the process that owns something may still be running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jts_storage._runtime import processes
from jts_storage._runtime.processes import may_be_alive, this_process


@pytest.fixture(params=["with /proc", "without"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without":
        monkeypatch.setattr(processes, "_PROCESSES", Path("/nowhere"))
    return str(request.param)


def owner(pid: int, started: str | None = None) -> str:
    host, _, mine = this_process().rsplit("/", 2)
    return f"{host}/{pid}/{started or mine}"


def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_this_process_is_alive_and_one_that_ended_is_not(system: str) -> None:
    assert may_be_alive(this_process())
    assert not may_be_alive(owner(ended()))


def test_of_another_host_nothing_is_known(system: str) -> None:
    assert may_be_alive(f"elsewhere/{ended()}/1")


def test_a_number_that_another_process_has_now_is_not_its_owner() -> None:
    assert not may_be_alive(owner(os.getpid(), "1"))


def test_a_killed_process_that_nobody_has_buried_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = processes._started(process.pid)
        assert may_be_alive(owner(process.pid, started))
        process.kill()
        deadline = time.monotonic() + 10
        while may_be_alive(owner(process.pid, started)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
