"""Names of processes, from which another can tell whether one is gone."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

_PROCESSES = Path("/proc")  # of Linux; elsewhere a number may have been given to another process


def this_process() -> str:
    """Place, number and start, so that a process of a reused number is not taken for it."""
    return f"{place()}/{os.getpid()}/{_started(os.getpid())}"


def may_be_alive(name: str) -> bool:
    """Whether a process may still be running; of other places nothing is known, so they may."""
    where, pid, started = name.rsplit("/", 2)
    return where != place() or _started(int(pid)) == started


@cache
def place() -> str:
    """Where numbers of processes mean the same: a host since its start, or one container of it."""
    parts = [socket.gethostname()]
    try:
        parts.append((_PROCESSES / "sys/kernel/random/boot_id").read_text()[:8])
        parts.append(str((_PROCESSES / "self/ns/pid").stat().st_ino))
    except OSError:
        pass  # no Linux: the name of the host has to do
    return "~".join(parts)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> str | None:
    """When a process started; None if there is none, or only what its parent has not buried yet."""
    if not _PROCESSES.is_dir():
        return "unknown" if exists(pid) else None
    try:
        state, *numbers = (_PROCESSES / f"{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else numbers[18]
    except (OSError, IndexError):
        return None
