"""Leases on names: while one process holds one, no other gets it, unless the holder has died.

They end by the server's clock: no host's clock says when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from uuid import uuid4

from pymongo import ReturnDocument

from jts_storage._runtime.processes import may_be_alive, this_process
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager

LEASES = "uow_leases"
DURATION = timedelta(seconds=60)
HAS_RUN_OUT: Bson = {"$lte": ["$until", "$$NOW"]}


class Leases:
    """The leases of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager

    @asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[Lease | None]:
        """The lease on `name` as long as the block runs; None if somebody holds it."""
        owner = f"{uuid4().hex}@{this_process()}"
        if not await self._take(name, owner):
            yield None
            return
        try:
            yield Lease(self._manager, name, owner)
        finally:
            await self._manager.retries.repeat(
                "returning a lease",
                lambda: self._leases.delete_one({"_id": name, "owner": owner}),
            )

    async def purge(self) -> int:
        """Forget the leases that have run out; how many."""
        result = await self._manager.retries.repeat(
            "purging leases", lambda: self._leases.delete_many({"$expr": HAS_RUN_OUT})
        )
        return result.deleted_count

    async def _take(self, name: str, owner: str) -> bool:
        held = await self._claim(name, owner)
        if held != owner and not may_be_alive(held.partition("@")[2]):
            held = await self._claim(name, owner, instead_of=held)
        return held == owner

    async def _claim(self, name: str, owner: str, *, instead_of: str | None = None) -> str:
        """Take the lease where it is free, has run out or is held by `instead_of`.

        Returns who holds it now.
        """
        # One that is not there yet has run out, too: what is missing sorts before every date.
        is_free = {"$or": [HAS_RUN_OUT, {"$eq": ["$owner", {"$literal": instead_of}]}]}
        change = [
            {
                "$set": {
                    "owner": {"$cond": [is_free, {"$literal": owner}, "$owner"]},
                    "until": {"$cond": [is_free, from_now(DURATION), "$until"]},
                }
            }
        ]
        found = await self._manager.retries.repeat(
            "taking a lease",
            lambda: self._leases.find_one_and_update(
                {"_id": name}, change, upsert=True, return_document=ReturnDocument.AFTER
            ),
        )
        assert found is not None
        return str(found["owner"])

    @property
    def _leases(self) -> Collection:
        return self._manager.get_collection(LEASES)


class Lease:
    """A lease that is held."""

    def __init__(self, manager: MongoDBManager, name: str, owner: str) -> None:
        self._manager = manager
        self._mine = {"_id": name, "owner": owner}
        self._renewed_at = monotonic()

    async def renewed(self) -> bool:
        """Renew the lease when less than half of it is left; False if another holds it now."""
        now = monotonic()
        if now - self._renewed_at < DURATION.total_seconds() / 2:
            return True
        leases = self._manager.get_collection(LEASES)
        result = await self._manager.retries.repeat(
            "renewing a lease",
            lambda: leases.update_one(self._mine, [{"$set": {"until": from_now(DURATION)}}]),
        )
        self._renewed_at = now
        return bool(result.matched_count)


def from_now(duration: timedelta) -> Bson:
    """That much later than now, by the server's clock."""
    return {"$add": ["$$NOW", duration // timedelta(milliseconds=1)]}
