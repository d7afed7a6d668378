"""The one embedded ClickHouse engine that a process can have, shared by all its connections.

chDB keeps one data path a process and compares it as text; a second process cannot open the same
path at all; and a process forked after chDB was loaded hangs in its first query. All three are
found out here, before chDB is asked, so that the caller gets an error that says so.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jts_storage.clickhouse.change_log import ChangeLog
from jts_storage.clickhouse.embedded.chdb_internals import disown
from jts_storage.errors import ConnectionFailed, FolderInUse, InvalidConfiguration
from jts_storage.loading_internals import import_engine

MEMORY = ":memory:"
WARN_EVERY = 25
"""Openings after which a warning comes; each leaves files open, and 1,024 is a usual limit."""

_log = logging.getLogger(__name__)
_STATUS_FILE = "status"
_READS = "local_filesystem_read_method=pread"
"""The engine's default hands each read to another thread. What is read lies in memory already as a
rule, and then that takes a fifth of the time of a panel and a sixth of that of a range.
"""
_DATABASE_ID = re.compile(r"UUID '([0-9a-f-]{36})'\s+ENGINE = (?:Atomic|Replicated)\b")
_CONFIG = """<clickhouse>
  <merge_tree>
    <fsync_after_insert>{fsync}</fsync_after_insert>
    <fsync_part_directory>{fsync}</fsync_part_directory>
  </merge_tree>
</clickhouse>
"""


@dataclass(slots=True)
class _Opened:
    path: str
    fsync: bool
    connections: int = 0


class _Engine:
    """What of chDB is open in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._loaded_in: int | None = None
        self._live: dict[int, Any] = {}
        self._openings = 0

    def acquire(self, path: str, *, fsync: bool) -> Any:
        self.check_process()
        path = normalised(path)
        fsync = fsync and path != MEMORY
        with self._lock:
            opened = self._opened or _Opened(path, fsync)
            _check_same(opened, path, fsync=fsync)
            connection = self._connect(opened)
            if opened.connections == 0:
                self._count_opening()
                changes.opened()
            opened.connections += 1
            self._opened = opened
            self._live[id(connection)] = connection
            return connection

    def release(self, connection: Any) -> None:
        if self.is_forked:  # it is the parent's, and closing it would hang
            return
        with self._lock:
            del self._live[id(connection)]
            if self._opened is not None:
                self._opened.connections -= 1
                if self._opened.connections == 0:
                    self._opened = None
                    changes.closed()
            connection.close()

    @property
    def is_forked(self) -> bool:
        return self._loaded_in not in (None, os.getpid())

    def forget_inherited(self) -> None:
        """In a forked child: forget the connections of the parent without closing them."""
        changes.begin_in_child()
        for connection in self._live.values():
            disown(connection)
        self._live.clear()

    def check_process(self) -> None:
        if self.is_forked:
            raise ConnectionFailed(
                f"The embedded engine was loaded in process {self._loaded_in} before "
                f"process {os.getpid()} was forked from it, and does not work in the fork.",
                remedy="Start processes with spawn (multiprocessing.get_context('spawn')).",
            )

    def _count_opening(self) -> None:
        """Warn before the threads and files that chDB leaves behind become too many."""
        self._openings += 1
        if self._openings % WARN_EVERY == 0:
            _log.warning(
                "The embedded engine was opened %d times in this process. Each time it leaves some"
                " 5 threads and 15 open files behind when it is closed: keep one Storage open, or"
                " do the work in processes that end.",
                self._openings,
            )

    def _connect(self, opened: _Opened) -> Any:
        if opened.connections == 0 and opened.path != MEMORY:
            _prepare(opened.path)
        try:
            import_engine()
            from chdb import connect
        except ImportError as exc:
            raise InvalidConfiguration(
                "embedded_path is set, but the embedded engine is not installed.",
                remedy='Install it with: pip install "jts-storage[embedded]"',
            ) from exc
        self._loaded_in = os.getpid()
        # The defaults of all MergeTree tables come from a configuration file only.
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as config:
            config.write(_CONFIG.format(fsync=int(opened.fsync)))
            config.flush()
            try:
                return connect(  # type: ignore[no-untyped-call]
                    f"{opened.path}?config-file={config.name}&{_READS}"
                )
            except RuntimeError as exc:
                # Another process may have opened it since it was looked at.
                if opened.path != MEMORY:
                    _check_free(opened.path)
                raise ConnectionFailed(
                    f"The embedded engine could not open {opened.path}: {exc}",
                    hosts=(opened.path,),
                    remedy="Check that the directory is writable and holds the engine's data.",
                ) from exc


