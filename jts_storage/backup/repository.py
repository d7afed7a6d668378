"""A folder of backups: objects by the hash of what is stored, and a manifest for each backup.

Objects are written to a temporary name, brought to disk, and renamed to their hash; a manifest
comes last, in the same way. So what has no manifest is no backup, and what an interrupted one left
is removed when the repository is pruned. No backup is built upon another one: they share objects,
and any of them can go.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, Self

from filelock import FileLock, Timeout

from jts_storage.backup import chunks
from jts_storage.backup.chunks import Written
from jts_storage.backup.encryption import Cipher
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Manifest
from jts_storage.domain.secret import Secret, plain
from jts_storage.errors import Conflict, InvalidConfiguration, NotFound, StorageError

LATEST: Final = "latest"
FORMAT: Final = 1
_DESCRIPTION: Final = "repository.json"
_CHECK: Final = b"jts-storage backup"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_SUFFIX: Final = ".manifest"
_READ_BYTES: Final = 1 << 20


class BackupRepository:
    """A folder with backups in it.

    :param key: as `new_key` made it, for one that is encrypted; the first backup decides.
    """

    def __init__(self, folder: Path | str, *, key: Secret | str | None = None) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._objects, self._backups = self.folder / "objects", self.folder / "backups"
        self._temporary = self.folder / "tmp"
        text = plain(key) if key is not None else ""
        self.cipher = Cipher(text) if text else None
        self._lock = FileLock(self.folder / "lock")

    def __repr__(self) -> str:
        return f"BackupRepository({str(self.folder)!r})"

    @property
    def exists(self) -> bool:
        return (self.folder / _DESCRIPTION).is_file()

    def open(self) -> Self:
        """See that it is there and that the key is its own.

        :raises NotFound: there is no repository in the folder.
        :raises InvalidConfiguration: it has another key or a format that is not known.
        """
        if not self.exists:
            raise NotFound(
                f"There are no backups in {self.folder}.",
                remedy="The first `backup create` makes the repository.",
            )
        try:
            described: dict[str, Any] = json.loads((self.folder / _DESCRIPTION).read_bytes())
            written, check = int(described["format"]), described["check"]
            sealed = None if check is None else bytes.fromhex(check)
        except (ValueError, KeyError, TypeError) as exc:
            raise DamagedBackup(f"{self.folder / _DESCRIPTION} cannot be read") from exc
        if written > FORMAT:
            raise InvalidConfiguration(
                f"{self.folder} has format {written}",
                remedy="A later release of jts_storage made it: use that.",
            )
        self._check_key(sealed)
        return self

    def make(self) -> Self:
        """Open it, or make it if there is none."""
        if self.exists:
            return self.open()
        for folder in (self._objects, self._backups, self._temporary):
            folder.mkdir(parents=True, exist_ok=True)
        sealed = None if self.cipher is None else self.cipher.encrypted(_CHECK, b"").hex()
        self._put(self.folder / _DESCRIPTION, json.dumps({"format": FORMAT, "check": sealed}))
        return self

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from changing it.

        :raises Conflict: one does so now.
        """
        try:
            with self._lock.acquire(timeout=0):
                yield
        except Timeout:
            raise Conflict(
                f"Another process is at work in {self.folder}.", remedy="Wait until it is done."
            ) from None

    # ---- objects

    def store(self, source: Iterable[bytes | memoryview]) -> Written:
        """Store an object that is made of these bytes; on disk when this returns."""
        path = self._new_temporary()
        try:
            with path.open("xb") as file:
                written = chunks.write(source, file, self.cipher)
                file.flush()
                os.fsync(file.fileno())
            target = self.path_of(written.object)
            _make_folder(target.parent)
            path.replace(target)  # also of one that is there: that may be damaged
            _sync_folder(target.parent)
        finally:
            path.unlink(missing_ok=True)
        return written

    def read(self, identity: str) -> Iterator[bytes]:
        """The bytes that an object was made of.

        :raises DamagedBackup: it is missing, or is not as it was written; also at its end.
        """
        with _naming(identity), self.path_of(identity).open("rb") as file:
            hashed = _Hashing(file)
            yield from chunks.read(hashed, self.cipher)  # type: ignore[arg-type]
            if hashed.hexdigest() != identity:
                raise DamagedBackup("its hash is another one")

    def check(self, identity: str, stored: int = -1) -> None:
        """:raises DamagedBackup: the object is missing, or is not as it was written."""
        with _naming(identity), self.path_of(identity).open("rb") as file:
            hashed = hashlib.file_digest(file, "sha256").hexdigest()
            if stored >= 0 and file.tell() != stored:
                raise DamagedBackup(f"it has {file.tell()} bytes instead of {stored}")
            if hashed != identity:
                raise DamagedBackup("its hash is another one")

    def has(self, identity: str, stored: int = -1) -> bool:
        """Whether the object is there, in its length; `check` looks at its bytes."""
        with suppress(OSError):
            return self.path_of(identity).stat().st_size == stored or stored < 0
        return False

    def path_of(self, identity: str) -> Path:
        return self._objects / identity[:2] / identity

    def object_ids(self) -> Iterator[str]:
        for folder in self._objects.iterdir():
            if folder.is_dir():
                for path in folder.iterdir():
                    yield path.name

    # ---- backups

    def ids(self) -> list[str]:
        """The backups, the oldest first, whether they can be read or not."""
        if not self._backups.is_dir():
            return []
        return sorted(path.stem for path in self._backups.glob(f"*{_SUFFIX}"))

    def named(self, backup_id: str) -> str:
        """The backup of that id; ``"latest"`` is the newest.

        :raises NotFound: there is no such backup, or none at all.
        """
        ids = self.ids()
        if backup_id == LATEST and ids:
            return ids[-1]
        if backup_id not in ids:
            raise NotFound(f"There is no backup {backup_id!r}.", remedy="backup list names them.")
        return backup_id

    def add(self, manifest: Manifest) -> None:
        """Let a backup be: from here on it is one."""
        path = self._new_temporary()
        try:
            with path.open("xb") as file:
                written = chunks.write([manifest.to_json()], file, self.cipher)
                file.write(bytes.fromhex(written.object))
                file.flush()
                os.fsync(file.fileno())
            path.replace(self._manifest_path(manifest.id))
            _sync_folder(self._backups)
        finally:
            path.unlink(missing_ok=True)

    def manifest(self, identity: str) -> Manifest:
        """:raises NotFound: there is no such backup.
        :raises DamagedBackup: its manifest is not as it was written.
        """
        path = self._manifest_path(identity)
        if not path.is_file():
            raise NotFound(f"There is no backup {identity!r}.", remedy="backup list names them.")
        with _naming(identity, "the manifest of backup"):
            content = path.read_bytes()
            if hashlib.sha256(content[:-32]).digest() != content[-32:]:
                raise DamagedBackup("its hash is another one")
            text = b"".join(chunks.read(BytesIO(content[:-32]), self.cipher))
            manifest = Manifest.from_json(text)
            if manifest.id != identity:
                raise DamagedBackup(f"it is that of backup {manifest.id}")
        return manifest

    def remove(self, identity: str) -> None:
        """Forget a backup; its objects go with the next `sweep`."""
        self._manifest_path(identity).unlink(missing_ok=True)
        _sync_folder(self._backups)

    def sweep(self, needed: Set[str], *, dry_run: bool = False) -> tuple[int, int]:
        """Remove the objects that are not needed; how many, and their bytes."""
        count, size = 0, 0
        for identity in list(self.object_ids()):
            if identity in needed:
                continue
            path = self.path_of(identity)
            count, size = count + 1, size + path.stat().st_size
            if not dry_run:
                path.unlink()
        if not dry_run:
            for left in self._temporary.iterdir():
                left.unlink()
        return count, size

    # ---- inside

    def _check_key(self, sealed: bytes | None) -> None:
        if sealed is None:
            if self.cipher is not None:
                raise InvalidConfiguration(
                    f"a key is given, and {self.folder} is not encrypted",
                    remedy="Leave JTS_BACKUP_KEY out, or begin another repository.",
                )
            return
        if self.cipher is None:
            raise InvalidConfiguration(
                f"{self.folder} is encrypted, and no key is given",
                remedy="Set JTS_BACKUP_KEY to its key.",
            )
        try:
            self.cipher.decrypted(sealed, b"")
        except DamagedBackup:
            raise InvalidConfiguration(
                f"{self.folder} was made with another key", remedy="Set JTS_BACKUP_KEY to that."
            ) from None

    def _put(self, path: Path, text: str) -> None:
        temporary = self._new_temporary()
        with temporary.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)

    def _new_temporary(self) -> Path:
        return self._temporary / secrets.token_hex(16)

    def _manifest_path(self, identity: str) -> Path:
        if not identity or not re.fullmatch(r"[\w-]+", identity):
            raise NotFound(f"There is no backup {identity!r}.", remedy="backup list names them.")
        return self._backups / f"{identity}{_SUFFIX}"


class _Hashing:
    """A file whose hash is known once it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def _naming(identity: str, what: str = "object") -> Iterator[None]:
    """Let what is wrong say with what it is wrong."""
    try:
        yield
    except DamagedBackup as exc:
        raise DamagedBackup(f"{what} {identity} is damaged: {exc.args[0]}") from exc
    except FileNotFoundError as exc:
        raise DamagedBackup(f"{what} {identity} is missing") from exc
    except IsADirectoryError as exc:
        raise DamagedBackup(f"{what} {identity} is a folder") from exc
    except OSError as exc:
        raise StorageError(f"{what} {identity} cannot be read: {exc.strerror}") from exc


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
