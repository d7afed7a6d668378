"""A folder with one local server in it, shared by every process that uses the folder.

Three locks hold the state. The kernel releases each when its process dies, even by kill -9:

- `users.lock`: every user holds it shared; a process that gets it exclusively is the last;
- `server.lock`: held by the keeper and by the server; free means that neither lives;
- `turn.lock`: held while a process joins, leaves, starts or stops, so that these never overlap.

A file `lasting` lets the server live on without users, until somebody stops it.

`server.json` is believed only while `server.lock` is held, so a stale one does no harm.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.local_servers.keeper import LOG_BYTES, set_aside
from jts_storage.local_servers.locks import is_held, try_lock, unlock

_KEEPER = Path(__file__).with_name("keeper.py")
_POLL_SECONDS = 0.005
_LAUNCH_SECONDS = 30.0
_LOOK_SECONDS = 2.0
_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class RunningServer:
    keeper: int
    pid: int
    port: int
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """How to run a server and how to stop it.

    :param patience: seconds between `stop_signal` and SIGKILL.
    :param user: user and group id to run as, when not our own.
    :param scratch: the folder is deleted when its last user is gone.
    :param environment: variables that it gets beside those of the process that starts it.
    :param own_logs: names of files in the folder to which it appends by itself.
    :param log_bytes: beyond this its logs are copied aside and begun anew.
    """

    arguments: Sequence[str]
    port: int
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 10.0
    user: tuple[int, int] | None = None
    scratch: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    own_logs: Sequence[str] = ()
    log_bytes: int = LOG_BYTES


class ServerFolder:
    """One process's view of the folder. Blocking; not for use by two threads at once.

    :raises InvalidConfiguration: the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "server.log"
        self._state = self.path / "server.json"
        self._users: int | None = None
        self._owner = os.getpid()
        with self._unusable_otherwise():
            self.path.mkdir(parents=True, exist_ok=True)
            os.close(self._open("turn.lock"))

    def subfolder(self, name: str) -> Path:
        """The folder `name` in this one, made when missing."""
        with self._unusable_otherwise():
            (self.path / name).mkdir(exist_ok=True)
        return self.path / name

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Hold the lock under which processes join, leave, start and stop."""
        fd = self._open("turn.lock")
        try:
            deadline = time.monotonic() + timeout
            while not try_lock(fd):
                if time.monotonic() > deadline:
                    raise ConnectionFailed(
                        f"Another process has been starting or stopping the server in {self.path} "
                        f"for more than {timeout:g} s.",
                        remedy=f"Look at {self.log}.",
                    )
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            unlock(fd)

    def join(self) -> None:
        """Become a user; call it within `exclusive`.

        :raises InvalidConfiguration: the folder is a copy that shares its files with the original.
        """
        self._check_no_links()
        self._users = self._open("users.lock")
        fcntl.flock(self._users, fcntl.LOCK_SH)

    def let_last(self, lasts: bool) -> None:
        """Whether the server lives on when its last user is gone."""
        lasting = self.path / "lasting"
        if lasts:
            lasting.touch(0o600)
        else:
            lasting.unlink(missing_ok=True)

    def part(self) -> None:
        """Stop being a user, and stop nothing."""
        users, self._users = self._users, None
        if users is not None and os.getpid() == self._owner:
            unlock(users)

    def leave(
        self,
        timeout: float,
        *,
        around_stop: Callable[[RunningServer], AbstractContextManager[None]] | None = None,
    ) -> None:
        """Stop being a user; the last one stops the server and returns when it is gone.

        :param around_stop: entered before this user stops a running server, left once it is gone.
        """
        users, self._users = self._users, None
        if users is None:
            return
        if os.getpid() != self._owner:  # a fork holds the very same lock, but is no user
            os.close(users)
            return
        if not self._leads_to(users):  # to another one's server, perhaps; ours has its keeper
            unlock(users)
            return
        try:
            with self.exclusive(timeout):
                fcntl.flock(users, fcntl.LOCK_UN)
                if try_lock(users) and (server := self.running()):
                    with around_stop(server) if around_stop is not None else nullcontext():
                        self.stop(timeout)
        finally:
            unlock(users)

    def running(self) -> RunningServer | None:
        """Return the running server of this folder, whichever process started it."""
        deadline = time.monotonic() + _LAUNCH_SECONDS
        while self._is_held("server.lock"):
            try:
                return _server_of(self._state.read_bytes())
            except FileNotFoundError:
                pass
            except (ValueError, KeyError, TypeError) as exc:  # nobody leaves half of it
                raise ConnectionFailed(
                    f"A server runs in {self.path}, and {self._state.name} does not say which.",
                    remedy=f"`fuser {self.path / 'server.lock'}` names its processes: end them.",
                ) from exc
            if time.monotonic() > deadline:
                raise ConnectionFailed(f"The server in {self.path} never wrote its process id.")
            time.sleep(_POLL_SECONDS)
        return None

    def last_port(self) -> int | None:
        """Return where the server listened the last time.

        In a copy of a folder it is None: that port is the one of the server of the original.
        """
        try:
            told = self._told()
            # Earlier releases did not say where it was.
            is_here = self.path.samefile(told.get("folder", self.path))
            return int(told["port"]) if is_here else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _told(self) -> dict[str, Any]:
        """What the last keeper wrote, whatever it is."""
        return dict(json.loads(self._state.read_text()))

    def start(self, command: ServerCommand) -> RunningServer | None:
        """Start the server; None when it ended at once.

        Call it within `exclusive`, when none is running.
        """
        lock = self._open("server.lock")
        try:
            self._take(lock)
            # `running` waits for this file, so that of the server before must go.
            self._state.unlink(missing_ok=True)
            self._launch_keeper(command, lock)
        finally:
            os.close(lock)  # the keeper and the server have inherited it and hold it on
        return self.running()

    def start_until(
        self, is_ready: Callable[[RunningServer], bool], command: ServerCommand, timeout: float
    ) -> RunningServer:
        """Start the server and wait until it is ready.

        :raises ConnectionFailed: it ended, or took longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        server = self.start(command)
        while server is not None and time.monotonic() < deadline:
            if is_ready(server):
                return server
            time.sleep(_POLL_SECONDS)
            server = self.running()
        name = Path(command.arguments[0]).name
        raise ConnectionFailed(
            f"The local {name} in {self.path} did not start. Its log ends:\n{self.log_tail()}\n"
        )

    def stop(self, timeout: float) -> None:
        """Stop the server in good order and wait until it is gone."""
        if server := self.running():
            _signal(server.keeper, signal.SIGTERM)
            self._wait_until_gone(timeout)

    def kill(self, timeout: float) -> None:
        """Kill the server as a crash would, and wait until it is gone."""
        if server := self.running():
            _signal(server.pid, signal.SIGKILL)
            self._wait_until_gone(timeout)

    def end(self, timeout: float) -> None:
        """Kill the server and its keeper, which does not do its work; wait until both are gone."""
        if server := self.running():
            _signal(server.pid, signal.SIGKILL)
            _signal(server.keeper, signal.SIGKILL)
            self._wait_until_gone(timeout)

    def log_tail(self) -> str:
        """Return what the server and its keeper last wrote to their standard streams."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        except OSError:
            return ""

    def _launch_keeper(self, command: ServerCommand, lock: int) -> None:
        user, group = command.user or (None, None)
        spec = {
            "command": list(command.arguments),
            "port": command.port,
            "lock": lock,
            "stop_signal": command.stop_signal,
            "patience": command.patience,
            "user": user,
            "group": group,
            "scratch": command.scratch,
            "environment": dict(command.environment),
            "logs": [self.log.name, *command.own_logs],
            "log_bytes": command.log_bytes,
        }
        set_aside(self.log)  # it may say why the last one ended
        # Its keeper empties it while it is written to, so it is appended to.
        appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.log, appended, 0o600), "ab") as log:
            subprocess.run(
                # Isolated and without site-packages: quick to start, and nothing of ours is loaded.
                [sys.executable, "-I", "-S", str(_KEEPER), str(self.path), json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C in the terminal is not meant for the server
                check=False,  # whether it runs is seen by the lock, why not by the log
                timeout=_LAUNCH_SECONDS,
            )

    def _take(self, lock: int) -> None:
        """Take the lock of the server, which somebody may be looking at."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while not try_lock(lock):
            if time.monotonic() > deadline:
                raise ConnectionFailed(f"A server runs in {self.path} already.")
            time.sleep(_POLL_SECONDS)

    def _wait_until_gone(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._is_held("server.lock"):
            if time.monotonic() > deadline:
                raise ConnectionFailed(
                    f"The server in {self.path} did not stop within {timeout:g} s.",
                    remedy=f"Its process id is in {self._state}.",
                )
            time.sleep(_POLL_SECONDS)

    def _leads_to(self, opened: int) -> bool:
        """Whether the path still leads to a file of this folder, which can have been renamed."""
        try:
            return os.path.samestat(os.fstat(opened), (self.path / "users.lock").stat())
        except OSError:
            return False

    def _check_no_links(self) -> None:
        """A copy made of hard links has the locks of the original, and so its server."""
        try:
            other = Path(self._told()["folder"])
            is_linked = (self.path / "turn.lock").samefile(other / "turn.lock")
            is_other = not self.path.samefile(other)
        except (OSError, ValueError, KeyError, TypeError):
            return
        if is_linked and is_other:
            raise InvalidConfiguration(
                f"{self.path} is a copy of {other} that shares its files with it (hard links), so"
                " that what is written to one would be in the other.",
                remedy="Stop what uses it, and copy it with its content: `cp -a` without -l.",
            )

    @contextmanager
    def _unusable_otherwise(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise InvalidConfiguration(
                f"{self.path} cannot hold a local server: {exc.strerror}.",
                remedy="Name a data folder that this user may write.",
            ) from exc

    def _is_held(self, name: str) -> bool:
        fd = self._open(name)
        try:
            return is_held(fd)
        finally:
            unlock(fd)

    def _open(self, name: str) -> int:
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def package_folders(package: str) -> list[Path]:
    """Return the folders of an installed package without importing it; none if it is missing."""
    found = importlib.util.find_spec(package)
    return [Path(folder) for folder in (found and found.submodule_search_locations) or ()]


def free_port(preferred: int | None = None) -> int:
    """A port of 127.0.0.1 that nobody listens on; `preferred` when it is free."""
    if preferred is not None and 1024 <= preferred < 65536 and _bound_port(preferred):
        return preferred
    if port := _bound_port(0):
        return port
    raise ConnectionFailed("There is no free port on 127.0.0.1.")


def _bound_port(port: int) -> int | None:
    with socket.socket() as probe:
        # A port that a server has just left counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _server_of(text: bytes) -> RunningServer:
    """Of what a keeper has written, also one of a later release."""
    told = json.loads(text)
    return RunningServer(
        int(told["keeper"]), int(told["pid"]), int(told["port"]), str(told["started"])
    )


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
