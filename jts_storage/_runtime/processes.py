"""Names of processes, from which another can tell whether one is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

_PROCESSES = Path("/proc")  # Linux only: elsewhere a process id that was reused goes unnoticed
_not_returned: set[str] = set()


def this_process() -> str:
    """Name this process by its host, its id and its start.

    The start tells it from a later process that was given the same id.
    """
    return f"{host()}/{os.getpid()}/{_started(os.getpid())}"


def may_be_alive(name: str) -> bool:
    """False if a process is known to be gone; what runs on another host cannot be known."""
    its_host, number, started = name.rsplit("/", 2)
    if its_host != host():
        return True
    pid = int(number)
    if pid == os.getpid() or _is_a_start(started):
        return _started(pid) == started
    return _started(pid) is not None


def new_owner() -> str:
    """A name by which this process holds one lease, and no other."""
    return f"{uuid4().hex}@{this_process()}"


@contextmanager
def returned(owner: str) -> Iterator[None]:
    """Give back a lease in the block; if that fails, its owner counts as gone in this process."""
    try:
        yield
    except BaseException:
        _not_returned.add(owner)
        raise


def is_gone(owner: str) -> bool:
    """Return whether the holder of a lease certainly uses it no more."""
    # Earlier releases named the owner of a lock by its process alone, without the part before "@".
    return owner in _not_returned or not may_be_alive(owner.rpartition("@")[2])


def described(owner: str) -> str:
    """Name the holder of a lease for people."""
    its_host, number, _ = owner.rpartition("@")[2].rsplit("/", 2)
    return f"process {number} on {its_host.partition('~')[0]}"


@cache
def host() -> str:
    """Name what gives process ids their meaning: a host since it booted, or one container of it."""
    parts = [socket.gethostname()]
    try:
        parts.append((_PROCESSES / "sys/kernel/random/boot_id").read_text()[:8])
        parts.append(str((_PROCESSES / "self/ns/pid").stat().st_ino))
    except OSError:
        pass  # not Linux: the name of the host alone must do
    return "~".join(parts)


def _started(pid: int) -> str | None:
    """Return when a process started; None if there is none, or only a zombie."""
    if not _PROCESSES.is_dir():
        return "unknown" if _exists(pid) else None
    try:
        # The 22nd field is the start, in ticks since boot. The 2nd, a name, may hold blanks.
        state, *numbers = (_PROCESSES / f"{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else numbers[18]
    except (OSError, IndexError):
        return None


def _is_a_start(text: str) -> bool:
    # Locks of earlier releases have twelve random hexadecimal digits in its place. A host has run
    # for decades before it counts so many ticks.
    return text.isdecimal() and len(text) < 12


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
