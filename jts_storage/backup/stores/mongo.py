"""MongoDB: a snapshot session, and documents byte by byte.

Documents are read in the order of their ids and cut where an id says so, not where a number of them
is reached: what is inserted or deleted changes the piece it is in, and no other.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from bson import BSON, CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from jts_storage.backup.copying import Copies
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Contents, Piece, StoreCopy
from jts_storage.backup.repository import BackupRepository
from jts_storage.mongo.errors import translate
from jts_storage.mongo.leases import LEASES
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.unit_of_work.announced_clock import CACHE
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.deliveries import CONSUMERS, Deliveries
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.fence import Cut, Fence
from jts_storage.unit_of_work.listed import CLOCK_ID
from jts_storage.unit_of_work.outbox import EVENTS

NAME: Final = "mongo"
_LEFT_OUT: Final = frozenset({LEASES, CONSUMERS, CACHE, "jts_schema_lock"})
"""Leases of living processes, of which whoever restores has none, and what its cache is called."""

_RAW: Final[CodecOptions[Any]] = CodecOptions(document_class=RawBSONDocument)
_LEAST_BYTES, _MOST_BYTES = 256 << 10, 4 << 20
_BATCH: Final = 1_000
_MARKS: Final = 0x3F
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT32: Final = 4


class MongoBackup:
    """A `StoreBackup` of the database of one manager."""

    name = NAME

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self._session: AsyncClientSession | None = None
        self._collections: list[dict[str, Any]] = []
        self._engine = ""

    async def prepare(self) -> None:
        self._collections = await collections_of(self._manager)
        info = await self._manager.client.server_info()
        self._engine = f"MongoDB {info['version']}"
        self._session = self._manager.client.start_session(snapshot=True)

    async def pin(self) -> None:
        """`pin_at` does it: it has to see which moment it gets."""

    async def pin_at(self, fence: Fence, cut: Cut) -> None:
        assert self._session is not None
        await fence.pin(self._session, cut)

    async def copy(self, copies: Copies) -> StoreCopy:
        contents = [await self._copied(each, copies) for each in self._collections]
        return StoreCopy(self._engine, {}, tuple(contents))

    async def release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.end_session()

    async def _copied(self, described: dict[str, Any], copies: Copies) -> Contents:
        name = described["name"]
        pieces: list[Piece] = []
        whole, count = hashlib.sha256(), 0
        async for documents in pieces_in(self._manager, name, self._session):
            data = b"".join(documents)
            whole.update(data)
            count += len(documents)
            key = hashlib.sha256(data).hexdigest()
            first = f"{name}/{len(pieces)}"
            pieces.append(
                await copies.piece(NAME, name, first, key, partial(_as_list, data), len(documents))
            )
        details = {"options": described["options"], "indexes": described["indexes"]}
        return Contents(name, "bson", count, whole.hexdigest(), tuple(pieces), details)


async def collections_of(manager: MongoDBManager) -> list[dict[str, Any]]:
    """The collections with their options and indexes, in BSON as text, by name."""
    found = []
    try:
        async for each in await manager.db.list_collections():
            name = each["name"]
            if each["type"] != "collection" or name.startswith("system.") or name in _LEFT_OUT:
                continue
            indexes = await (await manager.get_collection(name).list_indexes()).to_list()
            plain = [_hex(dict(index)) for index in indexes if index["name"] != "_id_"]
            found.append({"name": name, "options": _hex(each["options"]), "indexes": plain})
    except PyMongoError as exc:
        raise translate(exc, doing="listing collections", hosts=manager.hosts) from exc
    return sorted(found, key=lambda each: str(each["name"]))


async def pieces_in(
    manager: MongoDBManager, name: str, session: AsyncClientSession | None = None
) -> AsyncIterator[list[bytes]]:
    """The documents of a collection in the order of their ids, some megabytes at a time."""
    collection: Any = manager.get_collection(name).with_options(codec_options=_RAW)
    waiting: list[bytes] = []
    size = 0
    try:
        cursor = collection.find({}, session=session, sort=[("_id", 1)], hint="_id_")
        async with cursor:
            while batch := await cursor.to_list(_BATCH):
                for document in batch:
                    raw = bytes(document.raw)
                    waiting.append(raw)
                    size += len(raw)
                    if size >= _MOST_BYTES or (size >= _LEAST_BYTES and _is_mark(raw)):
                        yield waiting
                        waiting, size = [], 0
    except PyMongoError as exc:
        raise translate(exc, doing=f"copying {name}", hosts=manager.hosts) from exc
    if waiting:
        yield waiting


def _is_mark(raw: bytes) -> bool:
    """Whether a piece ends behind a document: as its first field says, which is the id."""
    return zlib.crc32(raw[_INT32 : _INT32 + 17]) & _MARKS == 0


def documents_of(frames: Iterable[bytes]) -> Iterator[RawBSONDocument]:
    """:raises DamagedBackup: there is something else."""
    waiting = bytearray()
    for frame in frames:
        waiting += frame
        at = 0
        while len(waiting) - at >= _INT32:
            length = int.from_bytes(waiting[at : at + _INT32], "little")
            if length <= _INT32:
                raise DamagedBackup("a document has an impossible length")
            if len(waiting) - at < length:
                break
            yield RawBSONDocument(bytes(waiting[at : at + length]))
            at += length
        del waiting[:at]
    if waiting:
        raise DamagedBackup("a document is cut off")


class MongoRestore:
    """Fills the database of a manager from a backup."""

    def __init__(self, manager: MongoDBManager, repository: BackupRepository) -> None:
        self._manager, self._repository = manager, repository

    async def fill(self, copy: StoreCopy) -> None:
        """Make every collection as it was; those that are there are dropped first."""
        for contents in copy.contents:
            await self.fill_one(contents, contents.name)

    async def fill_one(self, contents: Contents, name: str) -> None:
        db, details = self._manager.db, contents.details
        try:
            await db.drop_collection(name)
            await db.create_collection(name, **_unhex(details["options"]))
            collection: Any = self._manager.get_collection(name).with_options(codec_options=_RAW)
            for piece in contents.pieces:
                await self._insert(collection, piece)
            indexes = [_unhex(each) for each in details["indexes"]]
            if indexes:
                await db.command({"createIndexes": name, "indexes": [_index(i) for i in indexes]})
        except PyMongoError as exc:
            raise translate(exc, doing=f"restoring {name}", hosts=self._manager.hosts) from exc

    async def _insert(self, collection: Any, piece: Piece) -> None:
        documents = documents_of(self._repository.read(piece.object))
        while batch := await asyncio.to_thread(_next_of, documents):
            await collection.insert_many(batch, ordered=False, bypass_document_validation=True)

    async def differing(self, copy: StoreCopy) -> list[str]:
        """What is stored otherwise than the backup says."""
        faults = []
        for contents in copy.contents:
            whole, count = hashlib.sha256(), 0
            async for documents in pieces_in(self._manager, contents.name):
                count += len(documents)
                for each in documents:
                    whole.update(each)
            if count != contents.rows:
                faults.append(
                    f"collection {contents.name} has {count} documents instead of {contents.rows}"
                )
            elif whole.hexdigest() != contents.fingerprint:
                faults.append(f"the documents of collection {contents.name} are others")
        return faults

    async def settle(self, *, parks_events: bool = True) -> None:
        """Forget what processes that are gone were doing when the backup was made.

        :param parks_events: events that waited may have been delivered since: keep them back.
        """
        db = self._manager.db
        ended = {"leaseUntil": _LONG_AGO}
        try:
            await db[CLOCK].update_one(
                {"_id": CLOCK_ID},
                {"$set": {"running": []}, "$unset": {"fence": "", "fencedAt": ""}},
            )
            await db[ENTRIES].update_many({}, {"$set": ended})
            if parks_events:
                await db[EVENTS].update_many({"isParked": False}, {"$set": {"isParked": True}})
                await Deliveries(self._manager).park_all()
        except PyMongoError as exc:
            raise translate(exc, doing="settling", hosts=self._manager.hosts) from exc

    async def is_empty(self, names: Sequence[str]) -> bool:
        """Whether none of these collections has a document."""
        for name in names:
            if await self._manager.get_collection(name).find_one({}, {"_id": 1}) is not None:
                return False
        return True


def _next_of(documents: Iterator[RawBSONDocument]) -> list[RawBSONDocument]:
    batch = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            break
    return batch


def _as_list(data: bytes) -> list[bytes]:
    return [data]


def _index(described: dict[str, Any]) -> dict[str, Any]:
    # Servers before 4.4 name the collection in it, and refuse that when they are told so.
    return {name: value for name, value in described.items() if name != "ns"}


def _hex(document: dict[str, Any]) -> str:
    return bytes(BSON.encode(document)).hex()


def _unhex(text: str) -> dict[str, Any]:
    try:
        return dict(BSON(bytes.fromhex(text)).decode())
    except (BSONError, ValueError) as exc:
        raise DamagedBackup("the options of a collection cannot be read") from exc
