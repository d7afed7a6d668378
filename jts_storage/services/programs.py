"""How each service is run from a program of this machine: of a package, of the system, our own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.local_servers import at_rest, postgres
from jts_storage.local_servers.folder import ServerCommand, ServerFolder
from jts_storage.local_servers.mongod import find_mongod, mongod_command
from jts_storage.local_servers.redis import find_redis
from jts_storage.services.configurations import alertmanager, clickhouse, nginx, prometheus
from jts_storage.services.stack import HOST, METRICS
from jts_storage.services.variables import DATABASE, of_gateway
from jts_storage.settings import StorageSettings

_VERSION: Final = re.compile(r"\d+\.\d+(?:\.\d+)*")
_OLDEST_CLICKHOUSE: Final = 24
"""Debian 12 has one of 2018, which lacks most of what the kit asks for."""

_VERSION_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Found:
    """A program of this machine.

    :param kind: what its files are of: data of another kind or of a later version are not for it.
    """

    path: Path
    kind: str
    version: str


class Program(Protocol):
    """One service as a process."""

    def find(self) -> Found:
        """:raises InvalidConfiguration: it is not installed."""
        ...

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        """Make what its folder lacks, and return how it is run there."""
        ...

    def well_for_the_first_time(self, folder: ServerFolder, port: int) -> None:
        """Called after each start, once it is well."""
        ...


class _Plain:
    def well_for_the_first_time(self, folder: ServerFolder, port: int) -> None:
        pass


class Mongod(_Plain):
    def find(self) -> Found:
        path = find_mongod(StorageSettings.load().mongod)
        return Found(path, "mongod", version_of(path, "--version"))

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        at_rest.forget(folder.path)
        return mongod_command(self.find().path, folder, ports["mongodb"])


class Postgres:
    """Its only user is `postgres`, trusted without a password: it listens on this machine only."""

    def find(self) -> Found:
        if find_spec("asyncpg") is None:
            raise InvalidConfiguration(
                "asyncpg, by which it is asked, is not installed",
                remedy="pip install 'jts-storage[postgres]'.",
            )
        path = postgres.find_postgres() / "postgres"
        return Found(path, "postgres", version_of(path, "--version"))

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        if owner := postgres.account():
            os.chown(folder.path, *owner)
        binaries = postgres.runnable(self.find().path.parent, folder.path)
        data = folder.path / "data"
        if not (data / "PG_VERSION").exists():
            postgres.make_cluster(binaries, data)
        return postgres.postgres_command(binaries, data, ports["postgres"], {})

    def well_for_the_first_time(self, folder: ServerFolder, port: int) -> None:
        binaries = postgres.runnable(self.find().path.parent, folder.path)
        try:
            postgres.run_sql(binaries, port, f"CREATE DATABASE {postgres.quoted(DATABASE)}")
        except ConnectionFailed as exc:
            if "already exists" not in str(exc):
                raise


class Redis(_Plain):
    """It writes each change to its file, so a kill loses little or nothing.

    :param name: of the service.
    :param evicts: whether it may forget the oldest when its memory is full, as a cache may. Such a
        one answers before its file has the change where the disk is slow.
    """

    def __init__(self, name: str, *, evicts: bool) -> None:
        self._name = name
        self._evicts = evicts

    def find(self) -> Found:
        path = find_redis()
        return Found(path, "redis", version_of(path, "--version"))

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        options = {
            "--bind": HOST,
            "--port": str(ports[self._name]),
            "--dir": str(folder.path),
            "--appendonly": "yes",
            "--appendfsync": "everysec" if self._evicts else "always",
            "--save": "",
            "--maxmemory": "512mb" if self._evicts else "0",
            "--maxmemory-policy": "allkeys-lru" if self._evicts else "noeviction",
        }
        flat = [part for option in options.items() for part in option]
        return ServerCommand(arguments=[str(self.find().path), *flat], port=ports[self._name])


class ClickHouse(_Plain):
    """ClickHouse's own server where it is installed, else the embedded engine at its protocol."""

    def find(self) -> Found:
        if path := shutil.which("clickhouse"):
            found = version_of(Path(path), "--version")
            if int(found.partition(".")[0]) >= _OLDEST_CLICKHOUSE:
                return Found(Path(path), "clickhouse", found)
        try:
            return Found(Path(sys.executable), "chdb", version("chdb-core"))
        except PackageNotFoundError:
            pass
        if find_spec("chdb") is not None:
            return Found(Path(sys.executable), "chdb", version("chdb"))
        raise InvalidConfiguration(
            "neither a ClickHouse server nor chDB is installed",
            remedy="pip install 'jts-storage[embedded]', or put `clickhouse` on PATH.",
        )

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        found, port = self.find(), ports["clickhouse"]
        data = folder.subfolder("data")
        if found.kind == "clickhouse":
            file = clickhouse(folder.path, port)
            arguments = [str(found.path), "server", "--config-file", str(file)]
            return ServerCommand(arguments=arguments, port=port)
        arguments = [
            *(str(found.path), "-P", "-m", "jts_storage.clickhouse.endpoint"),
            *("--path", str(data), "--port", str(port), "--database", DATABASE, "--stay"),
        ]
        return ServerCommand(arguments=arguments, port=port)


