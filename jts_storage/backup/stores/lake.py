"""The lake: files that are written whole and never changed, pinned by links.

A commit names jobs whose files are there before it, so the files are looked at behind the cut, when
writers wait no more. What was written after the cut is left out.
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
from time import time_ns
from typing import Final

from jts_storage.backup.copying import Copies
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Contents, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository

NAME: Final = "lake"
KIND: Final = "files"
CONTENTS: Final = "files"
_READ_BYTES: Final = 1 << 20
_PINNED: Final = ".backup-"


class LakeBackup:
    """A `StoreBackup` of the folder of Parquet files."""

    name = NAME

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: Path | None = None
        self._until = 0

    async def prepare(self) -> None:
        await asyncio.to_thread(self._sweep)

    async def pin(self) -> None:
        self._until = time_ns()

    async def copy(self, copies: Copies) -> StoreCopy:
        files = await asyncio.to_thread(self._linked)
        pieces = []
        for name, link in files:
            stat = link.stat()
            key = f"{name}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
            pieces.append(
                await copies.piece(NAME, CONTENTS, name, key, partial(_bytes_of, link), 1)
            )
        whole = hashlib.sha256()
        for piece in pieces:
            whole.update(f"{piece.name}:{piece.content}\n".encode())
        contents = Contents(CONTENTS, KIND, len(pieces), whole.hexdigest(), tuple(pieces))
        return StoreCopy("Parquet", {}, (contents,))

    async def release(self) -> None:
        links, self._links = self._links, None
        if links is not None:
            await asyncio.to_thread(shutil.rmtree, links, ignore_errors=True)

    def _linked(self) -> list[tuple[str, Path]]:
        """Link every file of the cut, and return the links with the names of the files."""
        if not self._root.is_dir():
            return []
        self._links = self._root / f"{_PINNED}{secrets.token_hex(8)}"
        self._links.mkdir()
        found: list[tuple[str, Path]] = []
        for path in files_of(self._root):
            link = self._links / str(len(found))
            with suppress(FileNotFoundError):  # deleted, or put into another file, meanwhile
                if path.stat().st_mtime_ns <= self._until:
                    link.hardlink_to(path)
                    found.append((path.relative_to(self._root).as_posix(), link))
        return found

    def _sweep(self) -> None:
        """Remove the links of a backup that was killed."""
        if self._root.is_dir():
            for left in self._root.glob(f"{_PINNED}*"):
                shutil.rmtree(left, ignore_errors=True)


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
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
