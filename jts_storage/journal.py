"""What a commit over several stores has decided, until every store has it.

An entry is written in the MongoDB transaction of its commit: that transaction is the decision.
What is large, the staged columns, is written before it in chunks that mean nothing without the
entry. Whoever finishes an entry holds its lease; finishing is idempotent all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from bson import Binary, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from jts_storage.domain import checks
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.processes import may_be_alive, this_process
from jts_storage.staged_work import (
    CHUNK_BYTES,
    Chunk,
    Kind,
    StagedWork,
    decode,
    decode_rows,
    encode,
    key_from_plain,
    key_to_plain,
)
from jts_storage.tasks import stopped

ENTRIES = "uow_journal"
CHUNKS = "uow_journal_chunks"

LEASE = timedelta(seconds=60)
ABANDONED_AFTER = timedelta(hours=1)
"""Chunks without an entry are from a commit that was never decided; older ones are purged."""

_RELEASE_SECONDS = 1.0
_CHUNKS_AT_ONCE = 1_000
_MOST_NAMES = 10_000
_EVERYTHING = "*"

log = logging.getLogger(__name__)

_in_hand: set[ObjectId] = set()
"""The entries that this process is finishing, whichever storage of it does."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decided commit: its id, the version of its candles, and when it was decided.

    :param chunks: how many it has.
    """

    id: ObjectId
    version: int
    decided_at: datetime
    chunks: int

    @classmethod
    def of(cls, found: Bson) -> Entry:
        return cls(found["_id"], found["version"], found["decidedAt"], found["chunks"])


class Journal:
    """The entries of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self._owner = this_process()

    async def prepare(self, identity: ObjectId, work: StagedWork) -> int:
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
    ) -> None:
        """Write the entry in the transaction of the commit.

        :param names: of what it changes in stores that cannot tell an earlier commit from a later.
        """
        entry: Bson = {
            "_id": identity,
            "version": version,
            "chunks": chunks,
            "touches": list(names) if len(names) <= _MOST_NAMES else [_EVERYTHING],
            "decidedAt": checks.now(),
        } | self._lease()
        await self._manager.retries.once(
            "deciding a commit", lambda: self._entries.insert_one(entry, session=session)
        )

    async def is_decided(self, identity: ObjectId) -> bool:
        """Whether its entry is there, and with a majority, so that it stays."""
        entries = self._entries.with_options(read_concern=ReadConcern("majority"))
        found = await self._manager.retries.repeat(
            "looking for a decision", lambda: entries.find_one({"_id": identity}, {"_id": 1})
        )
        return found is not None

    async def done(self, identity: ObjectId) -> None:
        """Forget an entry that every store has, and what belongs to it."""
        await self._manager.retries.repeat(
            "finishing a commit", lambda: self._entries.delete_one({"_id": identity})
        )
        await self.discard(identity)

    async def discard(self, identity: ObjectId) -> None:
        await self._manager.retries.repeat(
            "dropping journal chunks", lambda: self._chunks.delete_many({"entry": identity})
        )

    async def is_awaited(self, names: set[str]) -> bool:
        """Whether a decided commit, which is not finished yet, is to change any of these."""
        if not names:
            return False
        several = {"$in": [*names, _EVERYTHING]} if len(names) <= _MOST_NAMES else {"$ne": []}
        found = await self._manager.retries.repeat(
            "looking for unfinished commits",
            lambda: self._entries.find_one({"touches": several}, {"_id": 1}),
        )
        return found is not None

    @asynccontextmanager
    async def held(self, identity: ObjectId) -> AsyncIterator[None]:
        """Within it the entry is this process's to finish, however long that takes."""
        _in_hand.add(identity)
        renewing = asyncio.create_task(self._renew(identity))
        try:
            yield
        except StorageError:
            await self._release(identity)
            raise
        finally:
            _in_hand.discard(identity)
            await stopped(renewing)

    @asynccontextmanager
    async def claimed(self, *, besides: Container[ObjectId] = ()) -> AsyncIterator[Entry | None]:
        """The oldest entry that nobody alive is finishing, held; None if there is none.

        :param besides: entries to pass over.
        """
        entry = await self._claim(besides)
        if entry is None:
            yield None
            return
        async with self.held(entry.id):
            yield entry

    async def load(self, entry: Entry) -> StagedWork | None:
        """What is to be stored of an entry, but for the rows of its series; None if somebody else
        has finished it meanwhile.
        """
        found = await self._manager.retries.repeat(
            "reading a journal entry", lambda: self._chunks.count_documents({"entry": entry.id})
        )
        if found != entry.chunks:
            if not await self.is_decided(entry.id):
                return None
            raise StorageError(
                f"Commit {entry.id} cannot be finished: of its {entry.chunks} chunks in {CHUNKS}, "
                f"{found} are there.",
                remedy=f"Bring the others back from a backup, or remove its entry from {ENTRIES}.",
            )
        described = [bytes(chunk["data"]) async for chunk in self._chunks_of(entry, kind="work")]
        return decode(b"".join(described))

    async def series(
        self, entry: Entry, kind: Literal["candles", "bars"]
    ) -> AsyncIterator[CandleSeries]:
        """The rows of an entry, one chunk after the other."""
        async for chunk in self._chunks_of(entry, kind=kind):
            yield decode_rows(key_from_plain(chunk["key"]), bytes(chunk["data"]))

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
        """Every decided commit that is not finished, oldest first."""
        return [Entry.of(found) for found in await self._unfinished()]

    async def unfinished_versions(self) -> set[int]:
        """The versions of the commits that are decided, but not finished."""
        found = await self._manager.retries.repeat(
            "reading the journal", lambda: self._entries.distinct("version")
        )
        return set(found)

    async def purge(self) -> int:
        """Drop chunks of commits that were never decided; how many."""
        before = ObjectId.from_datetime(checks.now() - ABANDONED_AFTER)
        decided = [entry.id for entry in await self.pending()]
        result = await self._manager.retries.repeat(
            "purging the journal",
            lambda: self._chunks.delete_many({"entry": {"$lt": before, "$nin": decided}}),
        )
        return result.deleted_count

    async def _unfinished(self) -> list[Bson]:
        return await self._manager.retries.repeat(
            "reading the journal", lambda: self._entries.find().sort("_id", 1).to_list()
        )

    async def _claim(self, besides: Container[ObjectId]) -> Entry | None:
        for candidate in await self._unfinished():
            identity = candidate["_id"]
            if identity in besides or identity in _in_hand or not self._is_abandoned(candidate):
                continue
            # Before the first await, so that no other task of this process takes it too.
            _in_hand.add(identity)
            try:
                if await self._take(candidate):
                    return Entry.of(candidate)
            except BaseException:
                _in_hand.discard(identity)
                raise
            _in_hand.discard(identity)
        return None

    def _is_abandoned(self, entry: Bson) -> bool:
        if entry["owner"] == self._owner:
            return True  # what this process has in hand, it knows without a lease
        return entry["leaseUntil"] <= checks.now() or not may_be_alive(entry["owner"])

    async def _take(self, seen: Bson) -> bool:
        same = {"_id": seen["_id"], "owner": seen["owner"], "leaseUntil": seen["leaseUntil"]}
        taken = await self._manager.retries.once(
            "claiming a commit",
            lambda: self._entries.find_one_and_update(same, {"$set": self._lease()}),
        )
        return taken is not None

    async def _renew(self, identity: ObjectId) -> None:
        mine = {"_id": identity, "owner": self._owner}
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            try:
                await self._manager.retries.once(
                    "renewing a lease",
                    lambda: self._entries.update_one(mine, {"$set": self._lease()}),
                )
            except StorageError:
                log.warning("The lease of a commit was not renewed.", exc_info=True)

    async def _release(self, identity: ObjectId) -> None:
        """Let others finish it at once; if that cannot be told in time, the lease runs out."""
        mine = {"_id": identity, "owner": self._owner}
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._manager.retries.once(
                    "releasing a commit",
                    lambda: self._entries.update_one(mine, {"$set": {"leaseUntil": checks.now()}}),
                )
        except (TimeoutError, StorageError):
            log.info("The lease of a commit that failed was not given back.", exc_info=True)

    def _lease(self) -> Bson:
        return {"owner": self._owner, "leaseUntil": checks.now() + LEASE}

    @property
    def _entries(self) -> Collection:
        return self._manager.get_collection(ENTRIES)

    @property
    def _chunks(self) -> Collection:
        return self._manager.get_collection(CHUNKS)


def _next_of(chunks: Iterator[Chunk]) -> list[Chunk]:
    """What is written at once: one large chunk, or many small ones."""
    together: list[Chunk] = []
    size = 0
    for chunk in chunks:
        together.append(chunk)
        size += len(chunk.data)
        if size >= CHUNK_BYTES or len(together) == _CHUNKS_AT_ONCE:
            break
    return together