changes = ChangeLog()
"""Of the store that is open: what the statements of this process may have changed."""

_engine = _Engine()
os.register_at_fork(after_in_child=_engine.forget_inherited)


def acquire(path: str, *, fsync: bool = True) -> Any:
    """A chDB connection to `path`; give it back with `release`.

    :raises ConnectionFailed: when another path is open, another process holds it, or this
        process was forked from one that had the engine loaded.
    :raises InvalidConfiguration: when it is open with another `fsync`, or cannot be a path.
    """
    return _engine.acquire(path, fsync=fsync)


def release(connection: Any) -> None:
    """Close a connection; with the last one the path becomes free."""
    _engine.release(connection)


def check_process() -> None:
    """:raises ConnectionFailed: in a process forked after the engine was loaded."""
    _engine.check_process()


def is_forked() -> bool:
    """Return whether this process was forked after the engine was loaded."""
    return _engine.is_forked


def normalised(path: str) -> str:
    """The one spelling of a path that all of this process uses."""
    if path == MEMORY:
        return path
    real = os.path.realpath(Path(path).expanduser())
    if "?" in real:
        raise InvalidConfiguration(f"embedded_path must not hold a '?', got {real!r}")
    return real


def holder(path: str) -> str | None:
    """Return which process has the store at `path` open, if any has: ``"process 123"``."""
    status = Path(path) / _STATUS_FILE
    try:
        with status.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)  # closing alone leaves it to a child forked just now
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _pid_in(status)
    return None


def _pid_in(status: Path) -> str:
    for line in status.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "PID" and value.strip().isdigit():
            return f"process {value.strip()}"
    return "another process"


def _prepare(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidConfiguration(
            f"embedded_path {path!r} cannot be made a directory: {exc}"
        ) from exc
    _check_free(path)
    _check_links(Path(path))


def _check_links(folder: Path) -> None:
    """Refuse a copy that has folders in the place of links, which the engine cannot open.

    It keeps the tables of a database below `store`, by the id of the database, and a link to them
    in `metadata`. What follows links when it copies leaves the same files there a second time.
    """
    for named in folder.glob("metadata/*.sql"):
        copied = named.with_suffix("")
        if not copied.is_dir() or copied.is_symlink():
            continue
        found = _DATABASE_ID.search(named.read_text(errors="replace"))
        if found is None or not (folder / "store" / found[1][:3] / found[1]).is_dir():
            continue
        beside = [copied, folder / "data" / copied.name]
        moves = " && ".join(
            f"mv {shlex.quote(str(each))} aside/{each.parent.name}-{each.name}"
            for each in beside
            if each.exists()
        )
        raise InvalidConfiguration(
            f"{copied} is a folder, where the embedded engine keeps a symbolic link: this is a copy"
            " that was made without its links, as by a zip file or `cp -rL`.",
            remedy="Copy it again with its links, by `cp -a`, tar or rsync -a. Or, as all of it is"
            f" below {folder / 'store'} a second time, move away what stands in the place of the"
            f" links, and open it: mkdir aside && {moves}",
        )


def _check_free(path: str) -> None:
    if (who := holder(path)) is not None:
        raise FolderInUse(
            f"The embedded store {path} is already open in {who}.",
            hosts=(path,),
            remedy="Only one process can open it. Let that one share its folder, with"
            " StorageSettings(share=True) or JTS_SHARE=true, or run `jts-storage serve` and open"
            " the folder as before; each of them needs pip install 'jts-storage[grpc]'. Or close it"
            " there, use another path, or a server.",
        )


def _check_same(opened: _Opened, path: str, *, fsync: bool) -> None:
    if opened.path != path:
        raise ConnectionFailed(
            f"The embedded engine of this process has {opened.path} open and cannot open {path}.",
            hosts=(path,),
            remedy="A process has one embedded store at a time: close the first, or use spawn.",
        )
    if opened.fsync != fsync:
        raise InvalidConfiguration(
            f"fsync is {fsync!r}, but {path} is already open in this process "
            f"with fsync={opened.fsync!r}"
        )
