"""Which backups a repository has, in the order in which they were made, and which were removed.

It tells a backup that was pruned from one whose manifest is gone. A process that dies between a
change of the manifests and one of the index leaves a manifest that the index does not name: that
is a backup as any other, and the next change names it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Self

from jts_storage.backup import files
from jts_storage.backup.encryption import Cipher
from jts_storage.backup.errors import DamagedBackup
from jts_storage.errors import StorageError

DESCRIPTION: Final = "repository.json"
FILE: Final = "index"
_MOST_REMOVED: Final = 1_000
"""Of so many, the last ones, is known when they were removed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Index:
    """The backups of a repository.

    :param backups: their ids, the one that was made first first.
    :param removed: when each of the last that were removed was.
    """

    backups: tuple[str, ...] = ()
    removed: tuple[tuple[str, datetime], ...] = ()

    def adding(self, identity: str) -> Self:
        others = (each for each in self.backups if each != identity)
        return type(self)((*others, identity), self.removed)

    def removing(self, identities: Iterable[str], at: datetime) -> Self:
        gone = set(identities)
        removed = *self.removed, *((each, at) for each in self.backups if each in gone)
        backups = tuple(each for each in self.backups if each not in gone)
        return type(self)(backups, removed[-_MOST_REMOVED:])

    def removed_at(self, identity: str) -> datetime | None:
        return dict(self.removed).get(identity)

    def to_json(self) -> bytes:
        removed = [[identity, at.isoformat()] for identity, at in self.removed]
        return json.dumps({"backups": self.backups, "removed": removed}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """:raises DamagedBackup: it is no index."""
        try:
            plain = json.loads(text)
            removed = tuple(
                (str(each), datetime.fromisoformat(at)) for each, at in plain["removed"]
            )
            return cls(tuple(map(str, plain["backups"])), removed)
        except (ValueError, KeyError, TypeError) as exc:
            raise DamagedBackup("it is no index") from exc


class Indexed:
    """The description of a repository, and its index.

    Repositories of earlier releases have no index, and get one with the next change. The
    description says whether there has to be one.
    """

    def __init__(self, folder: Path, temporary: Path, cipher: Cipher | None) -> None:
        self._folder, self._temporary, self._cipher = folder, temporary, cipher

    @property
    def is_described(self) -> bool:
        return (self._folder / DESCRIPTION).is_file()

    def described(self) -> dict[str, Any]:
        """:raises DamagedBackup: it cannot be read."""
        path = self._folder / DESCRIPTION
        try:
            described = json.loads(path.read_bytes())
        except (OSError, ValueError) as exc:
            raise DamagedBackup(f"{path} cannot be read") from exc
        if not isinstance(described, dict):
            raise DamagedBackup(f"{path} cannot be read")
        return described

    def describe(self, described: dict[str, Any]) -> None:
        """Write the description of a repository with an index."""

        def write(file: IO[bytes]) -> Path:
            file.write(json.dumps(described | {"indexed": True}).encode())
            return self._folder / DESCRIPTION

        files.place(self._temporary, write)

    @property
    def is_there(self) -> bool:
        """Whether there has to be an index."""
        try:
            return self.described().get("indexed") is True
        except DamagedBackup:
            return False  # who opens the repository is told

    def read(self) -> Index:
        """:raises DamagedBackup: it is missing, or is not as it was written."""
        path = self._folder / FILE
        with files.naming(str(path), "the index of backups"):
            return Index.from_json(files.unseal(path, self._cipher))

    def known(self) -> Index:
        """The index; an empty one where there is none that can be read."""
        with suppress(StorageError):
            if self.is_there:
                return self.read()
        return Index()

    def fault(self) -> str | None:
        """What is wrong with it; None if nothing is."""
        try:
            if self.is_there:
                self.read()
        except DamagedBackup as exc:
            return str(exc.args[0])
        return None

    def write(self, index: Index) -> None:
        """:raises StorageError: the file system refuses it."""
        files.seal(self._temporary, self._folder / FILE, index.to_json(), self._cipher)
        if self.is_described and not self.is_there:
            self.describe(self.described())

    def could_write(self, index: Index) -> bool:
        try:
            self.write(index)
        except StorageError as exc:
            log.warning("The index of backups is not up to date yet: %s", exc)
            return False
        return True
