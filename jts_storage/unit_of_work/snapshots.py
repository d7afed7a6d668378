"""Snapshots in MongoDB: a document for each name, with the version that it stands for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from typing import Any

from bson import Int64

from jts_storage.domain import checks
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import Page
from jts_storage.domain.snapshot import Snapshot, new_name
from jts_storage.errors import Conflict, NotFound, StorageError
from jts_storage.mongo.manager import Bson, Collection
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.place import written_under

SNAPSHOTS = "snapshots"


class StoredSnapshots:
    """The `SnapshotStore` of one set of stores.

    :param began: since which version history is kept; None if none is.
    """

    def __init__(self, stores: Stores, began: Callable[[], Awaitable[int | None]]) -> None:
        self._stores, self._began = stores, began

    async def create(self, name: str, *, note: str = "") -> Snapshot:
        new_name(name)
        checks.text(note, "note")
        if not self._stores.candles.keeps_history or await self._began() is None:
            raise StorageError(
                f"A snapshot {name!r} would show nothing: no history is kept.",
                remedy="Set JTS_HISTORY=true, apply the migrations, and open the storage again.",
            )
        async with self._stores.clock.place() as place:
            # Later commits have higher versions; whoever reads waits for the earlier ones.
            snapshot = Snapshot(name, Commit(written_under(place)), checks.now(), note)
            await self._insert(snapshot)
        return snapshot

    async def get(self, name: str) -> Snapshot:
        checks.name(name, "name")
        found = await self._repeat("reading", lambda: self._names.find_one({"_id": name}))
        if found is None:
            raise no_snapshot(name)
        return _snapshot(found)

    async def versions(self) -> dict[str, int]:
        """Those whose history has to be kept, by name."""
        found = await self._repeat(
            "listing", lambda: self._names.find({}, {"version": 1}).to_list()
        )
        return {each["_id"]: int(each["version"]) for each in found}

    async def names_before(self, version: int, first: int = 0) -> Sequence[str]:
        """The names of those of earlier versions, not before `first`, that can still be read."""
        began = await self._began()
        if began is None:
            return []
        where: Bson = {"version": {"$gte": Int64(max(began, first)), "$lt": Int64(version)}}
        found = await self._repeat("listing", lambda: self._names.find(where, {}).to_list())
        return sorted(each["_id"] for each in found)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Page[Snapshot]:
        checks.whole(limit, "limit", below=2**31)
        where: Bson = {} if after is None else {"_id": {"$gt": checks.name(after, "after")}}

        def find() -> Any:
            return self._names.find(where).sort("_id", 1).limit(limit + 1).to_list()

        found = await self._repeat("listing", find)
        return Page.first(limit, list(map(_snapshot, found)))

    async def delete(self, name: str) -> bool:
        checks.name(name, "name")
        result = await self._repeat("deleting", lambda: self._names.delete_one({"_id": name}))
        return bool(result.deleted_count)

    async def _insert(self, snapshot: Snapshot) -> None:
        document = {
            "version": Int64(snapshot.commit.version),
            "createdAt": snapshot.created_at,
            "note": snapshot.note,
        }
        # An upsert, so that a repetition of it finds what it has stored.
        found = await self._repeat(
            "creating",
            lambda: self._names.find_one_and_update(
                {"_id": snapshot.name},
                {"$setOnInsert": document},
                upsert=True,
                return_document=True,
            ),
        )
        if int(found["version"]) != snapshot.commit.version:
            raise Conflict(
                f"There is a snapshot {snapshot.name!r} already, of {found['createdAt']}.",
                remedy="Choose another name, or delete it first.",
            )

    async def _repeat(self, doing: str, operation: Any) -> Any:
        return await self._stores.mongo.retries.repeat(f"{doing} snapshots", operation)

    @property
    def _names(self) -> Collection:
        return self._stores.mongo.get_collection(SNAPSHOTS)


def no_snapshot(name: str) -> NotFound:
    return NotFound(f"There is no snapshot {name!r}.", remedy="snapshots.list() names them.")


def _snapshot(document: Bson) -> Snapshot:
    created = document["createdAt"].astimezone(UTC)
    return Snapshot(document["_id"], Commit(int(document["version"])), created, document["note"])
