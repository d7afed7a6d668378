"""What a commit over several stores has decided, until every store has it.

An entry is written in the MongoDB transaction of its commit: that transaction is the decision.
What is large, the staged columns, is written before it in chunks that mean nothing without the
entry. Whoever finishes an entry holds its lease; to finish it twice does no harm all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Literal

import pyarrow as pa
from bson import Binary, Int64, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from jts_storage._runtime.processes import may_be_alive, this_process
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.rows import SeriesRows
from jts_storage.errors import StorageError
from jts_storage.mongo.leases import from_now, renewing
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as MongoCollection
from jts_storage.unit_of_work import entries
from jts_storage.unit_of_work.entries import (
    CHUNKS,
    ENTRIES,
    EVERYTHING,
    Damaged,
    Entry,
    readable,
)
from jts_storage.unit_of_work.journal_format import (
    CHUNK_BYTES,
    Chunk,
    Kind,
    decode,
    decode_rows,
    decode_table,
    encode,
    key_from_plain,
    key_to_plain,
)

LEASE = timedelta(seconds=60)
ABANDONED_AFTER = timedelta(hours=1)
"""Chunks without an entry are of a commit that is not decided. Once they were seen so for this
long, by the server's clock, it never will be: no transaction of MongoDB lives longer.
"""

# A commit that failed must not wait for a MongoDB that is away, only to give its lease back.
_RELEASE_SECONDS = 1.0
_CHUNKS_AT_ONCE = 1_000
# An entry of more names counts as touching everything, so that it fits one document.
_MOST_NAMES = 10_000


log = logging.getLogger(__name__)

_in_hand: set[ObjectId] = set()
"""The entries that this process is finishing, whichever storage of it does."""


class Journal:
    """The entries of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self._owner = this_process()

    async def prepare(self, identity: ObjectId, work: CommitChanges) -> int:
        """Write the chunks of a commit that is not decided yet; how many they are."""
        number = 0
        chunks = encode(work)
        # Compressing takes long enough for a loop to notice.
        while together := await asyncio.to_thread(_next_of, chunks):
            documents = [
                {
                    "entry": identity,
                    "n": number + n,
                    "kind": chunk.kind,
                    "key": chunk.key and key_to_plain(chunk.key),
                    "table": chunk.table,
                    "data": Binary(chunk.data),
                }
                for n, chunk in enumerate(together, start=1)
            ]
            number += len(together)
            write = partial(self._chunks.insert_many, documents)
            await self._manager.retries.once("preparing a commit", write)
        return number

    async def decide(
        self,
        identity: ObjectId,
        version: int,
        chunks: int,
        names: set[str],
        session: AsyncClientSession,
        symbols_version: int | None = None,
        models: Collection[str] = (),
    ) -> None:
        """Write the entry in the transaction of the commit.

        :param names: of what it changes, for those who have to come after it.
        :param models: the declared tables that it writes, without which nobody can finish it.
        :param symbols_version: that of its symbols, if it has any.
        """
        entry = [
            {
                "$set": {
                    "version": version,
                    "symbolsVersion": symbols_version,
                    "models": {"$literal": sorted(models)},
                    "chunks": chunks,
                    "touches": {"$literal": _listed(names)},
                    "decidedAt": "$$NOW",
                    **self._lease(),
                }
            }
        ]
        await self._manager.retries.once(
            "deciding a commit",
            lambda: self._entries.update_one(
                {"_id": identity}, entry, upsert=True, session=session
            ),
        )

    async def is_decided(self, identity: ObjectId) -> bool:
        """Return whether its entry is there, and with a majority, so that it stays."""
        return identity in await self.decided([identity])

    async def decided(self, identities: Collection[ObjectId]) -> set[ObjectId]:
        """Which of these commits are decided, and with a majority, and not finished yet."""
        entries = self._entries.with_options(read_concern=ReadConcern("majority"))
        found = await self._manager.retries.repeat(
            "looking for decisions",
            lambda: entries.find({"_id": {"$in": list(identities)}}, {"_id": 1}).to_list(),
        )
        return {entry["_id"] for entry in found}

    async def is_ours(self, identity: ObjectId) -> bool:
        """Return whether it is still this process that finishes the entry."""
        mine = {"_id": identity, "owner": self._owner, "appendedAs": {"$exists": False}}
        found = await self._manager.retries.repeat(
            "finishing a commit", lambda: self._entries.find_one(mine, {"_id": 1})
        )
        return found is not None

    async def done(self, identity: ObjectId) -> None:
        """Forget an entry that every store has, and its chunks."""
        # In this order: chunks alone are purged later, an entry without its chunks is an error.
        await self._manager.retries.repeat(
            "finishing a commit", lambda: self._entries.delete_one({"_id": identity})
        )
        await self.discard(identity)

    async def discard(self, identity: ObjectId) -> None:
        await self._manager.retries.repeat(
            "dropping journal chunks", lambda: self._chunks.delete_many({"entry": identity})
        )

    async def unfinished(
        self, names: Collection[str] | None, *, before: int | None = None
    ) -> list[ObjectId]:
        """The decided commits that are to change any of these and are not finished yet.

        :param names: None stands for all.
        :param before: only those of a lower version than this.
        """
        if names is not None and not names:
            return []
        wanted: Bson = {} if names is None else {"touches": _any_of(names)}
        if before is not None:
            wanted["version"] = {"$lt": before}
        found = await self._manager.retries.repeat(
            "looking for unfinished commits",
            lambda: self._entries.find(wanted, {"_id": 1}).sort("version", 1).to_list(),
        )
        return [entry["_id"] for entry in found]

    @asynccontextmanager
    async def held(self, identity: ObjectId) -> AsyncIterator[None]:
        """Hold the entry's lease within the block, however long that takes."""
        _in_hand.add(identity)
        try:
            async with renewing(LEASE, lambda: self._renew(identity)):
                yield
        except (StorageError, asyncio.CancelledError):
            await self._release(identity)
            raise
        finally:
            _in_hand.discard(identity)

    @asynccontextmanager
    async def claimed(self, entry: Entry) -> AsyncIterator[bool]:
        """Hold an entry that nobody alive is finishing; False where that is not so."""
        if not self.is_abandoned(entry):
            yield False
            return
        # Before the first await, so that no other task of this process takes it too.
        _in_hand.add(entry.id)
        try:
            taken = await self._take(entry)
        except BaseException:
            _in_hand.discard(entry.id)
            raise
        if not taken:
            _in_hand.discard(entry.id)
            yield False
            return
        async with self.held(entry.id):
            yield True

    async def load(self, entry: Entry) -> CommitChanges | None:
        """The changes of an entry without their rows, which are read chunk by chunk.

        None if another process has finished the entry meanwhile.
        """
        described = [bytes(chunk["data"]) async for chunk in self._chunks_of(entry, kind="work")]
        # Counted after they were read: whoever finishes the entry meanwhile deletes its chunks.
        found = await self._manager.retries.repeat(
            "reading a journal entry", lambda: self._chunks.count_documents({"entry": entry.id})
        )
        if found == entry.chunks:
            return readable(entry, "its work", decode, b"".join(described))
        if not await self.is_decided(entry.id):
            return None
        raise Damaged(
            f"Commit {entry.id} cannot be finished: of its {entry.chunks} chunks in {CHUNKS}, "
            f"{found} are there.",
            remedy=f"Bring the others back from a backup, or remove its entry from {ENTRIES}.",
        )

    async def rows(
        self, entry: Entry, kind: Literal["candles", "bars"]
    ) -> AsyncIterator[SeriesRows]:
        """The rows of an entry, one chunk after the other."""
        async for chunk in self._chunks_of(entry, kind=kind):
            yield readable(entry, f"chunk {chunk['n']}", _rows_of, chunk)

    async def tables(self, entry: Entry) -> AsyncIterator[tuple[str, pa.Table]]:
        """The rows of declared tables of an entry, with the tables' names."""
        async for chunk in self._chunks_of(entry, kind="table"):
            rows = readable(entry, f"chunk {chunk['n']}", decode_table, bytes(chunk["data"]))
            yield chunk["table"], rows

    async def appends_as(self, entry: Entry, version: int) -> list[int]:
        """Note a new version for the rows that the entry appends; return the earlier ones."""
        found = await self._manager.retries.once(
            "finishing a commit",
            lambda: self._entries.find_one_and_update(
                {"_id": entry.id, "owner": self._owner},
                {"$push": {"appendedAs": Int64(version)}},
                projection={"appendedAs": 1},
            ),
        )
        if found is None:
            raise StorageError(
                f"Another process is finishing commit {entry.id}.", remedy="Wait for it."
            )
        return [entry.version + 1, *found.get("appendedAs", ())]

    async def _chunks_of(self, entry: Entry, kind: Kind) -> AsyncIterator[Bson]:
        after = 0
        while True:
            wanted = {"entry": entry.id, "kind": kind, "n": {"$gt": after}}
            read = partial(self._chunks.find_one, wanted, sort=[("n", 1)])
            chunk = await self._manager.retries.repeat("reading a journal entry", read)
            if chunk is None:
                return
            yield chunk
            after = chunk["n"]

    async def pending(self) -> list[Entry]:
        """The decided commits that are not finished yet, in the order of their versions."""

        async def read() -> list[Bson]:
            return await (await self._entries.aggregate(entries.PENDING)).to_list()

        found = await self._manager.retries.repeat("reading the journal", read)
        return list(map(entries.entry_of, found))

    async def unfinished_versions(self) -> set[int]:
        """The versions of the commits that are decided, but not finished."""
        found = await self._manager.retries.repeat(
            "reading the journal", lambda: self._entries.distinct("version")
        )
        return {version for version in found if isinstance(version, int)}

    async def latest_version(self) -> int:
        """The highest version of a decided commit that is not finished; 0 if there is none."""
        return max(await self.unfinished_versions(), default=0)

    async def latest_symbols_version(self) -> int:
        """The highest version of symbols that are decided, but not finished; 0 if none is."""
        found = await self.pending()
        # An entry of an earlier release stores them under the version after its own.
        versions = (entry.symbols_version or entry.version + 1 for entry in found)
        return max(versions, default=0)

    async def purge(self) -> int:
        """Drop chunks of commits that were never decided; how many.

        What is found without an entry is marked with the server's time, and dropped when it is
        found so again much later.
        """
        decided = [entry.id for entry in await self.pending()]
        undecided: Bson = {"entry": {"$nin": decided}}
        is_old = {"$lte": ["$seenAt", from_now(-ABANDONED_AFTER)]}
        result = await self._manager.retries.repeat(
            "purging the journal",
            lambda: self._chunks.delete_many(
                {**undecided, "seenAt": {"$exists": True}, "$expr": is_old}
            ),
        )
        await self._manager.retries.repeat(
            "marking journal chunks",
            lambda: self._chunks.update_many(
                {**undecided, "seenAt": {"$exists": False}}, {"$currentDate": {"seenAt": True}}
            ),
        )
        return result.deleted_count

    def is_abandoned(self, entry: Entry) -> bool:
        """Return whether nobody alive is finishing the entry."""
        if entry.id in _in_hand:
            return False
        if entry.owner == self._owner:
            return True  # what this process has in hand, it knows without a lease
        return entry.has_run_out or not may_be_alive(entry.owner)

    async def _take(self, seen: Entry) -> bool:
        # Only as it was listed: of two processes that want it, the second finds it changed.
        same = {"_id": seen.id, "owner": seen.owner, "leaseUntil": seen.lease_until}
        taken = await self._manager.retries.once(
            "claiming a commit",
            lambda: self._entries.find_one_and_update(same, [{"$set": self._lease()}]),
        )
        return taken is not None

    async def _renew(self, identity: ObjectId) -> None:
        mine = {"_id": identity, "owner": self._owner}
        await self._manager.retries.once(
            "renewing a lease", lambda: self._entries.update_one(mine, [{"$set": self._lease()}])
        )

    async def _release(self, identity: ObjectId) -> None:
        """Let others finish it at once; if MongoDB does not answer in time, the lease runs out."""
        mine = {"_id": identity, "owner": self._owner}
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._manager.retries.once(
                    "releasing a commit",
                    lambda: self._entries.update_one(mine, {"$currentDate": {"leaseUntil": True}}),
                )
        except (TimeoutError, StorageError):
            log.info("The lease of a commit that failed was not given back.", exc_info=True)

    def _lease(self) -> Bson:
        return {"owner": {"$literal": self._owner}, "leaseUntil": from_now(LEASE)}

    @property
    def _entries(self) -> MongoCollection:
        return self._manager.get_collection(ENTRIES)

    @property
    def _chunks(self) -> MongoCollection:
        return self._manager.get_collection(CHUNKS)


def _rows_of(chunk: Bson) -> SeriesRows:
    key = chunk["key"] and key_from_plain(chunk["key"])
    return decode_rows(key, bytes(chunk["data"]))


def _listed(names: set[str]) -> list[str]:
    return sorted(names) if len(names) <= _MOST_NAMES else [EVERYTHING]


def _any_of(names: Collection[str]) -> Bson:
    return {"$in": [*names, EVERYTHING]} if len(names) <= _MOST_NAMES else {"$ne": []}


def _next_of(chunks: Iterator[Chunk]) -> list[Chunk]:
    """Return what is written at once: one large chunk, or many small ones."""
    together: list[Chunk] = []
    size = 0
    for chunk in chunks:
        together.append(chunk)
        size += len(chunk.data)
        if size >= CHUNK_BYTES or len(together) == _CHUNKS_AT_ONCE:
            break
    return together
