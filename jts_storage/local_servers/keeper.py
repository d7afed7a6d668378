"""Keeps one local server as its child, and stops it when its last user is gone.

Run as a script by `ServerFolder.start`, standard library only, as `keeper.py FOLDER SPEC`. A
keeper outlives whoever started it, so no user's death takes the server from another; the kernel
drops a killed user's lock, so none leaves the server behind. For the same reason it is the keeper
that bounds the logs of its server.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOG_BYTES = 10 * 2**20
"""So long a log may become; the one before it stays, and the one before that."""

_KEPT_LOGS = 2
_COPIED_AT_ONCE = 2**20
_MOST_MEANWHILE = 16 * 2**20
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_LOOK_AROUND_SECONDS = 0.2
_LOOK_AT_LOGS_SECONDS = 1.0


def main(folder: Path, spec: dict[str, Any]) -> None:
    if os.fork():
        os._exit(0)  # so that the process that started us need not reap us
    os.chdir(folder)
    # Before the server starts: one that ends at once must wake us too.
    wakeup = _wake_on(signal.SIGTERM, signal.SIGCHLD)
    users = _Users(folder)
    server = _spawn(spec)
    _write_state(folder, server.pid, spec["port"])

    looks_again = time.monotonic()
    while server.poll() is None:
        asked = bytes([signal.SIGTERM]) in _wait(wakeup)
        if time.monotonic() >= looks_again:
            looks_again = time.monotonic() + _LOOK_AT_LOGS_SECONDS
            # A server that lives through an update has a specification of the release before.
            for name in spec.get("logs", ()):
                bound(folder / name, spec["log_bytes"])
        if asked or users.all_gone():
            _stop(server, spec["stop_signal"], spec["patience"])
    sys.stderr.write(f"{spec['command'][0]} ended with {server.returncode}\n")
    if spec["scratch"] and users.all_gone():
        shutil.rmtree(folder, ignore_errors=True)


def set_aside(log: Path) -> None:
    """Move a log out of the way of the next one; the oldest is dropped."""
    _make_room(log)
    _move(log, _numbered(log, 1))


def bound(log: Path, most: int = LOG_BYTES) -> None:
    """Copy a log that has become too long aside, and empty it where it is.

    Whoever has it open writes on in it, and so must append; what is written between the last look
    at it and the emptying is lost. Where the disk has no room for the copy, it is emptied all the
    same: the server needs the room more.
    """
    try:
        opened = os.open(log, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        size = os.fstat(opened).st_size
        if size <= most:
            return
        problem = _keep(opened, size, log)
        os.ftruncate(opened, 0)
        if problem is not None:  # only now is there room to say so
            sys.stderr.write(f"{log.name} could not be kept, and begins anew: {problem}\n")
    except OSError:  # of a folder that was taken away; the server goes on
        pass
    finally:
        os.close(opened)


def _keep(opened: int, size: int, log: Path) -> OSError | None:
    """Put a copy of a log beside it; what kept it from that, if anything did."""
    draft = log.with_name(f"{log.name}.new")
    try:
        draft.unlink(missing_ok=True)
        copy = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _copy(opened, copy, size)
            _make_room(log)
            draft.replace(_numbered(log, 1))
            # What came meanwhile, last of all: the less is lost before it is emptied.
            _copy(opened, copy, _MOST_MEANWHILE)
        finally:
            os.close(copy)
    except OSError as exc:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        return exc
    return None


def _make_room(log: Path) -> None:
    for number in range(_KEPT_LOGS - 1, 0, -1):
        _move(_numbered(log, number), _numbered(log, number + 1))


def _copy(opened: int, copy: int, most: int) -> None:
    """So many bytes, or to its end. It may grow as quickly as it is copied."""
    while data := os.read(opened, min(most, _COPIED_AT_ONCE)):
        most -= len(data)
        while data:
            data = data[os.write(copy, data) :]


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _move(file: Path, to: Path) -> None:
    with suppress(FileNotFoundError):
        file.replace(to)


class _Users:
    """The locks by which users count; names and protocol are those of `ServerFolder`."""

    def __init__(self, folder: Path) -> None:
        self._turn = os.open(folder / "turn.lock", os.O_RDWR)
        self._users = os.open(folder / "users.lock", os.O_RDWR)
        self._lasting = folder / "lasting"
        self._gone = False

    def all_gone(self) -> bool:
        """Once True, nobody can join until this process has ended."""
        if self._gone:
            return True
        if self._lasting.exists():
            return False
        if not _lock(self._turn):
            return False
        # Both locks are kept once nobody is left: who comes now waits, and starts a new server.
        self._gone = _lock(self._users)
        if not self._gone:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return self._gone


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _spawn(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    user, group = spec["user"], spec["group"]
    return subprocess.Popen(
        spec["command"],
        stdin=subprocess.DEVNULL,
        pass_fds=[spec["lock"]],  # held by the server too: free means that both are gone
        preexec_fn=_die_with_parent(),
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        env={**os.environ, **spec["environment"]},
    )


def _die_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The keeper may have died before the call, which then asks for the death of another.
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _stop(server: subprocess.Popen[bytes], stop_signal: int, patience: float) -> None:
    server.send_signal(stop_signal)
    try:
        server.wait(patience)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"It did not stop within {patience:g} s, and is killed.\n")
        server.kill()
        server.wait()


def _write_state(folder: Path, pid: int, port: int) -> None:
    state = {
        "keeper": os.getpid(),
        "pid": pid,
        "port": port,
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "folder": str(folder),  # a copy of it is told apart by this
    }
    path = folder / "server.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(state))
    draft.replace(path)  # readers never see half of it


def _wake_on(*signals: signal.Signals) -> int:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for each in signals:
        signal.signal(each, lambda *_: None)
    return reader


def _wait(wakeup: int) -> bytes:
    readable, _, _ = select.select([wakeup], [], [], _LOOK_AROUND_SECONDS)
    return os.read(wakeup, 64) if readable else b""


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
