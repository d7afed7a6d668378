"""The files of the profile `replica`, with real servers of PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from jts_storage.local_servers.folder import free_port
from jts_storage.local_servers.postgres import LocalPostgres, account

FILES: Final = Path(__file__).parents[2] / "ops" / "postgres"
PASSWORD: Final = 'it\'s "odd" $1'  # as nobody should choose it, so that nothing is left unquoted
_PATIENCE: Final = 60.0


@dataclass
class Servers:
    """A primary, and how to make its replica."""

    primary: LocalPostgres
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ask(self, statement: str, port: int | None = None) -> str:
        done = self.run(
            *("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
            *("--host", "127.0.0.1", "--port", str(port or self.primary.port)),
            *("--username", LocalPostgres.user, "--dbname", "postgres", "--command", statement),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def replication(self) -> None:
        """As the service `postgres-replication`."""
        done = self.run(
            *("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet"),
            f"--file={FILES / 'replication.sql'}",
            PGHOST="127.0.0.1",
            PGPORT=str(self.primary.port),
            PGUSER=LocalPostgres.user,
            PGDATABASE="postgres",
            REPLICATION_PASSWORD=PASSWORD,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that the account of PostgreSQL gets into, which is not root."""
    with tempfile.TemporaryDirectory(prefix="jts-replica-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def servers(folder: Path, engine_used: Callable[[str], None]) -> Iterator[Servers]:
    engine_used("PostgreSQL")
    # Whoever runs the tests comes without a password; everybody else as the file says.
    rules = (FILES / "pg_hba.conf").read_text()
    file = folder / "pg_hba.conf"
    file.write_text(f"host all {LocalPostgres.user} 127.0.0.1/32 trust\n{rules}")
    file.chmod(0o644)
    settings = {"hba_file": str(file), "max_slot_wal_keep_size": "4GB"}
    with LocalPostgres.start(settings=settings) as primary:
        path = f"{primary._binaries}:{os.environ['PATH']}"
        yield Servers(primary, folder, {"PATH": path, "LC_ALL": "C", "HOME": str(folder)})


@dataclass
class Replica:
    """What `replica.sh` runs."""

    servers: Servers
    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self, password: str = PASSWORD) -> None:
        user, group = account() or (None, None)
        if user is not None and group is not None:
            os.chown(self.data, user, group)
        command = [
            *("bash", str(self.servers.folder / "replica.sh")),
            *("-p", str(self.port), "-k", str(self.data)),
        ]
        with (self.servers.folder / "replica.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={
                    **self.servers.environment,
                    "PGDATA": str(self.data),
                    "PGPASSWORD": password,
                    "PRIMARY_HOST": "127.0.0.1",
                    "PRIMARY_PORT": str(self.servers.primary.port),
                    "HBA_FILE": str(self.servers.folder / "pg_hba.conf"),
                },
                stdout=log,
                stderr=log,
                cwd="/",
                user=user,
                group=group,
            )

    def log(self) -> str:
        return (self.servers.folder / "replica.log").read_text()

    def wait_for(self, rows: int) -> None:
        for _ in range(int(_PATIENCE / 0.1)):
            with suppress(AssertionError):
                if self.servers.ask("SELECT count(*) FROM rows", self.port) == str(rows):
                    return
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)
        raise AssertionError(self.log())

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast, which waits for nobody
            self.process.wait(60)


@pytest.fixture
def replica(servers: Servers) -> Iterator[Replica]:
    data = servers.folder / "data"
    data.mkdir(mode=0o700)
    shutil.copy(FILES / "replica.sh", servers.folder)
    (servers.folder / "replica.sh").chmod(0o755)
    found = Replica(servers, data, free_port())
    yield found
    found.stop()
    shutil.rmtree(data)


def test_a_replica_copies_the_primary_once_and_follows_it(
    servers: Servers, replica: Replica
) -> None:
    for _ in range(2):  # it may be run again
        servers.replication()
    servers.ask("CREATE TABLE rows (id int); INSERT INTO rows VALUES (1)")
    (replica.data / "half").touch()  # of a copy that was interrupted
    replica.start()
    replica.wait_for(1)
    servers.ask("INSERT INTO rows VALUES (2)")
    replica.wait_for(2)
    assert servers.ask("SELECT pg_is_in_recovery()", replica.port) == "t"
    assert not (replica.data / "half").exists()

    identity = (replica.data / "PG_VERSION").stat().st_ino
    replica.stop()
    servers.ask("INSERT INTO rows VALUES (3)")
    replica.start()
    replica.wait_for(3)
    assert (replica.data / "PG_VERSION").stat().st_ino == identity
    slots = servers.ask("SELECT slot_name, active FROM pg_replication_slots")
    assert slots == "replica|t"


def test_nobody_replicates_or_reads_without_a_password(servers: Servers, replica: Replica) -> None:
    servers.replication()
    replica.start("wrong")
    assert replica.process is not None
    assert replica.process.wait(60) != 0
    assert "password authentication failed" in replica.log()
    address = ["--host", "127.0.0.1", "--port", str(servers.primary.port), "--no-password"]
    done = servers.run("psql", *address, "-U", "replicator", "-d", "postgres", "-c", "SELECT 1")
    assert "no password supplied" in done.stderr
