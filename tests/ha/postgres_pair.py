"""A PostgreSQL primary and the standby that follows it, of which either may be killed."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import asyncpg

from jts_storage.local_servers.postgres import LocalPostgres, find_postgres
from tests.ha.mongo_set import wait_until

_PATIENCE: Final = 60.0
_NAMES: Final = ("first", "second")
_ATTACHED: Final = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
_IN_STEP: Final = f"{_ATTACHED} AND sync_state = 'sync'"


class Node(LocalPostgres):
    """One server of a pair."""

    def ask(self, query: str) -> Any:
        """The one value that it answers."""

        async def asked() -> Any:
            connection = await asyncpg.connect(self.dsn, timeout=_PATIENCE)
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()

        return asyncio.run(asked())

    def set(self, setting: str, value: str) -> None:
        self._sql(f"ALTER SYSTEM SET {setting} = '{value}'")
        self._sql("SELECT pg_reload_conf()")

    def pause(self) -> None:
        """Let it do nothing, as if nobody could reach it, until it is killed."""
        _signal(self._processes(), signal.SIGSTOP)

    def kill(self) -> None:
        """End all of it at once, as if its machine had failed."""
        _signal(self._processes(), signal.SIGKILL)
        super().kill()

    def _processes(self) -> list[int]:
        """The server and a process for each connection, all of which are its children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def promote(self) -> None:
        assert self.ask("SELECT pg_promote(true, 60)"), "the standby was not promoted"


class Standby(Node):
    """A copy of a primary, made while that takes writes, which follows it from then on."""

    @classmethod
    def of(cls, primary: Node, port: int | None = None) -> Self:
        scratch = Path(tempfile.mkdtemp(prefix="jts-postgres-"))
        account = _account()
        if account is not None:
            os.chown(scratch, *account)
        standby = cls(scratch, primary._binaries, primary._settings, _PATIENCE)
        standby.port = port or standby.port
        try:
            standby._copy(primary, account)
        except BaseException:
            standby.stop()
            raise
        return standby

    def _copy(self, primary: Node, account: tuple[int, int] | None) -> None:
        with self._folder.exclusive(_PATIENCE):
            self._folder.join()
            if self._binaries.is_relative_to(primary._folder.path):
                install = self._folder.path / "install"
                shutil.copytree(self._binaries.parent, install)
                install.chmod(0o755)
                self._binaries = install / self._binaries.name
            _base_backup(self._binaries, primary, self._folder.path / "data", account)
            self._server = self._serve()


class Pair:
    """Two nodes; the one that `primary` names takes writes and the other follows it.

    :param synchronous: whether a commit is acknowledged only once the standby has it, too.
    """

    def __init__(self, *, synchronous: bool) -> None:
        self._is_synchronous = synchronous
        self._nodes: list[Node] = []

    def __enter__(self) -> Self:
        find_postgres()
        try:
            self._nodes.append(Node.start(settings={"wal_keep_size": "256MB"}))
            self._nodes.append(Standby.of(self._nodes[0]))
            self.primary, self.standby = self._nodes
            self.ports = [node.port for node in self._nodes]
            self.wait_until_in_step()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"{Node.host}:{port}" for port in self.ports)
        return f"postgresql://{Node.user}@{hosts}/postgres"

    def promote(self) -> None:
        """Let the standby take writes; the primary must be dead, or there are two."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        if self._is_synchronous:  # nobody follows it yet, so nothing would be acknowledged
            self.primary.set("synchronous_standby_names", "")

    def rejoin(self) -> None:
        """Make the dead one anew, as the standby of the other."""
        self.standby.stop()
        self._nodes.remove(self.standby)
        self.standby = Standby.of(self.primary, self.standby.port)
        self._nodes.append(self.standby)
        self.wait_until_in_step()

    def wait_until_in_step(self) -> None:
        wait_until(lambda: self.primary.ask(_ATTACHED) == 1, "the standby does not follow")
        if self._is_synchronous:
            self.primary.set("synchronous_standby_names", "*")
            wait_until(lambda: self.primary.ask(_IN_STEP) == 1, "the standby is not in step")


def _account() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _base_backup(
    binaries: Path, primary: Node, data: Path, account: tuple[int, int] | None
) -> None:
    user, group = account or (None, None)
    done = subprocess.run(
        [
            str(binaries / "pg_basebackup"),
            *("-h", primary.host, "-p", str(primary.port), "-U", primary.user),
            *("-D", str(data), "--write-recovery-conf", "--wal-method=stream"),
            *("--checkpoint=fast", "--no-sync"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name[:2] != "PG"},
        cwd="/",
        timeout=_PATIENCE,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a connection may have ended meanwhile
            os.kill(pid, number)
