"""What a backup says of itself: the cut, and of each store what it held and in which objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from jts_storage.backup.errors import DamagedBackup
from jts_storage.errors import InvalidConfiguration

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a table, collection, database or lake: one object.

    :param name: for people, and of files their path.
    :param key: what tells, before it is read, that a later backup needs no new object for it.
    :param object: SHA-256 of the object as it is stored, by which it is found.
    :param raw: bytes before compression.
    :param stored: bytes of the object.
    :param rows: how many rows, documents or files are in it.
    :param content: SHA-256 of it before compression.
    :param figures: the object with the fingerprints of its series, if it has any.
    """

    name: str
    key: str
    object: str
    raw: int
    stored: int
    rows: int
    content: str
    figures: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """A table, a collection, a database file or the lake.

    :param kind: ``"parts"`` or ``"rows"`` of ClickHouse, ``"bson"``, ``"sqlite"``, ``"copy"`` of
        PostgreSQL, or ``"files"``.
    :param fingerprint: of all that is in it.
    :param details: what else it takes to make it anew.
    """

    name: str
    kind: str
    rows: int
    fingerprint: str
    pieces: tuple[Piece, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """What a backup holds of one store.

    :param engine: its name and version.
    :param revisions: the migrations that its schema was at, by chain; empty where there are none.
    """

    engine: str
    revisions: Mapping[str, str]
    contents: tuple[Contents, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup.

    :param version: the commit up to which it holds all.
    :param cut_at: when that was, by MongoDB's clock.
    :param waited_seconds: how long new commits had to wait for it.
    :param kit: the release that wrote it.
    """

    id: str
    created_at: datetime
    version: int
    cut_at: datetime
    waited_seconds: float
    kit: str
    stores: Mapping[str, StoreCopy]
    note: str = ""

    @property
    def pieces(self) -> Iterator[Piece]:
        for store in self.stores.values():
            for contents in store.contents:
                yield from contents.pieces

    @property
    def objects(self) -> dict[str, int]:
        """The stored bytes of every object that it needs; -1 where only the object knows them."""
        found: dict[str, int] = {}
        for piece in self.pieces:
            found[piece.object] = piece.stored
            if piece.figures is not None:
                found.setdefault(piece.figures, -1)
        return found

    @property
    def size_bytes(self) -> int:
        return sum(size for size in self.objects.values() if size > 0)

    def contents(self, store: str, name: str) -> Contents | None:
        """What it holds under a name of a store; None if nothing."""
        found = self.stores[store].contents if store in self.stores else ()
        return next((each for each in found if each.name == name), None)

    def to_json(self) -> bytes:
        plain = asdict(self) | {"format": FORMAT}
        for name in ("created_at", "cut_at"):
            plain[name] = plain[name].isoformat()
        return json.dumps(plain, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """:raises DamagedBackup: it is no manifest."""
        try:
            plain = json.loads(text)
            written = plain.pop("format")
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DamagedBackup("its manifest cannot be read") from exc
        if not isinstance(written, int) or written > FORMAT:
            raise InvalidConfiguration(
                f"a backup has a manifest of format {written}",
                remedy="A later release of jts_storage wrote it: use that.",
            )
        try:
            return cls(
                **plain
                | {name: datetime.fromisoformat(plain[name]) for name in ("created_at", "cut_at")}
                | {"stores": {name: _store(each) for name, each in plain["stores"].items()}}
            )
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DamagedBackup("its manifest lacks what a manifest has") from exc


def _store(plain: dict[str, Any]) -> StoreCopy:
    return StoreCopy(plain["engine"], plain["revisions"], tuple(map(_contents, plain["contents"])))


def _contents(plain: dict[str, Any]) -> Contents:
    pieces = tuple(Piece(**each) for each in plain["pieces"])
    return Contents(**plain | {"pieces": pieces})
