"""The locks of open files, by which processes know of each other.

A lock is dropped by unlocking, never by closing alone: a process that another thread forks at that
moment has every open file until its `exec`, and would hold the lock as long.
"""

from __future__ import annotations

import fcntl
import os


def is_held(fd: int) -> bool:
    """Whether another process holds the lock of an open file; others who ask do not count."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def try_lock(fd: int) -> bool:
    """Take the lock of an open file for this process alone; False if another has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give a lock back at once, and close its file."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
