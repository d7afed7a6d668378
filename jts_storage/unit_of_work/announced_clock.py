"""A commit clock that says what commits write, and what is kept of that in MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from bson import ObjectId
from pymongo import ReturnDocument

from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as MongoCollection
from jts_storage.unit_of_work.announcing import Announcer
from jts_storage.unit_of_work.clock import VERSIONS, CommitClock
from jts_storage.unit_of_work.place import Place

CACHE: Final = "uow_cache"
_ID: Final = "cache"
MOST_NOTES: Final = 100


class AnnouncedClock(CommitClock):
    """Every commit and every import takes its place here, whatever stores it writes to and how:
    candles and symbols are written nowhere else but in recovery, which announces itself.

    :param announcer: told before a place is taken, and again before the commit is acknowledged.
    """

    def __init__(
        self,
        manager: MongoDBManager,
        stored: Callable[[], Awaitable[int]],
        symbols_decided: Callable[[], Awaitable[int]] | None,
        announcer: Announcer,
    ) -> None:
        super().__init__(manager, stored, symbols_decided)
        self._announcer = announcer

    @asynccontextmanager
    async def place(
        self,
        *,
        symbols_above: int | None = None,
        versions: int = VERSIONS,
        event_keys: Collection[str] = (),
        series: Collection[str] | None = (),
        identity: ObjectId | None = None,
        lands: bool = True,
        unit: Bson | None = None,
        behind: Callable[[Coroutine[Any, Any, object]], None] | None = None,
    ) -> AsyncIterator[Place]:
        named = None if series is None else tuple(series)
        async with (
            self._announcer.writing(named, symbols=symbols_above is not None),
            super().place(
                symbols_above=symbols_above,
                versions=versions,
                event_keys=event_keys,
                series=named,
                identity=identity,
                lands=lands,
                unit=unit,
                behind=behind,
            ) as place,
        ):
            yield place


class StoredNotes:
    """The `Notes` of a storage, and what tells it from others, in one document.

    Nothing is repeated: whoever asks can do without.
    """

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager

    async def identity(self) -> str:
        """A text that every process that has these stores finds, and no other."""
        named = [{"$set": {"identity": {"$ifNull": ["$identity", uuid4().hex]}}}]
        found: Bson | None = await self._manager.retries.once(
            "asking what the cache is called",
            lambda: self._cache.find_one_and_update(
                {"_id": _ID},
                named,
                projection={"identity": 1},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            ),
        )
        assert found is not None, "it is made if it is not there"
        return f"{found['identity']}:{self._manager.config.database}"

    async def add(self, names: Sequence[str], everything: Sequence[str]) -> None:
        identity = ObjectId()
        note = {"id": identity, "names": sorted(names)}
        kept = {"$ifNull": ["$notes", []]}
        # Written again, it is one note; and while Redis is away for days, they do not pile up.
        is_another = {"$ne": ["$$this.names", {"$literal": note["names"]}]}
        others = {"$filter": {"input": kept, "cond": is_another}}
        all_of_them = {"id": identity, "names": list(everything)}
        is_many = {"$gte": [{"$size": others}, MOST_NOTES]}
        with_it = {"$concatArrays": [others, [{"$literal": note}]]}
        notes = {"$cond": [is_many, [{"$literal": all_of_them}], with_it]}
        await self._manager.retries.once(
            "noting what the cache was not told",
            lambda: self._cache.update_one({"_id": _ID}, [{"$set": {"notes": notes}}], upsert=True),
        )

    async def replace(self, names: Sequence[str]) -> None:
        """Note names that stand for all others; harmless where no cache was ever turned on."""
        note = {"id": ObjectId(), "names": list(names)}
        await self._manager.retries.once(
            "noting what the cache was not told",
            lambda: self._cache.update_one({"_id": _ID}, {"$set": {"notes": [note]}}),
        )

    async def all(self) -> dict[Any, list[str]]:
        found = await self._manager.retries.once(
            "reading what the cache was not told",
            lambda: self._cache.find_one({"_id": _ID}, {"notes": 1}),
        )
        return {each["id"]: each["names"] for each in (found or {}).get("notes", ())}

    async def remove(self, notes: Collection[Any]) -> None:
        gone = {"$pull": {"notes": {"id": {"$in": list(notes)}}}}
        await self._manager.retries.once(
            "forgetting what the cache was told", lambda: self._cache.update_one({"_id": _ID}, gone)
        )

    @property
    def _cache(self) -> MongoCollection:
        return self._manager.get_collection(CACHE)
