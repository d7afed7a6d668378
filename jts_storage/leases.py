"""Leases on names: while somebody holds one, nobody else gets it, unless the holder has died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from jts_storage.domain import checks
from jts_storage.errors import Conflict
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.processes import may_be_alive, this_process

LEASES = "uow_leases"
DURATION = timedelta(seconds=60)


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
            "purging leases", lambda: self._leases.delete_many({"until": {"$lt": checks.now()}})
        )
        return result.deleted_count

    async def _take(self, name: str, owner: str) -> bool:
        lease: Bson = {"_id": name, "owner": owner, "until": checks.now() + DURATION}
        try:
            await self._manager.retries.once(
                "taking a lease", lambda: self._leases.insert_one(lease)
            )
        except Conflict:
            return await self._take_over(lease)
        return True

    async def _take_over(self, lease: Bson) -> bool:
        name = {"_id": lease["_id"]}
        held = await self._manager.retries.repeat(
            "reading a lease", lambda: self._leases.find_one(name)
        )
        # One that was returned just now is left for the next time.
        if held is None or (
            held["until"] > checks.now() and may_be_alive(held["owner"].partition("@")[2])
        ):
            return False
        taken = await self._manager.retries.once(
            "taking over a lease",
            lambda: self._leases.find_one_and_replace(name | {"owner": held["owner"]}, lease),
        )
        return taken is not None

    @property
    def _leases(self) -> Collection:
        return self._manager.get_collection(LEASES)


class Lease:
    """A lease that is held."""

    def __init__(self, manager: MongoDBManager, name: str, owner: str) -> None:
        self._manager = manager
        self._mine = {"_id": name, "owner": owner}
        self._until = checks.now() + DURATION

    async def renewed(self) -> bool:
        """Have at least half of its duration left; False if somebody has taken it over."""
        until = checks.now() + DURATION
        if until - self._until < DURATION / 2:
            return True
        leases = self._manager.get_collection(LEASES)
        result = await self._manager.retries.repeat(
            "renewing a lease",
            lambda: leases.update_one(self._mine, {"$set": {"until": until}}),
        )
        self._until = until
        return bool(result.matched_count)
