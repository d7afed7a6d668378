"""The lake: files that are written whole and never changed, pinned by links.

Files are replaced by others, when days are compacted or written anew, and no fence holds that up.
So all are linked while the other stores are pinned, until nothing has changed meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from jts_storage.backup.copying import Copies
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Contents, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository
from jts_storage.errors import Conflict

NAME: Final = "lake"
KIND: Final = "files"
CONTENTS: Final = "files"
_READ_BYTES: Final = 1 << 20
_PINNED: Final = ".backup-"
_ATTEMPTS: Final = 20


class LakeBackup:
    """A `StoreBackup` of the folder of Parquet files."""

    name = NAME

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: Path | None = None
        self._files: list[tuple[str, Path]] = []

    async def prepare(self) -> None:
        await asyncio.to_thread(self._sweep)

    async def pin(self) -> None:
        """:raises Conflict: files were replaced all the time."""
        self._files = await asyncio.to_thread(self._linked)

    async def copy(self, copies: Copies) -> StoreCopy:
        pieces = []
        for name, link in self._files:
            stat = link.stat()
            key = f"{name}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
            pieces.append(
                await copies.piece(NAME, CONTENTS, name, key, partial(_bytes_of, link), 1)
            )
        whole = hashlib.sha256()
        for piece in pieces:
            # Names of files are bytes, and need be no text.
            whole.update(f"{piece.name}:{piece.content}\n".encode(errors="surrogateescape"))
        contents = Contents(CONTENTS, KIND, len(pieces), whole.hexdigest(), tuple(pieces))
        return StoreCopy("Parquet", {}, (contents,))

    async def release(self) -> None:
        links, self._links = self._links, None
        if links is not None:
            await asyncio.to_thread(shutil.rmtree, links, ignore_errors=True)

    def _linked(self) -> list[tuple[str, Path]]:
        """Link every file, and return the links with the names of the files."""
        if not self._root.is_dir():
            return []
        self._links = self._root / f"{_PINNED}{secrets.token_hex(8)}"
        self._links.mkdir()
        linked: dict[tuple[Path, int], Path] = {}
        for _ in range(_ATTEMPTS):
            there = _identified(self._root)
            with suppress(FileNotFoundError):  # replaced meanwhile
                for path, inode in there - linked.keys():
                    link = self._links / str(len(linked))
                    link.hardlink_to(path)
                    linked[path, inode] = link
                if _identified(self._root) == there:
                    return sorted(
                        (path.relative_to(self._root).as_posix(), linked[path, inode])
                        for path, inode in there
                    )
        raise Conflict(
            f"Files of the lake {self._root} were replaced all the time.",
            remedy="Repeat it when nothing is compacted or written anew.",
        )

    def _sweep(self) -> None:
        """Remove the links of a backup that was killed."""
        if self._root.is_dir():
            for left in self._root.glob(f"{_PINNED}*"):
                shutil.rmtree(left, ignore_errors=True)


def _identified(root: Path) -> set[tuple[Path, int]]:
    """The files that are there, each with what tells it from another of its name."""
    found = set()
    for path in files_of(root):
        with suppress(FileNotFoundError):
            found.add((path, path.stat().st_ino))
    return found


def files_of(root: Path) -> list[Path]:
    """The files of a lake in order, without those that are hidden."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in names if name.endswith(".parquet")]
    return sorted(path for path in found if not path.name.startswith("."))


class LakeRestore:
    """Fills a lake from a backup."""

    def __init__(self, repository: BackupRepository) -> None:
        self._repository = repository

    def fill(self, contents: Contents, root: Path, *, replace: bool = False) -> None:
        """Write all files; with `replace` remove those that the backup does not have."""
        wanted = {piece.name for piece in contents.pieces}
        if replace:
            for path in files_of(root):
                if path.relative_to(root).as_posix() not in wanted:
                    path.unlink()
        for piece in contents.pieces:
            self._write(piece, root)

    def _write(self, piece: Piece, root: Path) -> None:
        path = root / piece.name
        if root not in path.parents or ".." in path.parts:
            raise DamagedBackup(f"a file of the lake is called {piece.name!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as file:
                for frame in self._repository.read(piece.object):
                    file.write(frame)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def differing(self, contents: Contents, root: Path) -> list[str]:
        """What is otherwise in a folder than the backup says."""
        faults = []
        wanted = {piece.name: piece.content for piece in contents.pieces}
        found = {path.relative_to(root).as_posix(): path for path in files_of(root)}
        faults += [f"file {name} is missing" for name in sorted(wanted.keys() - found.keys())]
        for name in sorted(wanted.keys() & found.keys()):
            with found[name].open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != wanted[name]:
                    faults.append(f"file {name} is another")
        return faults


def _bytes_of(path: Path) -> Iterable[bytes]:
    return _read(path)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            yield data
