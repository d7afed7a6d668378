"""What a test of a manager needs of what runs the services."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jts_storage.local_servers.folder import ServerCommand, ServerFolder, free_port
from jts_storage.services.docker import DockerManager
from jts_storage.services.local import LocalManager
from jts_storage.services.programs import Found, Program
from jts_storage.services.stack import PORTS
from jts_storage.services.status import ServiceStatus
from jts_storage.services.supervision import Supervision
from tests.unit.services.fake_docker import Docker

SECONDS = 30.0


class Rig(Protocol):
    """A manager of `redis` and `redis-limits`, and what can befall them."""

    @property
    def manager(self) -> Supervision: ...

    def again(self) -> Supervision:
        """A second manager of the same services, as another process has it."""
        ...

    def kill(self, name: str) -> None: ...

    def breaks(self, name: str) -> None:
        """Let it end at once whenever it is started."""
        ...

    def close(self) -> None: ...


def free_ports() -> dict[str, int]:
    """A free port for every service."""
    ports: dict[str, int] = {}
    while len(set(ports.values())) < len(PORTS):
        ports = {name: free_port() for name in PORTS}
    return ports


def folder_for_all() -> Path:
    """A folder that PostgreSQL can reach, too, where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="jts-stack-"))
    folder.chmod(0o711)
    return folder / "services"


class Broken:
    """A program that ends as soon as it is started."""

    def __init__(self, real: Program) -> None:
        self._real = real

    def find(self) -> Found:
        return self._real.find()

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        return ServerCommand(arguments=["/bin/false"], port=1)

    def well_for_the_first_time(self, folder: ServerFolder, port: int) -> None: ...


class LocalRig:
    def __init__(self, *only: str, **options: Any) -> None:
        self.folder = folder_for_all()
        self.ports = free_ports()
        self._only = only or ("redis", "redis-limits")
        self.manager = LocalManager(self.folder, only=self._only, ports=self.ports, **options)

    def again(self) -> LocalManager:
        return LocalManager(self.folder, only=self._only, ports=self.ports)

    def kill(self, name: str) -> None:
        pid = status_of(self.manager, name).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def breaks(self, name: str) -> None:
        programs: dict[str, Program] = self.manager.units.programs
        programs[name] = Broken(programs[name])

    def close(self) -> None:
        self.manager.interrupt()
        self.manager.stop_services()
        shutil.rmtree(self.folder.parent, ignore_errors=True)


class DockerRig:
    def __init__(self, folder: Path) -> None:
        services: dict[str, dict[str, Any]] = {"redis": {}, "redis-limits": {}}
        self.docker = Docker(folder, services)
        self.manager = self.again()

    def again(self) -> DockerManager:
        manager = DockerManager(self.docker.compose_file, program=self.docker.program)
        manager.units.look_every = 0.01
        return manager

    def kill(self, name: str) -> None:
        self.docker.becomes(name, code=137)
        self.manager.units._forget()

    def breaks(self, name: str) -> None:
        with self.docker.table() as table:
            table["up"][name] = [{"status": "exited", "code": 1}]

    def close(self) -> None:
        pass


def status_of(manager: Supervision, name: str) -> ServiceStatus:
    return {each.service_name: each for each in manager.status()}[name]


def watched_until(
    manager: Supervision, name: str, is_so: Callable[[ServiceStatus], bool]
) -> ServiceStatus:
    """Look again and again until a service is as it should be."""
    deadline = time.monotonic() + SECONDS
    while True:
        found = {each.service_name: each for each in manager.monitor_health()}[name]
        if is_so(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