class Gateway(_Plain):
    """``jts-storage serve`` over the other services of the stack."""

    def find(self) -> Found:
        from jts_storage._version import __version__

        if find_spec("grpc") is None or find_spec("grpc_health") is None:
            raise InvalidConfiguration(
                "the gateway needs grpcio, which is not installed",
                remedy="pip install 'jts-storage[grpc,cli,metrics]'.",
            )
        return Found(Path(sys.executable), "gateway", __version__)

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        arguments = [
            *(sys.executable, "-P", "-m", "jts_storage.cli.main", "serve"),
            *("--listen", f"{HOST}:{ports['gateway']}"),
        ]
        if find_spec("prometheus_client") is not None:
            arguments += ["--metrics", f"{HOST}:{ports[METRICS]}"]
        return ServerCommand(
            arguments=arguments,
            port=ports["gateway"],
            environment=of_gateway(ports, folder.subfolder("data")),
        )


class Prometheus(_Plain):
    def find(self) -> Found:
        return _of_system("prometheus", "prometheus", "--version")

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        arguments = [
            str(self.find().path),
            f"--config.file={prometheus(folder.path, ports)}",
            f"--storage.tsdb.path={folder.subfolder('data')}",
            f"--web.listen-address={HOST}:{ports['prometheus']}",
            "--storage.tsdb.retention.time=15d",
        ]
        return ServerCommand(arguments=arguments, port=ports["prometheus"])


class Alertmanager(_Plain):
    def find(self) -> Found:
        return _of_system(
            "alertmanager", "prometheus-alertmanager", "--version", others=("alertmanager",)
        )

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        arguments = [
            str(self.find().path),
            f"--config.file={alertmanager(folder.path)}",
            f"--storage.path={folder.subfolder('data')}",
            f"--web.listen-address={HOST}:{ports['alertmanager']}",
            "--cluster.listen-address=",
        ]
        return ServerCommand(arguments=arguments, port=ports["alertmanager"])


class Nginx(_Plain):
    """TLS before the gateway, with the certificates of ``jts-storage services certs``.

    :param certificates: the folder that has `server/server.pem` and its key.
    """

    def __init__(self, certificates: Path) -> None:
        self._certificates = certificates / "server"

    def find(self) -> Found:
        found = _of_system("nginx", "nginx", "-v")
        if not (self._certificates / "server.pem").exists():
            raise InvalidConfiguration(
                f"nginx needs a certificate, and {self._certificates / 'server.pem'} is not there",
                remedy="Run jts-storage services certs.",
            )
        return found

    def command(self, folder: ServerFolder, ports: Mapping[str, int]) -> ServerCommand:
        file = nginx(folder.path, ports, self._certificates.absolute())
        arguments = [
            *(str(self.find().path), "-p", str(folder.path), "-c", str(file)),
            *("-e", "stderr", "-g", "daemon off;"),
        ]
        return ServerCommand(arguments=arguments, port=ports["nginx"])


def local_programs(certificates: Path) -> dict[str, Program]:
    """What of the stack can be a process, by the names of the services."""
    return {
        "clickhouse": ClickHouse(),
        "mongodb": Mongod(),
        "postgres": Postgres(),
        "redis": Redis("redis", evicts=True),
        "redis-limits": Redis("redis-limits", evicts=False),
        "gateway": Gateway(),
        "prometheus": Prometheus(),
        "alertmanager": Alertmanager(),
        "nginx": Nginx(certificates),
    }


def _of_system(kind: str, name: str, asking: str, *, others: tuple[str, ...] = ()) -> Found:
    for each in (name, *others):
        if path := shutil.which(each):
            return Found(Path(path), kind, version_of(Path(path), asking))
    raise InvalidConfiguration(
        f"{kind} is not installed", remedy=f"On Debian and Ubuntu: apt-get install {name}."
    )


@cache
def version_of(program: Path, asking: str) -> str:
    """What a program says of its version.

    :raises InvalidConfiguration: it cannot be run.
    """
    try:
        done = subprocess.run(
            [str(program), asking],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise InvalidConfiguration(f"{program} cannot be run: {exc}") from exc
    found = _VERSION.search(done.stdout + done.stderr)
    if found is None:
        said = (done.stdout + done.stderr).strip()[:200]
        raise InvalidConfiguration(f"{program} {asking} says no version: {said}")
    return found[0]
