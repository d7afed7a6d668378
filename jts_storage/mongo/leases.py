"""Leases: while one process holds one, no other gets it, unless the holder has died.

They end by the server's clock, since clocks of hosts differ. Here are leases on names, and the
pieces that every other lease in MongoDB is made of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from time import monotonic

from pymongo import ReturnDocument

from jts_storage._runtime.processes import is_gone, new_owner, returned
from jts_storage._runtime.tasks import run_to_the_end, stopped
from jts_storage.errors import StorageError
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager

LEASES = "uow_leases"
DURATION = timedelta(seconds=60)

log = logging.getLogger(__name__)


def from_now(duration: timedelta) -> Bson:
    """That much later than now, by the server's clock."""
    return {"$add": ["$$NOW", duration // timedelta(milliseconds=1)]}


def has_run_out(until: str) -> Bson:
    """Make an expression that is true once a lease has ended by the server's clock, or has no end.

    :param until: where its end is, such as ``"$until"``.
    """
    return {"$lte": [until, "$$NOW"]}


@asynccontextmanager
async def renewing(
    duration: timedelta, renew: Callable[[], Awaitable[object]]
) -> AsyncIterator[None]:
    """Renew a lease of that duration as long as the block runs."""

    async def keep() -> None:
        while True:
            # Early enough that it still holds when one renewal, or two, fails.
            await asyncio.sleep(duration.total_seconds() / 4)
            try:
                await renew()
            except StorageError:
                log.warning("A lease was not renewed.", exc_info=True)

    keeper = asyncio.create_task(keep())
    try:
        yield
    finally:
        await stopped(keeper)


class Leases:
    """Leases on names in one database.

    :param collection: where they are.
    """

    def __init__(self, manager: MongoDBManager, collection: str = LEASES) -> None:
        self._manager = manager
        self._collection = collection

    @asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[Lease | None]:
        """The lease on `name` as long as the block runs; None if somebody holds it."""
        owner = new_owner()
        try:
            # A request that is cancelled may still take the lease, even after it was given back
            # below. So its owner counts as gone in this process, and the next may take it over.
            with returned(owner):
                held = await self._take(name, owner)
        except BaseException:
            await run_to_the_end(self._give_back(name, owner))
            raise
        if held != owner:
            yield None
            return
        try:
            yield Lease(self._manager, self._leases, name, owner)
        finally:
            await run_to_the_end(self._give_back(name, owner))

    async def _give_back(self, name: str, owner: str) -> None:
        with returned(owner):
            await self._manager.retries.repeat(
                "returning a lease",
                lambda: self._leases.delete_one({"_id": name, "owner": owner}),
            )

    async def holder(self, name: str) -> str | None:
        """Return who holds the lease on `name`; None if nobody does."""
        found = await self._manager.retries.repeat(
            "looking for a lease", lambda: self._leases.find_one({"_id": name})
        )
        return str(found["owner"]) if found else None

    async def end(self, name: str) -> datetime | None:
        """Return when the lease on `name` runs out unless it is renewed; None if nobody has it."""
        found = await self._manager.retries.repeat(
            "looking for a lease", lambda: self._leases.find_one({"_id": name})
        )
        return found["until"] if found else None

    async def held(self) -> set[str]:
        """The names on which a process that may be alive has a lease."""
        wanted = {"$expr": {"$not": [_HAS_RUN_OUT]}}
        found = await self._manager.retries.repeat(
            "looking for leases", lambda: self._leases.find(wanted).to_list()
        )
        return {each["_id"] for each in found if not is_gone(each["owner"])}

    async def purge(self) -> int:
        """Forget the leases that have run out; how many."""
        result = await self._manager.retries.repeat(
            "purging leases", lambda: self._leases.delete_many({"$expr": _HAS_RUN_OUT})
        )
        return result.deleted_count

    async def _take(self, name: str, owner: str) -> str:
        held = await self._claim(name, owner)
        if held != owner and is_gone(held):
            held = await self._claim(name, owner, instead_of=held)
        return held

    async def _claim(self, name: str, owner: str, *, instead_of: str | None = None) -> str:
        """Take the lease where it is free, has run out or is held by `instead_of`.

        Returns who holds it now.
        """
        is_free = {"$or": [_HAS_RUN_OUT, {"$eq": ["$owner", {"$literal": instead_of}]}]}
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
        return self._manager.get_collection(self._collection)


class Lease:
    """A lease on a name that is held."""

    def __init__(self, manager: MongoDBManager, leases: Collection, name: str, owner: str) -> None:
        self._manager = manager
        self._leases = leases
        self._mine = {"_id": name, "owner": owner}
        self._renewed_at = monotonic()

    async def renewed(self) -> bool:
        """Renew the lease when less than half of it is left; False if another holds it now."""
        now = monotonic()
        if now - self._renewed_at < DURATION.total_seconds() / 2:
            return True
        result = await self._manager.retries.repeat(
            "renewing a lease",
            lambda: self._leases.update_one(self._mine, [{"$set": {"until": from_now(DURATION)}}]),
        )
        if result.matched_count:
            self._renewed_at = now
        return bool(result.matched_count)


_HAS_RUN_OUT = has_run_out("$until")
