"""What the stores copy through: objects are stored where an earlier backup has none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from jts_storage.backup.manifest import Manifest, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository

Data: TypeAlias = Callable[[], Iterable[bytes | memoryview]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is that takes long.

    :param doing: such as ``"copying clickhouse"``.
    :param total: None where nobody knows.
    """

    doing: str
    done: int
    total: int | None = None


Report: TypeAlias = Callable[[Progress], None]


def unheard(_progress: Progress) -> None:
    """Tell nobody."""


class StoreBackup(Protocol):
    """A store that is being backed up: `prepare`, `pin` while no commit begins, then `copy`."""

    name: str

    async def prepare(self) -> None:
        """Do what takes long and need not wait for the fence."""

    async def pin(self) -> None:
        """Begin a view of the store that later commits do not change."""

    async def copy(self, copies: Copies) -> StoreCopy:
        """Copy what the view shows."""

    async def release(self) -> None:
        """Give the view up; harmless if there is none."""


@dataclass(slots=True)
class Copies:
    """Stores pieces of one backup, and counts what is new.

    :param known: the pieces of earlier backups, by store, contents and key.
    """

    repository: BackupRepository
    known: Mapping[tuple[str, str, str], Piece]
    report: Report = unheard
    new_bytes: int = 0
    new_objects: int = 0
    _bytes_by_store: dict[str, int] = field(default_factory=dict)

    def found(self, store: str, contents: str, key: str) -> Piece | None:
        """The piece of an earlier backup, if its objects are there."""
        piece = self.known.get((store, contents, key))
        if piece is None or not self.repository.has(piece.object, piece.stored):
            return None
        if piece.figures is not None and not self.repository.has(piece.figures):
            return None
        return piece

    async def piece(
        self,
        store: str,
        contents: str,
        name: str,
        key: str,
        data: Data,
        rows: int,
        figures: str | None = None,
    ) -> Piece:
        """The piece of that key: an earlier one, or stored now from `data`, in a thread."""
        piece = self.found(store, contents, key)
        if piece is None:
            written = await asyncio.to_thread(lambda: self.repository.store(data()))
            self.new_bytes += written.stored
            self.new_objects += 1
            piece = Piece(
                name,
                key,
                written.object,
                written.raw,
                written.stored,
                rows,
                written.content,
                figures,
            )
        elif piece.name != name:
            piece = _renamed(piece, name)
        done = self._bytes_by_store[store] = self._bytes_by_store.get(store, 0) + piece.raw
        self.report(Progress(f"copying {store}", done))
        return piece

    async def figures(self, text: bytes) -> str:
        """Store the fingerprints of the series of a piece."""
        written = await asyncio.to_thread(self.repository.store, [text])
        self.new_bytes += written.stored
        self.new_objects += 1
        return written.object


def pieces_of(manifests: Iterable[Manifest]) -> dict[tuple[str, str, str], Piece]:
    """All pieces of backups by store, contents and key; those of later ones win."""
    return {
        (name, contents.name, piece.key): piece
        for manifest in manifests
        for name, store in manifest.stores.items()
        for contents in store.contents
        for piece in contents.pieces
    }


def _renamed(piece: Piece, name: str) -> Piece:
    from dataclasses import replace

    return replace(piece, name=name)
