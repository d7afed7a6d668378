"""Services as processes of this machine, each in a folder of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.local_servers.folder import RunningServer, ServerFolder
from jts_storage.services.doctor import Resources, problems_of, problems_of_one
from jts_storage.services.health import why_not_well
from jts_storage.services.listeners import is_of_another
from jts_storage.services.programs import local_programs
from jts_storage.services.stack import HOST, STACK, all_ports, chosen
from jts_storage.services.stamps import write_stamp
from jts_storage.services.state import make_folder
from jts_storage.services.supervision import Seen, Supervision

_TURN_SECONDS: Final = 60.0
_STOP_SLACK: Final = 10.0
_KILLED: Final = "and is killed"
_LAST_BYTES: Final = 4_096
_HEALTH_SECONDS: Final = 1.0
"""So long a service that was well counts as well, unless its process is gone."""

log = logging.getLogger(__name__)


class LocalUnits:
    """The processes of the stack.

    :param folder: of the stack; each service has its own in it.
    :param ports: of `all_ports`.
    :param lasting: whether the processes live on when this one dies.
    """

    look_every = 0.05

    def __init__(
        self,
        folder: Path,
        ports: Mapping[str, int],
        *,
        lasting: bool = False,
        resources: Resources | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.ports = ports
        self.programs = local_programs(self.folder.parent / "certificates")
        self._lasting = lasting
        self._resources = resources or Resources()
        self._folders: dict[str, ServerFolder] = {}
        self._joined: set[str] = set()
        self._greeted: set[str] = set()
        self._well_until: dict[str, tuple[RunningServer, float]] = {}

    def problems(self, names: Sequence[str]) -> Sequence[str]:
        return problems_of(self, names, self._resources)

    def start(self, name: str) -> None:
        try:
            self._start(name)
        except (OSError, subprocess.SubprocessError) as exc:
            raise ConnectionFailed(f"{name} could not be started: {exc}") from exc

    def _start(self, name: str) -> None:
        folder = self._of(name)
        with folder.exclusive(_TURN_SECONDS):
            if name not in self._joined:
                folder.join()
                self._joined.add(name)
            folder.let_last(self._lasting)
            if folder.running() is not None:
                log.info("%s runs already in %s, and is taken as it is.", name, folder.path)
                return
            self._greeted.discard(name)
            # Perhaps again, a day later: a port or a program may have become another's.
            if problems := problems_of_one(self, name, self._resources):
                raise ConnectionFailed(" ".join(problems))
            command = self.programs[name].command(folder, self.ports)
            folder.start(replace(command, patience=STACK[name].grace))

    def look(self, names: Sequence[str]) -> dict[str, Seen]:
        servers, unknown = self._servers(names)
        due = {
            name: server
            for name, server in servers.items()
            if server is not None and not self._was_well(name, server)
        }
        with ThreadPoolExecutor(max(1, len(due)), "health") as pool:  # threads as they are needed
            asked = dict(zip(due, pool.map(self._asked, due, due.values()), strict=True))
        return unknown | {
            name: Seen(False, why=self._last_words(name))
            if server is None
            else _seen(server, asked.get(name, ""))
            for name, server in servers.items()
        }

    def _servers(
        self, names: Sequence[str]
    ) -> tuple[dict[str, RunningServer | None], dict[str, Seen]]:
        """The processes, and of which services they cannot be told, and why."""
        servers: dict[str, RunningServer | None] = {}
        unknown: dict[str, Seen] = {}
        for name in names:
            try:
                servers[name] = self.running(name)
            except (OSError, StorageError) as exc:
                unknown[name] = Seen(True, why=str(exc))
        return servers, unknown

    def stop(self, name: str) -> str:
        if not (self.folder / name).is_dir():
            if name in self._joined:  # somebody removed it, and the keeper goes by what it was
                self._folders.pop(name).part()
                self._joined.discard(name)
            return ""
        folder = self._of(name)
        grace = STACK[name].grace
        with folder.exclusive(_TURN_SECONDS):
            was_running = folder.running() is not None
            try:
                folder.stop(2 * grace + _STOP_SLACK)
                was_killed = was_running and _KILLED in folder.log_tail()
            except ConnectionFailed:  # its keeper hangs, which was to kill it
                folder.end(_STOP_SLACK)
                was_killed = True
            folder.let_last(False)
        if name in self._joined:
            folder.part()
            self._joined.discard(name)
        if was_killed:
            return f"it did not stop within {grace:g} s, and was killed"
        return ""

    def health_url(self, name: str) -> str | None:
        return STACK[name].health_url(self.ports[name])

    def running(self, name: str) -> RunningServer | None:
        """Its process, whoever started it."""
        if not (self.folder / name / "server.lock").exists():
            return None
        return self._of(name).running()

    def lasting(self, names: Iterable[str]) -> list[str]:
        """Those that run, and live on without a supervisor."""
        return [
            name
            for name in names
            if (self.folder / name / "lasting").exists() and self.running(name) is not None
        ]

    def leave(self) -> None:
        """Let go of all; those that are not lasting end then."""
        for name in self._joined:
            self._folders[name].part()
        self._joined.clear()

    def _of(self, name: str) -> ServerFolder:
        if name not in self._folders:
            make_folder(self.folder)
            made = ServerFolder(self.folder / STACK[name].folder)
            with suppress(PermissionError):  # of another owner, of which the start tells
                made.path.chmod(0o700)
            self._folders[name] = made
        return self._folders[name]

    def _was_well(self, name: str, server: RunningServer) -> bool:
        known, until = self._well_until.get(name, (None, 0.0))
        return known == server and time.monotonic() < until

    def _asked(self, name: str, server: RunningServer) -> str:
        """Why it is not well, or nothing."""
        if is_of_another(server.port, server.pid):  # who must not be asked, and not be helped
            return f"somebody else listens on {HOST}:{server.port}"
        why = why_not_well(STACK[name].health_url(server.port))
        if not why and name not in self._greeted:
            why = self._greet(name, server)
        if not why:
            self._well_until[name] = (server, time.monotonic() + _HEALTH_SECONDS)
        return why

    def _greet(self, name: str, server: RunningServer) -> str:
        """Do what is due once it is well after a start; only for those that start services."""
        if name not in self._joined:
            return ""
        try:
            self.programs[name].well_for_the_first_time(self._of(name), server.port)
            write_stamp(self._of(name).path, self.programs[name].find())
        except (OSError, StorageError) as exc:
            return f"it could not be set up: {exc}"
        self._greeted.add(name)
        return ""

    def _last_words(self, name: str) -> str:
        with suppress(OSError), (self.folder / name / "server.log").open("rb") as log_file:
            # It is asked for again and again, and may be long.
            log_file.seek(max(log_file.seek(0, os.SEEK_END) - _LAST_BYTES, 0))
            lines = log_file.read().decode(errors="replace").splitlines()
            if last := [each.strip()[:200] for each in lines[-2:]]:  # its own, and its keeper's
                return f"it has ended: {'; '.join(last)}"
        return ""


class LocalManager(Supervision):
    """A `ServiceManager` over processes of this machine, which end with this one.

    It is for development and for small machines; it does not start when the machine does, and
    nobody starts it again when it ends. Everybody on this machine can use the services: none asks
    for a password, and none listens elsewhere than on 127.0.0.1.

    :param folder: where the services keep their files.
    :param only: these services, and what they need; if not given, the stores.
    :param ports: in place of the usual ones, by the names of services.
    :param restart_unhealthy: start those again, too, that live and do not answer.
    :param lasting: whether the services live on when this process dies.
    :param resources: what the machine has; of this one if not given.
    """

    def __init__(
        self,
        folder: Path | str = Path(".jts/services"),
        *,
        only: Collection[str] = (),
        ports: Mapping[str, int] | None = None,
        restart_unhealthy: bool = False,
        lasting: bool = False,
        resources: Resources | None = None,
    ) -> None:
        self.units = LocalUnits(
            Path(folder), all_ports(ports or {}), lasting=lasting, resources=resources
        )
        super().__init__(
            self.units, chosen(only, is_local=True), restart_unhealthy=restart_unhealthy
        )

    def __repr__(self) -> str:
        return f"LocalManager({str(self.units.folder)!r}, {', '.join(self.names)})"


def _seen(server: RunningServer, why: str) -> Seen:
    return Seen(True, why=why, uptime=_seconds_since(server), pid=server.pid, port=server.port)


def _seconds_since(server: RunningServer) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(server.started)).total_seconds()
