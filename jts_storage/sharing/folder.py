"""The files of a data folder by which processes find the one that has its stores.

Two locks hold the state. The kernel releases each when its process dies, even by kill -9:

- `serve.lock`: held by the process that serves the folder, from before it opens the stores until
  they are closed;
- `serve.heirs`: held shared by every process that would take the folder over.

`serve.json` says who has the first lock and, once it serves, where; `serve.token` what it asks
for. They are believed only as far as a gateway answers there, so stale ones do no harm.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jts_storage._version import __version__
from jts_storage.errors import FolderInUse, InvalidConfiguration
from jts_storage.settings.gateway import is_socket_path

_LOCK: Final = "serve.lock"
_HEIRS: Final = "serve.heirs"
_STATE: Final = "serve.json"
_TOKEN: Final = "serve.token"
_SOCKET: Final = "serve.sock"
_PRIVATE: Final = "jts-"
_LOOSE: Final = 0o077


@dataclass(frozen=True, slots=True)
class Serving:
    """What the process that serves a folder says of itself.

    :param address: where it listens; None while it opens or closes its stores.
    :param stores: which these are: who names others must not be led to them.
    """

    pid: int
    address: str | None
    stores: str
    version: str


class _Held:
    """The locks of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._files: set[int] = set()
        self._served: set[str] = set()

    def serves(self, path: str) -> bool:
        return path in self._served

    def add(self, file: int, path: str | None) -> None:
        with self._guard:
            self._files.add(file)
            if path is not None:
                self._served.add(path)

    def drop(self, file: int, path: str | None) -> None:
        with self._guard:
            if file not in self._files:  # a fork, which never had it
                return
            self._files.discard(file)
            if path is not None:
                self._served.discard(path)
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def forget(self) -> None:
        """In a forked child: without this it would hold the locks when its parent is gone."""
        self._guard = threading.Lock()
        for file in self._files:
            os.close(file)
        self._files.clear()
        self._served.clear()


_held = _Held()
os.register_at_fork(after_in_child=_held.forget)


