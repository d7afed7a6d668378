"""What a commit over several stores has decided, until every store has it.

An entry is written in the MongoDB transaction of its commit: that transaction is the decision.
What is large, the staged columns, is written before it in chunks that mean nothing without the
entry. Whoever finishes an entry holds its lease; finishing is idempotent all the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from bson import Binary, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.domain import checks
from jts_storage.domain.series import CandleSeries
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.staged_work import (
    Kind,
    StagedWork,
    decode,
    decode_rows,
    encode,
    key_from_plain,
    key_to_plain,
)

ENTRIES = "uow_journal"
CHUNKS = "uow_journal_chunks"

LEASE = timedelta(seconds=60)
ABANDONED_AFTER = timedelta(hours=1)
"""Chunks without an entry are from a commit that was never decided; older ones are purged."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decided commit: its id, the version of its candles, and when it was decided."""

    id: ObjectId
    version: int
    decided_at: datetime


class Journal:
    """The entries of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self._owner = owner_of_this_process()

    async def prepare(self, identity: ObjectId, work: StagedWork) -> int:
        """Write the chunks of a commit that is not decided yet, one by one; how many they are."""
        number = 0
        for number, chunk in enumerate(encode(work), start=1):
            document: Bson = {
                "entry": identity,
                "n": number,
                "kind": chunk.kind,
                "key": chunk.key and key_to_plain(chunk.key),
                "data": Binary(chunk.data),
            }
            write = partial(self._chunks.insert_one, document)
            await self._manager.retries.once("preparing a commit", write)
        return number

    async def decide(
        self, identity: ObjectId, version: int, chunks: int, session: AsyncClientSession
    ) -> None:
        """Write the entry in the transaction of the commit."""
        entry: Bson = {
            "_id": identity,
            "version": version,
            "chunks": chunks,
            "decidedAt": checks.now(),
            "owner": self._owner,
            "leaseUntil": checks.now() + LEASE,
        }
        await self._manager.retries.once(
            "deciding a commit", lambda: self._entries.insert_one(entry, session=session)
        )

    async def is_decided(self, identity: ObjectId) -> bool:
        found = await self._manager.retries.repeat(
            "looking for a decision", lambda: self._entries.find_one({"_id": identity}, {"_id": 1})
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

    async def claim(self) -> Entry | None:
        """Take the lease of the oldest entry that nobody alive is finishing."""
        for candidate in await self._unfinished():
            if candidate["leaseUntil"] > checks.now() and is_alive(candidate["owner"]):
                continue
            if await self._take(candidate):
                return Entry(candidate["_id"], candidate["version"], candidate["decidedAt"])
        return None

    async def load(self, entry: Entry) -> StagedWork:
        """What is left to be stored of an entry, but for the rows of its series."""
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
        return [
            Entry(found["_id"], found["version"], found["decidedAt"])
            for found in await self._unfinished()
        ]

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

    async def _take(self, seen: Bson) -> bool:
        mine = {"owner": self._owner, "leaseUntil": checks.now() + LEASE}
        same = {"_id": seen["_id"], "owner": seen["owner"], "leaseUntil": seen["leaseUntil"]}
        taken = await self._manager.retries.once(
            "claiming a commit", lambda: self._entries.find_one_and_update(same, {"$set": mine})
        )
        return taken is not None

    @property
    def _entries(self) -> Collection:
        return self._manager.get_collection(ENTRIES)

    @property
    def _chunks(self) -> Collection:
        return self._manager.get_collection(CHUNKS)


def owner_of_this_process() -> str:
    """Host, process and its start, so that a process of a reused number is not taken for it."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Whether that process may still be running; of other hosts nothing is known, so they may."""
    host, pid, started = owner.rsplit("/", 2)
    return host != socket.gethostname() or _started(int(pid)) == started


def _started(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
