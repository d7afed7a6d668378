"""Programs in forks behave as those that `python` starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from tests import forked


def test_a_program_gets_what_it_was_given(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ['NAME'], os.getcwd(), __name__)\n"
        "print(input()[::-1], file=sys.stderr)\nraise SystemExit(3)\n"
    )
    done = forked.run([script, "a", "b"], env={"NAME": "x"}, cwd=tmp_path, input="abc")
    assert done.stdout == f"['a', 'b'] x {tmp_path} __main__\n"
    assert (done.stderr, done.returncode) == ("cba\n", 3)


@pytest.mark.parametrize(
    ("code", "expected", "told"),
    [
        ("pass", 0, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os._exit(7)", 7, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import warnings; warnings.warn('x')", 1, "UserWarning"),
        ("import atexit, os; atexit.register(os._exit, 4)", 4, ""),
    ],
)
def test_its_end_is_told(code: str, expected: int, told: str) -> None:
    done = forked.run(["-c", code], warnings=forked.STRICT)
    assert done.returncode == expected, done.stderr
    assert told in done.stderr


def test_one_that_waits_can_be_killed() -> None:
    with forked.Process(["-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL


def test_it_can_be_started_by_a_process_with_many_open_files() -> None:
    with ExitStack() as stack:
        for _ in range(1_100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        assert forked.run(["-c", "print(1)"], timeout=60).stdout == "1\n"


def test_who_forks_no_more_gives_no_process_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for 0, it would kill all tests; and an end that is not told is no success."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def die() -> None:
        for fd in socket.recv_fds(theirs, 16, 8)[1]:
            os.close(fd)

    monkeypatch.setattr(forked, "_forker", lambda: ours)
    dying = Thread(target=die)
    dying.start()
    with pytest.raises(ChildProcessError, match="has ended"):
        forked.Process(["-c", "pass"])
    dying.join()
    ours.close()
    theirs.close()


def test_a_module_is_run_as_one() -> None:
    done = forked.run(["-m", "jts_storage.cli.main", "--version"], check=True)
    assert done.stdout


def test_no_fork_has_the_engine_yet() -> None:
    """It starts threads when it is imported, which a fork would lack."""
    done = forked.run(["-c", "import sys; print('chdb' in sys.modules)"], check=True)
    assert done.stdout == "False\n"