class SharedFolder:
    """One process's view of a data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._real = os.path.realpath(self.path)
        self._lock: int | None = None
        self._heir: int | None = None

    # ---- who has it

    @property
    def is_ours(self) -> bool:
        """Whether this process serves it, by this object or another."""
        return _held.serves(self._real)

    def is_held(self) -> bool:
        """Whether some process has it to serve it."""
        return self.is_ours or _is_locked(self.path / _LOCK)

    def has_heirs(self) -> bool:
        """Whether a process is there that takes it over once nobody has it."""
        return _is_locked(self.path / _HEIRS)

    def serving(self) -> Serving | None:
        """What was last told of who serves it."""
        try:
            told = json.loads((self.path / _STATE).read_bytes())
            return Serving(**told)
        except (OSError, ValueError, TypeError):
            return None

    def token(self) -> str | None:
        """What its gateway asks for."""
        try:
            return (self.path / _TOKEN).read_text()
        except OSError:
            return None

    def in_use(
        self,
        how: str = "which does not answer at its socket",
        remedy: str = "Look at its log, or stop it: the next one that opens the folder takes it.",
    ) -> FolderInUse:
        """The error where another process has it, by its number."""
        told = self.serving()
        who = "another process" if told is None else f"process {told.pid}"
        return FolderInUse(
            f"{self.path} is open in {who}, {how}.", hosts=(str(self.path),), remedy=remedy
        )

    # ---- to have it

    def take(self, stores: str) -> bool:
        """Become the process that serves it; False if another one is.

        :raises InvalidConfiguration: others may read it, or nothing can be written there.
        """
        make_private(self.path)
        self._check_private()
        file = _opened(self.path / _LOCK)
        if not _lock(file, fcntl.LOCK_EX):
            os.close(file)
            return False
        _held.add(file, self._real)
        self._lock = file
        try:
            self._remove_socket(stores)
            self._tell(Serving(os.getpid(), None, stores, __version__))
        except BaseException:
            self.give_back()  # or nobody could take it as long as this process lives
            raise
        return True

    def tell(self, address: str, token: str, stores: str) -> None:
        """Say where this process serves it."""
        self._write(_TOKEN, token)
        self._tell(Serving(os.getpid(), address, stores, __version__))

    def give_back(self) -> None:
        """Let the next one take it."""
        lock, self._lock = self._lock, None
        if lock is None or not self.is_ours:
            return
        if self._is_here(lock):
            told = self.serving()
            self._remove_socket("" if told is None else told.stores)
            for name in (_STATE, _TOKEN):
                with suppress(OSError):
                    (self.path / name).unlink()
        _held.drop(lock, self._real)

    def _is_here(self, lock: int) -> bool:
        """Whether the path still leads to what is locked: a folder can be renamed meanwhile, and
        another one be served in its place.
        """
        with suppress(OSError):
            return os.path.samestat(os.fstat(lock), (self.path / _LOCK).stat())
        return False

    def stand_by(self) -> None:
        """Be counted among those who take it over."""
        if self._heir is None:
            file = _opened(self.path / _HEIRS)
            fcntl.flock(file, fcntl.LOCK_SH)
            _held.add(file, None)
            self._heir = file

    def stand_down(self) -> None:
        heir, self._heir = self._heir, None
        if heir is not None:
            _held.drop(heir, None)

    def socket(self) -> Path:
        """Where to listen: in the folder, or in a private one of its own if its path is too long
        for a socket.
        """
        inside = self.path / _SOCKET
        found = [inside]
        if not is_socket_path(inside):
            for parent in (None, "/tmp"):  # mkdtemp makes one of ours alone
                found.append(Path(tempfile.mkdtemp(prefix=_PRIVATE, dir=parent)) / _SOCKET)
                if is_socket_path(found[-1]):
                    break
                found[-1].parent.rmdir()
        return found[-1]

    def _check_private(self) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & _LOOSE:
            raise InvalidConfiguration(
                f"{self.path} would be served, and other users of this machine may read it (its"
                f" mode is {mode:03o})",
                remedy=f"chmod 700 {self.path}",
            )

    def _remove_socket(self, stores: str) -> None:
        """Also that of a process that died, and the private folder that it made for it.

        :param stores: those of the folder. A copy of a folder names the socket of the original.
        """
        with suppress(OSError):
            (self.path / _SOCKET).unlink()
        told = self.serving()
        if told is None or told.address is None or told.stores != stores:
            return
        path = Path(told.address.removeprefix("unix:"))
        if path.name == _SOCKET and path.parent.name.startswith(_PRIVATE):
            # Nothing but the socket: a data folder may have such a name, too.
            with suppress(OSError):
                path.unlink(missing_ok=True)
                path.parent.rmdir()

    def _tell(self, serving: Serving) -> None:
        told = {name: getattr(serving, name) for name in Serving.__slots__}
        self._write(_STATE, json.dumps(told))

    def _write(self, name: str, text: str) -> None:
        draft = self.path / f"{name}.new"
        try:
            with suppress(FileNotFoundError):
                draft.unlink()
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w") as opened:
                opened.write(text)
            draft.replace(self.path / name)  # readers never see half of it
        except OSError as exc:
            raise InvalidConfiguration(
                f"{self.path / name} cannot be written, by which other processes find the stores:"
                f" {exc.strerror}",
                remedy="Make room, or let this user write there.",
            ) from exc


def make_private(path: Path) -> None:
    """Make a data folder that is not there yet, for its owner alone."""
    with suppress(OSError):  # those who need it tell what is wrong with it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def is_served(path: Path) -> bool:
    """Whether another process serves a data folder, or would take it over at once."""
    if not (path / _LOCK).exists():
        return False
    folder = SharedFolder(path)
    return not folder.is_ours and (folder.is_held() or folder.has_heirs())


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise InvalidConfiguration(
            f"{path} cannot be opened, by which processes share the folder: {exc.strerror}"
        ) from exc


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: who wants it for himself at this moment loses no more than a moment.
        is_free = _lock(file, fcntl.LOCK_SH if path.name == _LOCK else fcntl.LOCK_EX)
        if is_free:
            fcntl.flock(file, fcntl.LOCK_UN)
        return not is_free
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
