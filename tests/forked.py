"""Processes of Python as forks of one that has imported the kit: importing takes most of a start.

`Process` is started and used as `subprocess.Popen` of `sys.executable` is; `run` is as
`subprocess.run`. What a test says of importing, or of the start itself, it says of a process of
its own.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final, Self

PIPE: Final = subprocess.PIPE
DEVNULL: Final = subprocess.DEVNULL
STRICT: Final = (("error", ""),)
"""As `python -W error`."""
_TESTS: Final = Path(__file__).parents[1]


class Process:
    """A program in a fork, with the arguments that `python` would get: ``-c``, ``-m``, a file.

    :param warnings: what is to become of warnings that begin so, as `python -W` says.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        warnings: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.returncode: int | None = None
        self.stdin, given_in = _pipe(stdin, "w", 0)
        self.stdout, given_out = _pipe(stdout, "r", 1)
        self.stderr, given_err = _pipe(stderr, "r", 2)
        self._status, told = os.pipe()
        self.args = list(map(str, arguments))
        order = {
            "arguments": self.args,
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
            "warnings": list(warnings),
        }
        given = [given_in, given_out, given_err, told]
        with tempfile.TemporaryFile() as text:  # an order may be larger than a message
            text.write(json.dumps(order).encode())
            text.seek(0)
            socket.send_fds(_forker(), [b"fork"], [*given, text.fileno()])
        for fd in given:
            os.close(fd)
        self.pid = self._told()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.wait()

    def poll(self) -> int | None:
        if self.returncode is None and _readable(self._status, timeout=0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not _readable(self._status, timeout=timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._told()
            os.close(self._status)
        return self.returncode

    def _told(self) -> int:
        """What the process that forks says: a missing answer must pass for no process number,
        as 0 is that of this whole group, and for no success.
        """
        told = os.read(self._status, 8)
        if len(told) < 8:
            raise ChildProcessError("The process that forks has ended.")
        return int.from_bytes(told, signed=True)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(
        self, input: str | None = None, timeout: float | None = None
    ) -> tuple[Any, Any]:
        """What is left of its output and of its errors, when it has ended."""
        end = None if timeout is None else time.monotonic() + timeout
        told: dict[str, str] = {}
        streams = {"out": self.stdout, "err": self.stderr}
        readers = [
            Thread(target=lambda n=name, s=stream: told.update({n: s.read()}), daemon=True)
            for name, stream in streams.items()
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            self.stdin.write(input or "")
            self.stdin.close()
        for reader in readers:
            reader.join(None if end is None else max(0, end - time.monotonic()))
        self.wait(None if end is None else max(0, end - time.monotonic()))
        self._close()
        return told.get("out"), told.get("err")

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def run(
    arguments: Sequence[str | Path],
    *,
    input: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed."""
    process = Process(arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, **options)
    try:
        out, err = process.communicate(input, timeout)
    except BaseException:
        process.kill()
        raise
    assert process.returncode is not None
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def _readable(*fds: int, timeout: float | None = None) -> set[int]:
    """Those that can be read, or whose other end is closed; `select` knows a thousand only."""
    waiting = select.poll()
    for fd in fds:
        waiting.register(fd, select.POLLIN)
    return {fd for fd, _ in waiting.poll(None if timeout is None else timeout * 1_000)}


def _pipe(wanted: int | None, mode: str, own: int) -> tuple[IO[str] | None, int]:
    """The end that is ours, and the one that is given away."""
    if wanted is None:
        return None, os.dup(own)
    if wanted != PIPE:
        return None, os.dup(wanted) if wanted >= 0 else os.open(os.devnull, os.O_RDWR)
    read, write = os.pipe()
    ours, given = (write, read) if mode == "w" else (read, write)
    return os.fdopen(ours, mode, encoding="utf-8"), given


@cache
def _forker() -> socket.socket:
    """The way to the process that forks; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JTS_")}
    command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
    # Not waited for: it goes by itself when this process is gone.
    forker = subprocess.Popen(
        command,
        cwd=_TESTS,
        env=environment,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    theirs.close()
    atexit.register(forker.wait, 30)
    atexit.register(ours.close)
    return ours


# ---- the process that forks


def _serve(orders: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each order; returns in each fork, or when there are no more orders."""
    read, write = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready = _readable(orders.fileno(), read)
        if read in ready:
            os.read(read, 4_096)
            _tell_ended(running)
        if orders.fileno() not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(orders, 16, 8)
        if not message:
            return None
        *given, status, text = fds
        order: dict[str, Any] = json.loads(os.pread(text, os.fstat(text).st_size, 0))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (read, write, status, text, *running.values()):
                os.close(fd)
            orders.close()
            return order, given
        running[pid] = status
        os.write(status, pid.to_bytes(8, signed=True))
        for fd in (*given, text):
            os.close(fd)


def _tell_ended(running: dict[int, int]) -> None:
    for pid in [*running]:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            told = running.pop(pid)
            with suppress(BrokenPipeError):  # nobody wants to know
                os.write(told, os.waitstatus_to_exitcode(status).to_bytes(8, signed=True))
            os.close(told)


def _become(order: dict[str, Any], given: list[int]) -> None:
    """Be the program that was ordered; its end is that of this process."""
    for own, fd in enumerate(given):
        os.dup2(fd, own)
        os.close(fd)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    tempfile.tempdir = None
    for action, message in order["warnings"]:
        warnings.filterwarnings(action, re.escape(message))
    first, *rest = order["arguments"]
    if first == "-m":
        sys.argv = rest
        sys.path[0] = order["cwd"]
        sys.modules.pop(rest[0], None)  # it is run as a module that nobody has imported
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    if first == "-c":
        code, *rest = rest
        sys.argv, sys.path[0], name = ["-c", *rest], "", "<string>"
    else:
        sys.argv, sys.path[0], name = [first, *rest], str(Path(first).resolve().parent), first
        code = Path(first).read_text()
        main.__file__ = first
    sys.modules["__main__"] = main
    exec(compile(code, name, "exec", dont_inherit=True), vars(main))


def main() -> None:
    import tests.forked_imports  # noqa: F401

    orders = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()  # or the first collection of each fork would copy all that is shared
    found = _serve(orders)
    if found is not None:
        _end(_exit_code(*found))


def _exit_code(order: dict[str, Any], given: list[int]) -> int:
    try:
        _become(order, given)
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> None:
    """As the interpreter ends, but without taking apart what every fork shares."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
