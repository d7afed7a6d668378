"""Keeps one local server as its child, and stops it when its last user is gone.

Run as a script by `ServerFolder.start`, standard library only, as `keeper.py FOLDER SPEC`. A
keeper outlives whoever started it, so no user's death takes the server from another; the kernel
drops a killed user's lock, so none leaves the server behind.
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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_LOOK_AROUND_SECONDS = 0.2


def main(folder: Path, spec: dict[str, Any]) -> None:
    if os.fork():
        os._exit(0)  # so that the process that started us need not reap us
    os.chdir(folder)
    # Before the server starts: one that ends at once must wake us too.
    wakeup = _wake_on(signal.SIGTERM, signal.SIGCHLD)
    users = _Users(folder)
    server = _spawn(spec)
    _write_state(folder / "server.json", server.pid, spec["port"])

    while server.poll() is None:
        asked = bytes([signal.SIGTERM]) in _wait(wakeup)
        if asked or users.all_gone():
            _stop(server, spec["stop_signal"], spec["patience"])
    sys.stderr.write(f"{spec['command'][0]} ended with {server.returncode}\n")
    if spec["scratch"] and users.all_gone():
        shutil.rmtree(folder, ignore_errors=True)


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


def _write_state(path: Path, pid: int, port: int) -> None:
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    state = {"keeper": os.getpid(), "pid": pid, "port": port, "started": started}
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
