"""Whether the process that owns something may still be running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jts_storage._runtime import processes
from jts_storage._runtime.processes import (
    is_gone,
    may_be_alive,
    new_owner,
    returned,
    this_process,
)


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


@pytest.mark.parametrize("run", ["5f3a0c9d1e2b", "123456789012"])
def test_locks_of_earlier_releases_say_no_start(system: str, run: str) -> None:
    """They name host, process id and a random run; a new release must not take them over."""
    assert not is_gone(owner(os.getppid(), run))
    assert is_gone(owner(ended(), run))
    assert is_gone(owner(os.getpid(), run)), "it was written by one before this process"
    assert not is_gone(f"elsewhere/{ended()}/{run}")


def test_an_owner_is_gone_with_its_process() -> None:
    assert not is_gone(new_owner())
    assert is_gone(f"x@{owner(ended())}")
    assert new_owner() != new_owner()


def test_who_cannot_give_a_lease_back_counts_as_gone_in_this_process() -> None:
    late, fine, other = new_owner(), new_owner(), new_owner()
    with pytest.raises(ZeroDivisionError), returned(late):
        raise ZeroDivisionError
    with returned(fine):
        pass
    assert [is_gone(each) for each in (late, fine, other)] == [True, False, False]
