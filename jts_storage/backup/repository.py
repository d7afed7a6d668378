"""A folder of backups: objects by the hash of what is stored, and a manifest for each backup.

Objects are written to a temporary name, brought to disk, and renamed to their hash; a manifest
comes last, in the same way. So what has no manifest is no backup, and what an interrupted one left
is removed when the repository is pruned. No backup is built upon another one: they share objects,
and any of them can go. An index names the backups there are, so that a manifest that is gone is
missed, and beside a manifest lies what was found when its backup was last verified.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Self

from filelock import FileLock, Timeout

from jts_storage.backup import chunks, files
from jts_storage.backup.chunks import Written
from jts_storage.backup.encryption import Cipher
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.index import Index, Indexed
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.outcomes import Outcome
from jts_storage.domain.secret import Secret, plain
from jts_storage.errors import Conflict, InvalidConfiguration, NotFound, StorageError

LATEST: Final = "latest"
FORMAT: Final = 1
_CHECK: Final = b"jts-storage backup"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[\w-]{1,100}")
_SUFFIX: Final = ".manifest"
_VERIFIED: Final = ".verified"

log = logging.getLogger(__name__)


def missing(identity: str) -> str:
    """What is said of a backup that the index names, and that has no manifest."""
    return f"the manifest of backup {identity} is missing, and was not pruned"


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
        self._indexed = Indexed(self.folder, self._temporary, self.cipher)
        self._lock = FileLock(self.folder / "lock")

    def __repr__(self) -> str:
        return f"BackupRepository({str(self.folder)!r})"

    @property
    def exists(self) -> bool:
        return self._indexed.is_described

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
        described = self._indexed.described()
        try:
            written, check = int(described["format"]), described["check"]
            sealed = None if check is None else bytes.fromhex(check)
        except (ValueError, KeyError, TypeError) as exc:
            raise DamagedBackup(f"{self.folder} has no description of a repository") from exc
        if written > FORMAT:
            raise InvalidConfiguration(
                f"{self.folder} has format {written}",
                remedy="A later release of jts_storage made it: use that.",
            )
        self._check_key(sealed)
        return self

    def make(self) -> Self:
        """Open it, or make it if there is none.

        :raises StorageError: the file system refuses it.
        """
        with files.refused(self.folder):
            # Also of one that was copied by a tool that leaves empty folders out.
            for folder in (self._objects, self._backups, self._temporary):
                folder.mkdir(parents=True, exist_ok=True)
        if self.exists:
            return self.open()
        sealed = None if self.cipher is None else self.cipher.encrypted(_CHECK, b"").hex()
        self._indexed.write(Index())
        self._indexed.describe({"format": FORMAT, "check": sealed})
        return self

    @contextmanager
    def held(self, *, reads: bool = False) -> Iterator[None]:
        """Keep other processes from changing it.

        :param reads: it is only read, so that a folder that cannot be written is as good.
        :raises Conflict: one does so now.
        :raises StorageError: the file system refuses it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._lock.is_locked:  # it would let this thread in again
                raise Timeout(self._lock.lock_file)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise Conflict(
                f"Another process is at work in {self.folder}.", remedy="Wait until it is done."
            ) from None
        except OSError:
            if not reads:
                with files.refused(self.folder):
                    raise
            log.info("%s cannot be written, so nothing is locked there.", self.folder)
        try:
            yield
        finally:
            self._lock.release()

    # ---- objects

    def store(self, source: Iterable[bytes | memoryview]) -> Written:
        """Store an object that is made of these bytes; on disk when this returns.

        :raises StorageError: the file system refuses it.
        """
        stored: list[Written] = []

        def write(file: IO[bytes]) -> Path:
            stored.append(chunks.write(source, file, self.cipher))
            return self.path_of(stored[0].object)

        files.place(self._temporary, write)
        return stored[0]

    def read(self, identity: str) -> Iterator[bytes]:
        """The bytes that an object was made of.

        :raises DamagedBackup: it is missing, or is not as it was written; also at its end.
        """
        with files.naming(identity), self.path_of(identity).open("rb") as file:
            hashed = files.Hashing(file)
            yield from chunks.read(hashed, self.cipher)  # type: ignore[arg-type]
            if hashed.hexdigest() != identity:
                raise DamagedBackup("its hash is another one")

    def check(self, identity: str, stored: int = -1) -> None:
        """:raises DamagedBackup: the object is missing, or is not as it was written."""
        with files.naming(identity), self.path_of(identity).open("rb") as file:
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
        """The objects there are; nothing else that somebody has put among them."""
        if not self._objects.is_dir():
            return
        for folder in self._objects.iterdir():
            if folder.is_dir():
                for path in folder.iterdir():
                    is_object = _HASH.fullmatch(path.name) and path == self.path_of(path.name)
                    if is_object and (path.is_symlink() or not path.is_dir()):
                        yield path.name

    # ---- backups

    def ids(self) -> list[str]:
        """The backups in the order in which they were made; also those that cannot be read."""
        index, present = self._indexed.known(), self._present()
        known = index.backups
        if any(each not in present for each in known):
            still = self._indexed.known().backups  # what was removed while this looked is not
            known = tuple(each for each in known if each in present or each in still)
        # Of a prune that was interrupted, and of a backup.
        others = [each for each in present if each not in known]
        removed = [each for each in others if index.removed_at(each) is not None]
        return [*removed, *known, *(each for each in others if each not in removed)]

    def missing(self) -> list[str]:
        """The backups whose manifests are gone, although nobody has removed them."""
        gone = [each for each in self._indexed.known().backups if not self._is_there(each)]
        still = self._indexed.known().backups if gone else ()
        return [each for each in gone if each in still]

    def index_fault(self) -> str | None:
        """What is wrong with the index, without which no missing manifest is noticed."""
        return self._indexed.fault()

    def named(self, backup_id: str) -> str:
        """The backup of that id; ``"latest"`` is the newest.

        :raises NotFound: there is no such backup, or none at all.
        """
        ids = self.ids()
        if backup_id == LATEST and ids:
            return ids[-1]
        if backup_id not in ids:
            raise NotFound(f"There is no backup {backup_id!r}.", remedy="`backup list` names them.")
        return backup_id

    def add(self, manifest: Manifest) -> None:
        """Let a backup be: from here on it is one.

        :raises StorageError: the file system refuses it.
        """
        index = self._present_index()
        path = self._manifest_path(manifest.id)
        files.seal(self._temporary, path, manifest.to_json(), self.cipher)
        try:
            self._indexed.write(index.adding(manifest.id))
        except StorageError as exc:
            log.warning("Backup %s is made, and not in the index yet: %s", manifest.id, exc)

    def manifest(self, identity: str) -> Manifest:
        """:raises NotFound: there is no such backup.
        :raises DamagedBackup: its manifest is not as it was written, or is gone.
        """
        path = self._manifest_path(identity)
        if not path.is_file():
            raise self._absent(identity)
        with files.naming(identity, "the manifest of backup"):
            manifest = Manifest.from_json(files.unseal(path, self.cipher))
            if manifest.id != identity:
                raise DamagedBackup(f"it is that of backup {manifest.id}")
        return manifest

    def remove(self, *identities: str) -> bool:
        """Forget backups; their objects go with the next `sweep`.

        Returns whether the index knows of it. On a full disk there is first to be room: then call
        it again.

        :raises StorageError: the file system refuses it.
        """
        index = self._present_index()
        if not index.backups and not identities:
            return True
        is_known = self._indexed.could_write(index.removing(identities, datetime.now(UTC)))
        with files.refused(self._backups):
            for identity in identities:
                self._manifest_path(identity).unlink(missing_ok=True)
                self._verified_path(identity).unlink(missing_ok=True)
            files.sync_folder(self._backups)
        return is_known

    def sweep(self, needed: Set[str], *, dry_run: bool = False) -> tuple[int, int]:
        """Remove the objects that are not needed; how many, and their bytes."""
        count, size = 0, 0
        with files.refused(self.folder):
            for identity in list(self.object_ids()):
                if identity in needed:
                    continue
                path = self.path_of(identity)
                count, size = count + 1, size + path.lstat().st_size
                if not dry_run:
                    path.unlink(missing_ok=True)
            if not dry_run:
                self._sweep_small_files()
        return count, size

    # ---- what was found

    def outcome(self, identity: str) -> Outcome:
        """What was found when a backup was verified last; nothing where that cannot be read."""
        path = self._verified_path(identity)
        if not path.is_file():
            return Outcome(identity)
        try:
            with files.naming(identity, "the outcome of verifying backup"):
                found = Outcome.from_json(files.unseal(path, self.cipher))
                if found.backup_id != identity:
                    raise DamagedBackup(f"it is that of backup {found.backup_id}")
        except StorageError as exc:
            log.warning("%s", exc)
            return Outcome(identity)
        return found

    def record(self, outcome: Outcome) -> None:
        """Keep what was found, beside the manifest.

        :raises StorageError: the file system refuses it.
        """
        path = self._verified_path(outcome.backup_id)
        files.seal(self._temporary, path, outcome.to_json(), self.cipher)

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

    def _present(self) -> list[str]:
        """The backups that have a manifest, by name; what else lies there is none."""
        if not self._backups.is_dir():
            return []
        names = (path.stem for path in self._backups.glob(f"*{_SUFFIX}"))
        return sorted(name for name in names if _NAME.fullmatch(name))

    def _present_index(self) -> Index:
        """The index with all backups that it does not name yet."""
        if (fault := self.index_fault()) is not None:
            log.error("%s. It is made anew of the manifests that are there.", fault)
        return Index(tuple(self.ids()), self._indexed.known().removed)

    def _sweep_small_files(self) -> None:
        """Remove what interrupted processes have left, and what was found of backups now gone."""
        for left in self._temporary.glob("*"):
            left.unlink(missing_ok=True)
        ids = set(self.ids())
        for path in self._backups.glob(f"*{_VERIFIED}"):
            if path.stem not in ids:
                path.unlink(missing_ok=True)

    def _absent(self, identity: str) -> StorageError:
        """What is wrong where there is no manifest."""
        if self._is_there(identity):
            return DamagedBackup(f"the manifest of backup {identity} is no file")
        index = self._indexed.known()
        if identity in index.backups:
            return DamagedBackup(missing(identity))
        removed_at = index.removed_at(identity)
        when = "" if removed_at is None else f" It was removed at {removed_at:%Y-%m-%d %H:%M} UTC."
        return NotFound(
            f"There is no backup {identity!r}.{when}", remedy="`backup list` names them."
        )

    def _is_there(self, identity: str) -> bool:
        path = self._manifest_path(identity)
        return path.exists() or path.is_symlink()

    def _manifest_path(self, identity: str) -> Path:
        if not _NAME.fullmatch(identity):
            raise NotFound(f"There is no backup {identity!r}.", remedy="`backup list` names them.")
        return self._backups / f"{identity}{_SUFFIX}"

    def _verified_path(self, identity: str) -> Path:
        return self._manifest_path(identity).with_suffix(_VERIFIED)
